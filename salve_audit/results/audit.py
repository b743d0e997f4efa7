"""The whole result, and audit.json both ways."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, field
from pathlib import Path

from salve_audit.errors import ResultError, UsageError
from salve_audit.results.autoencoder import SaeInfo
from salve_audit.results.classes import ClassReliance
from salve_audit.results.companions import FolderCompanions
from salve_audit.results.consistency import check_consistency
from salve_audit.results.data_check import DataCheck
from salve_audit.results.deep import DeepComparison
from salve_audit.results.demo import DemoTruth
from salve_audit.results.digest import join_flat, seal
from salve_audit.results.evidence import Concept, EvidenceInfo
from salve_audit.results.features import FeatureInfo
from salve_audit.results.methods import InterventionResult, MethodSpread, MethodSummary
from salve_audit.results.schema import from_dict, to_dict
from salve_audit.results.seeing import Seeing
from salve_audit.results.stress import Stress
from salve_audit.results.subject import DataInfo, ModelInfo, Provenance
from salve_audit.results.suppression import Suppression
from salve_audit.results.upgrade import SCHEMA_VERSION, upgrade
from salve_audit.results.verdict import Verdict
from salve_audit.results.view import ResultView, attach

MANY_CLASSES = 200  # beyond which audit.json is written with care for its size


@dataclass(frozen=True, repr=False)
class AuditResult(ResultView):
    """Everything an audit found, key by key as in audit.json.

    ``result["castle"]`` is the record of a class, ``to_frame()`` the table of all, ``samples`` the table of images,
    ``save(folder)`` writes what the command line writes; notebooks show a small table.

    >>> import salve_audit
    >>> result = salve_audit.load_audit("salve-report")
    >>> result["castle"].n, "castle" in result, len(result.samples)
    (32, True, 96)
    >>> float(result.to_frame().loc["castle", "accuracy"]) == result["castle"].accuracy
    True
    """

    tool_version: str
    created: str  # ISO 8601, UTC
    seed: int
    provenance: Provenance
    model: ModelInfo
    data: DataInfo
    sae: SaeInfo
    classes: tuple[ClassReliance, ...]  # those with audit samples
    features: tuple[FeatureInfo, ...]
    interventions: tuple[InterventionResult, ...]
    intervention_spread: tuple[MethodSpread, ...]
    verdict: Verdict
    intervention_summary: tuple[MethodSummary, ...] = ()
    notes: tuple[str, ...] = ()  # findings and warnings in plain words, unflattering ones included
    distrust: tuple[int, ...] | None = None  # places of notes after which no number means anything; None: see `notes`
    demo: DemoTruth | None = None
    stress: Stress | None = None  # enhancement, composition, recovery; None: an earlier version wrote this
    deep_edits: DeepComparison | None = None  # edits of the layers before the head; None: not asked for
    seeing: Seeing | None = None  # images and heat maps; None: an earlier version wrote this
    evidence: EvidenceInfo | None = None  # how image reliance was measured; None: an earlier version wrote this
    concepts: tuple[Concept, ...] = ()  # what was found in the image
    data_check: DataCheck | None = None  # the images without the model; None: an earlier version wrote this
    suppression: Suppression | None = None  # predictions under suppression; None: an earlier version, or too many
    digest: str | None = field(default=None, compare=False)  # over all but this and `created`; see results.digest
    schema_version: int = field(default=SCHEMA_VERSION)

    @functools.cached_property
    def counts(self) -> tuple[int, int]:
        """Audit images of all classes, and how many of them are classified correctly."""
        return sum(part.n for part in self.classes), sum(part.n_correct for part in self.classes)

    @functools.cached_property
    def concepts_by_class(self) -> dict[str, tuple[Concept, ...]]:
        """The concepts of each class that has some, in their order."""
        own: dict[str, list[Concept]] = {}
        for concept in self.concepts:
            own.setdefault(concept.class_name, []).append(concept)
        return {name: tuple(concepts) for name, concepts in own.items()}

    def to_json(self) -> str:
        """The text of audit.json: sorted keys, finite numbers, a digest over them, a newline at the end."""
        text = seal(to_dict(self))
        return text if len(self.classes) <= MANY_CLASSES else join_flat(text)


def parse_audit(text: str, source: str = "audit.json") -> AuditResult:
    """The result in the text of an audit.json of the present version or an earlier one.

    Raises:
        ResultError: not JSON, a newer or unknown schema version, or a field that does not fit; names `source`.
    """
    try:
        value = upgrade(json.loads(text))
        result = from_dict(AuditResult, value)
        check_consistency(value)
        return result
    except json.JSONDecodeError as error:
        raise ResultError(source, f"not JSON ({error})") from error
    except ResultError as error:
        raise ResultError(source, str(error), hint="was it written by another version of salve-audit?") from error


def load_audit(path: str | Path) -> AuditResult:
    """The result saved in `path`, an audit.json or the folder that holds one; needs no torch.

    Raises:
        ResultError: there is no such file or it does not fit the schema.
        UsageError: `path` is no path.

    >>> import salve_audit
    >>> salve_audit.load_audit("salve-report").schema_version
    2
    """
    if not isinstance(path, (str, Path)):
        raise UsageError("load_audit", f"expected a path, got {type(path).__name__}")
    file = find_audit(path)
    return attach(parse_audit(read_audit_text(file), str(file)), FolderCompanions(file))


def find_audit(path: str | Path) -> Path:
    """The audit.json that `path`, the file or its folder, stands for."""
    file = Path(path)
    return file / "audit.json" if file.is_dir() else file


def read_audit_text(file: Path) -> str:
    """The text of an audit.json.

    Raises:
        ResultError: there is no such file, or it is no text.
    """
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ResultError(str(file), reason or "cannot be read") from error
