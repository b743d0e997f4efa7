"""sae.safetensors: all that is needed to encode new activations, and where the autoencoder came from.

Tensors: dictionary (m, d), encoder_weight (m, d), encoder_bias (m,), decoder_bias (d,) and, for codes with thresholds,
threshold (m,), float32. Metadata (strings): variant, hyperparameters (JSON), tool_version, format, the hashes that the
caller gives, and for codes that are not linear their activation (and k).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load, save

from salve_audit import __version__
from salve_audit.errors import ResultError
from salve_audit.sae.activation import describe_activation, find_activation_misfit, read_activation
from salve_audit.sae.models import TENSORS, TrainedSae, find_misfit
from salve_audit.sae.variants import VARIANTS

FORMAT = "salve-audit sae 1"


def serialise_sae(sae: TrainedSae, hashes: Mapping[str, str] | None = None) -> bytes:
    """The bytes of the file; the same autoencoder and hashes give the same bytes.

    Args:
        sae: what to store.
        hashes: for instance ``{"model_sha256": ..., "data_sha256": ...}``; no key of the metadata above.
    """
    metadata = {
        "format": FORMAT,
        "variant": sae.variant,
        "hyperparameters": json.dumps(dict(sae.hyperparameters), sort_keys=True),
        "tool_version": __version__,
        **describe_activation(sae.activation),
    }
    clash = {*metadata, "activation", "k"} & set(hashes or {})
    assert not clash, f"hashes use the reserved keys {sorted(clash)}"
    arrays = {name: getattr(sae, name) for name in TENSORS}
    if sae.activation.threshold is not None:
        arrays["threshold"] = sae.activation.threshold
    return with_sorted_header(save(arrays, {**metadata, **(hashes or {})}))


def read_sae(path: str | Path) -> TrainedSae:
    """The autoencoder in a file of the bytes that `serialise_sae` makes, bit for bit.

    Raises:
        ResultError: there is no such file, or it is no autoencoder of this tool.
    """
    metadata, arrays = _read(Path(path))
    return _make(metadata, arrays, path)


def parse_sae(content: bytes, name: str) -> TrainedSae:
    """The autoencoder in the bytes that `serialise_sae` makes; `name` is for messages.

    Raises:
        ResultError: it is no autoencoder of this tool.
    """
    try:
        (length,) = struct.unpack_from("<Q", content)
        metadata = json.loads(content[8 : 8 + length]).get("__metadata__") or {}
        arrays = load(content)
    except (SafetensorError, ValueError, struct.error) as error:
        raise ResultError(name, f"not a safetensors file ({error})") from error
    return _make(metadata, arrays, name)


def _make(metadata: Mapping[str, str], arrays: dict[str, np.ndarray], path: str | Path) -> TrainedSae:
    variant = metadata.get("variant", "")
    if metadata.get("format") != FORMAT:
        raise ResultError(str(path), f"not an autoencoder of salve-audit (format {metadata.get('format')!r})")
    if variant not in VARIANTS:
        raise ResultError(str(path), f"unknown variant {variant!r}", hint="was it written by a later version?")
    activation = read_activation(metadata, arrays)
    misfit = find_misfit(arrays) or find_activation_misfit(activation, len(arrays["dictionary"]))
    if misfit:
        raise ResultError(str(path), misfit)
    try:
        hyperparameters = json.loads(metadata.get("hyperparameters", "{}"))
    except json.JSONDecodeError as error:
        raise ResultError(str(path), f"its hyperparameters are no JSON ({error})") from error
    tensors = {name: arrays[name] for name in TENSORS}
    return TrainedSae(variant, **tensors, hyperparameters=hyperparameters, activation=activation)


def _read(file: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    if not file.is_file():
        raise ResultError(str(file), "no such file")
    try:
        with safe_open(file, framework="numpy") as opened:
            return opened.metadata() or {}, {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except OSError as error:
        raise ResultError(str(file), error.strerror or str(error)) from error
    except SafetensorError as error:
        raise ResultError(str(file), f"not a safetensors file ({error})") from error


def with_sorted_header(data: bytes) -> bytes:
    """The content with the header's keys in order: safetensors shuffles the metadata from run to run."""
    (length,) = struct.unpack_from("<Q", data)
    header = json.dumps(json.loads(data[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # keeps the tensors aligned, as the format asks
    return struct.pack("<Q", len(header)) + header + data[8 + length :]
