"""Audits without a model: activations, labels and a head in a file of arrays (.npz, .safetensors)."""
