"""Arrays of numpy and configurations of OmegaConf in a file that was read around its objects, as plain values."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

DTYPE = re.compile(r"[<>|=]?([biufUS]\d{1,5}|O8?)")
MOST, DEEPEST = 100_000, 8
ARRAY, SCALAR = "._reconstruct", "multiarray.scalar"
CONFIGURATION = "omegaconf."
READ = (CONFIGURATION, "typing.", "numpy.ndarray", "numpy.dtype")
TYPES = tuple(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in ("list", "int", "long", "str"))
CONTENT, NODE = "_content", "_val"  # of a dictionary or a list of OmegaConf, and of a value in it


def restore_arrays(value: Any) -> Any:
    """`value` with arrays and numbers of numpy and nodes of OmegaConf as plain values; all else as it is."""
    return _restore(value, 0, {})


def is_read(name: str) -> bool:
    """True for a class or function of what `restore_arrays` reads."""
    return name.startswith(READ) or name.endswith((ARRAY, SCALAR)) or name in TYPES


def _restore(value: Any, depth: int, memo: dict[int, Any]) -> Any:
    """See `restore_arrays`; what is met again, or within itself, is not gone through again."""
    is_object = isinstance(getattr(value, "arguments", None), tuple)
    if depth > DEEPEST or not (is_object or type(value) in (list, tuple, dict)):
        return value
    if id(value) in memo:
        return memo[id(value)]
    memo[id(value)] = value
    if is_object:
        restored = _restore_object(value, depth, memo)
    elif type(value) is dict:
        restored = {_restore(key, depth + 1, memo): _restore(item, depth + 1, memo) for key, item in value.items()}
    elif len(value) <= MOST:
        restored = type(value)(_restore(item, depth + 1, memo) for item in value)
    else:
        restored = value
    memo[id(value)] = restored
    return restored


def _restore_object(value: Any, depth: int, memo: dict[int, Any]) -> Any:
    if value.name.endswith(ARRAY) and isinstance(value.state, tuple) and len(value.state) == 5:
        _, shape, dtype, is_fortran, data = value.state
        restored = _read_array(shape, dtype, data, bool(is_fortran))
        return value if restored is None else restored
    if value.name.endswith(SCALAR) and len(value.arguments) == 2:
        dtype, data = value.arguments
        restored = _read_array((), dtype, data, False)
        return value if restored is None else restored
    if value.name.startswith(CONFIGURATION):
        held = next((value.attributes[name] for name in (CONTENT, NODE) if name in value.attributes), value)
        return value if held is value else _restore(held, depth if type(held) in (dict, list) else depth + 1, memo)
    if isinstance(value.attributes, Mapping):
        value.attributes = {key: _restore(item, depth + 1, memo) for key, item in value.attributes.items()}
    return value


def _read_array(shape: Any, dtype: Any, data: Any, is_fortran: bool) -> Any:
    """Nested lists, or one value for the shape ``()``; None for what is no plain array."""
    kind = _name_dtype(dtype)
    if kind is None or not isinstance(shape, tuple) or not all(type(side) is int and side >= 0 for side in shape):
        return None
    n = math.prod(shape)
    if n > MOST or len(shape) > DEEPEST:
        return None
    if isinstance(data, list):
        array = np.empty(n, object)
        if len(data) != n:
            return None
        array[:] = data
    elif isinstance(data, bytes) and "O" not in kind and len(data) == n * np.dtype(kind).itemsize:
        array = np.frombuffer(data, np.dtype(kind))
    else:
        return None
    try:
        return array.reshape(shape, order="F" if is_fortran else "C").tolist()
    except ValueError:  # texts that are no code points
        return None


def _name_dtype(dtype: Any) -> str | None:
    """``<U3`` of a dtype that was not made."""
    arguments, state = getattr(dtype, "arguments", ()), getattr(dtype, "state", None)
    name = arguments[0] if arguments else getattr(dtype, "str", None)
    if not isinstance(name, str) or not DTYPE.fullmatch(name):
        return None
    order = state[1] if isinstance(state, tuple) and len(state) > 1 and state[1] in ("<", ">") else ""
    return f"{order}{name.lstrip('<>|=')}"
