"""ONNX files (extra ``[onnx]``): the final layer read from the graph, the pass by onnxruntime."""
