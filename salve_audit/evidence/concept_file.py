"""concepts.safetensors: concepts as projections, for ``salve-audit edit --concept``.

Tensors: concept.N.directions and concept.N.readout (r, d), float64, for N as in audit.json's ``concepts``; and for
``salve-audit explain`` the classes' statistics of global factors, as `ClassMeans` names them. Metadata
(strings): format, tool_version, layer (the module whose output is projected), concepts (JSON, N to the class that it
was found in), why_absent (empty, or why there are none), and the hashes that the caller gives.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from salve_audit import __version__
from salve_audit.errors import ResultError
from salve_audit.evidence.factors.class_means import ClassMeans, read_class_means
from salve_audit.evidence.projection import ConceptProjection
from salve_audit.evidence.projection_fitting import ConceptProjections
from salve_audit.results import Concept
from salve_audit.sae.files import with_sorted_header

FILE = "concepts.safetensors"
FORMAT = "salve-audit concepts 1"
PARTS = ("directions", "readout")
TOLERANCE = 1e-6  # of readout @ directions.T from the identity


@dataclass(frozen=True)
class SavedProjections:
    """The content of a concepts file.

    Attributes:
        concepts: the projections, or why there are none.
        classes: name of the class that each concept was found in, by index of the concept.
        hashes: of the model, as the audit gave them.
        means: statistics of global factors by class.
    """

    concepts: ConceptProjections
    classes: Mapping[int, str] = field(default_factory=lambda: MappingProxyType({}))
    hashes: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    means: ClassMeans = field(default_factory=ClassMeans)


def serialise_projections(saved: SavedProjections) -> bytes:
    """Serialise to the bytes of the file; equal content gives equal bytes."""
    concepts = saved.concepts
    assert set(saved.classes) == set(concepts.projections), "every concept has a class"
    metadata = {
        "format": FORMAT,
        "tool_version": __version__,
        "layer": concepts.layer,
        "why_absent": concepts.why_absent,
        "concepts": json.dumps({str(index): saved.classes[index] for index in sorted(saved.classes)}),
    }
    clash = set(metadata) & set(saved.hashes)
    assert not clash, f"hashes use the reserved keys {sorted(clash)}"
    arrays = {
        f"concept.{index}.{part}": np.ascontiguousarray(getattr(projection, part), dtype=np.float64)
        for index, projection in sorted(concepts.projections.items())
        for part in PARTS
    }
    return with_sorted_header(save({**arrays, **saved.means.arrays()}, {**metadata, **saved.hashes}))


def serialise_concepts(
    projections: ConceptProjections, concepts: Sequence[Concept], hashes: Mapping[str, str], means: ClassMeans
) -> bytes:
    """Serialise the projections of an audit to the bytes of the file.

    Args:
        projections: of the audit, or why there are none.
        concepts: of the audit, in the order of audit.json; they name the classes.
        hashes: of the model, written into the metadata.
        means: statistics of global factors by class.
    """
    names = {index: concepts[index].class_name for index in projections.projections}
    return serialise_projections(SavedProjections(projections, names, hashes, means))


def load_class_means(path: Path, n_classes: int) -> ClassMeans:
    """The statistics of global factors in a concepts file; nothing where there is no such file or none in it.

    Raises:
        ResultError: the file is damaged.
    """
    return read_class_means(_read(path)[1], n_classes) if path.is_file() else ClassMeans()


def load_projections(path: Path) -> SavedProjections:
    """Load a file that `serialise_projections` made.

    Raises:
        ResultError: there is no such file, or it is damaged or of another kind.
    """
    metadata, arrays = _read(path)
    if metadata.get("format") != FORMAT:
        raise ResultError(str(path), f"holds no concepts of salve-audit (format {metadata.get('format')!r})")
    try:
        classes = {int(index): str(name) for index, name in json.loads(metadata["concepts"]).items()}
        projections = {
            index: ConceptProjection(*(arrays[f"concept.{index}.{part}"] for part in PARTS)) for index in classes
        }
        concepts = ConceptProjections(metadata["layer"], projections, metadata["why_absent"])
    except (KeyError, ValueError, AttributeError) as error:
        raise ResultError(str(path), f"is damaged ({error})") from error
    for index, projection in projections.items():
        _check(path, index, projection)
    hashes = {key: value for key, value in metadata.items() if key.endswith("_sha256")}
    return SavedProjections(concepts, classes, hashes)


def _check(path: Path, index: int, projection: ConceptProjection) -> None:
    """Raise unless the readout reads every direction as itself."""
    directions, readout = projection.directions, projection.readout
    matching = directions.ndim == 2 and directions.shape == readout.shape
    if not matching or not np.allclose(readout @ directions.T, np.eye(projection.rank), atol=TOLERANCE):
        raise ResultError(str(path), f"its concept {index} is no projection")


def _read(file: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    if not file.is_file():
        raise ResultError(str(file), "no such file")
    try:
        with safe_open(file, framework="numpy") as opened:
            names = opened.keys()
            return opened.metadata() or {}, {name: opened.get_tensor(name) for name in names}
    except OSError as error:
        raise ResultError(str(file), error.strerror or str(error)) from error
    except SafetensorError as error:
        raise ResultError(str(file), f"not a safetensors file ({error})") from error
