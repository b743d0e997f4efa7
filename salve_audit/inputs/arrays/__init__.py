"""Audits without a model: activations, labels and a head in a file of arrays (.npz, .safetensors)."""

from salve_audit.inputs.arrays.arrayset import ArraySet, ArraySplit, load_arrays
from salve_audit.inputs.arrays.files import is_array_file

__all__ = ["ArraySet", "ArraySplit", "is_array_file", "load_arrays"]
