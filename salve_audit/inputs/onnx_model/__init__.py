"""ONNX files (extra ``[onnx]``): the final layer read from the graph, the pass by onnxruntime."""

from salve_audit.inputs.onnx_model.loading import is_onnx, load_onnx

__all__ = ["is_onnx", "load_onnx"]
