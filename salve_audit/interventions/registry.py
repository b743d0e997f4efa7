"""Every method as one record. All other modules read from here what a method is called, needs and counts as.

A new method is a function in a file of its own and a record in this one. The function takes an `EditContext` to an
`Intervention`, or to None where it has nothing to act on. It is named as text and imported on first use, so that the
command line, the configuration, the gate and the report read this module without numpy or torch.
"""

from __future__ import annotations

import enum
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from salve_audit.interventions.affine import Intervention
    from salve_audit.interventions.context import EditContext

_HERE = "salve_audit.interventions"


class Role(enum.Enum):
    """Role of a method in the comparison: the audited edit, another edit to compare it with, or a control."""

    SALVE = "salve"
    RIVAL = "rival"
    NULL = "null"


class Need(enum.Enum):
    """Part of its context that a method reads beside the head."""

    CLASS = "class"  # which class it edits
    FEATURE = "feature"  # a latent's dictionary row
    CODES = "codes"  # the latent's mean code on the class's images
    ACTIVATIONS = "activations"  # of the fit split; the audit's own files do not hold them
    KEY = "key"  # the activation of one image, a free choice


@dataclass(frozen=True)
class Method:
    """One kind of edit.

    Attributes:
        key: its name on the command line and in audit.json.
        label: its name for readers.
        blurb: what it does, in one sentence.
        builder: ``module:function`` from an `EditContext` to the edit; empty: not an edit of the head.
        needs: what it reads of the context.
        role: in comparison, ranking and charts.
        editable: ``salve-audit edit`` may write it into a checkpoint.
        yardstick: the trivial edit that any other must beat to be worth its cost; one method has it.
        beside: deep edits are measured beside it on the same images; it needs no activations.
        coupled: piecewise linear in its strength: every strength needs the whole head on all images again.
        enhancer: ``module:function`` of the edit that strengthens; empty: its own at a negative strength.
    """

    key: str
    label: str
    blurb: str
    builder: str = ""
    needs: frozenset[Need] = frozenset()
    role: Role = Role.RIVAL
    editable: bool = True
    yardstick: bool = False
    beside: bool = False
    coupled: bool = False
    enhancer: str = ""

    def __post_init__(self) -> None:
        assert not (self.beside and not self.without_activations), f"{self.key}: no activations beside deep edits"
        assert not (self.coupled and self.editable and not self.enhancer), f"{self.key} cannot enhance"

    @property
    def featured(self) -> bool:
        """True if it acts on a latent; the spread over the autoencoder's seeds is then reported."""
        return Need.FEATURE in self.needs

    @property
    def keyed(self) -> bool:
        """True if it depends on the choice of a key; the spread over keys is then reported."""
        return Need.KEY in self.needs

    @property
    def without_class(self) -> bool:
        """True if the feature alone says what it does."""
        return Need.CLASS not in self.needs

    @property
    def without_activations(self) -> bool:
        """True if the audit's own files hold all that it needs."""
        return not self.needs & {Need.ACTIVATIONS, Need.KEY}

    def build(self, context: EditContext) -> Intervention | None:
        """The edit in this context; None where it has nothing to act on."""
        return _load(self.builder)(context)

    def build_enhancement(self, context: EditContext) -> Intervention | None:
        """The edit that strengthens, where the method has one of its own."""
        return _load(self.enhancer)(context)


def _load(path: str) -> Callable[[EditContext], Intervention | None]:
    module, _, function = path.partition(":")
    loaded: Callable[[EditContext], Intervention | None] = getattr(importlib.import_module(module), function)
    return loaded


_FITTED = frozenset({Need.CLASS, Need.ACTIVATIONS})
_KEYED = _FITTED | {Need.KEY}
_FEATURE = frozenset({Need.FEATURE})

SALVE = Method(
    "salve",
    "SALVE",
    "W diag(s(α)) for the dominant feature.",
    f"{_HERE}.salve:suppress",
    _FEATURE,
    role=Role.SALVE,
    beside=True,
    coupled=True,
    enhancer=f"{_HERE}.salve:enhance",
)
STEERING = Method(
    "steering",
    "activation steering",
    "a + βv along the class's directions, folded into the bias.",
    f"{_HERE}.steering:steer",
    frozenset({Need.CLASS, Need.FEATURE, Need.CODES}),
    beside=True,
)
ROME = Method(
    "rome",
    "ROME",
    "A rank-one edit at the activation of one image. Its spread over ten keys is reported.",
    f"{_HERE}.rome:rome",
    _KEYED,
)
ROME_PAPER = Method(
    "rome-paper",
    "ROME, paper's code",
    "ROME with the bias added twice, as the paper's listing does.",
    f"{_HERE}.rome:rome_paper",
    _KEYED,
)
ROME_COV = Method(
    "rome-cov",
    "ROME, covariance",
    "ROME with the inverse second moment of the fit split.",
    f"{_HERE}.rome:rome_cov",
    _KEYED,
)
ABLATION = Method(
    "ablation",
    "directional ablation",
    "W(I − t d dᵀ) with the feature's unit direction d.",
    f"{_HERE}.ablation:ablate",
    _FEATURE,
)
LEACE = Method(
    "leace",
    "LEACE",
    "Linear erasure of class against rest, interpolated by t.",
    f"{_HERE}.leace:erase",
    _FITTED,
)
INLP = Method(
    "inlp",
    "INLP",
    "Iterative nullspace projection: W(I − t B Bᵀ), where the orthonormal columns of B are the normals of classifiers "
    "of class against rest, each fitted after the ones before are projected out, as long as they beat chance on a "
    "held-out fifth of the fit split.",
    f"{_HERE}.inlp:project_out",
    _FITTED,
)
MEAN_DIFFERENCE = Method(
    "mean-difference",
    "mean-difference steering",
    "a − t(mean of the class − mean of the rest), folded into the bias.",
    f"{_HERE}.mean_difference:steer_by_means",
    _FITTED,
)
RETRAINING = Method(
    "last-layer-retraining",
    "last-layer retraining",
    "The head refitted by ridge regression to the fit split with the class's images relabelled to their best rival, "
    "interpolated by t. It uses labels and every image of the split.",
    f"{_HERE}.retraining:retrain",
    _FITTED,
)
YARDSTICK = Method(
    "row-scaling",
    "row scaling (trivial)",
    "The class's row and bias times 1 − t: the trivial edit.",
    f"{_HERE}.row_scaling:scale_row",
    frozenset({Need.CLASS}),
    yardstick=True,
    beside=True,
)
NULL_PERMUTED = Method(
    "null-permuted",
    "null: permuted",
    "SALVE with a permuted coupling.",
    f"{_HERE}.nulls:suppress_permuted",
    _FEATURE,
    role=Role.NULL,
    editable=False,
    coupled=True,
)
NULL_RANDOM = Method(
    "null-random",
    "null: random feature",
    "SALVE with a random feature.",
    f"{_HERE}.nulls:suppress_random",
    _FEATURE,
    role=Role.NULL,
    editable=False,
    coupled=True,
)

# Edits of the layers before the head: `interventions.deep` makes them.
LAST_BLOCK = Method(
    "deep-last-block",
    "deep, last block",
    "The feature projected out of what the layers of the last block write.",
    needs=_FEATURE,
)
ALL_WRITERS = Method(
    "deep-all-writers",
    "deep, all writers",
    "The feature projected out of what all layers write into the sum that the head reads.",
    needs=_FEATURE,
)

# What the stress tests measure methods against.
REMOVED = Method(
    "output-removed", "output removed (yardstick)", "The outputs of the edited classes never win.", editable=False
)
UNEDITED = Method("unedited", "no edit: other classes' images", "The head as it is.", editable=False)

_COMPARED = (
    SALVE,
    STEERING,
    ROME,
    ROME_PAPER,
    ROME_COV,
    ABLATION,
    LEACE,
    INLP,
    MEAN_DIFFERENCE,
    RETRAINING,
    YARDSTICK,
    NULL_PERMUTED,
    NULL_RANDOM,
)
_METHODS = {method.key: method for method in _COMPARED}
METHODS: Mapping[str, Method] = MappingProxyType(_METHODS)  # edits of the head, in the order of the comparison
DEEP_METHODS: Mapping[str, Method] = MappingProxyType({method.key: method for method in (LAST_BLOCK, ALL_WRITERS)})
REFERENCES: Mapping[str, Method] = MappingProxyType({method.key: method for method in (REMOVED, UNEDITED)})


def editable_methods() -> Mapping[str, Method]:
    """Methods that ``salve-audit edit`` can write: edits of the head, then deep ones."""
    return {key: method for key, method in {**METHODS, **DEEP_METHODS}.items() if method.editable}


def is_null(key: str) -> bool:
    """True for a control, which nobody would use as a method."""
    return key in METHODS and METHODS[key].role is Role.NULL


def label_method(key: str) -> str:
    """The name for readers; the key itself where this version knows no such method."""
    method = {**METHODS, **DEEP_METHODS, **REFERENCES}.get(key)
    return key if method is None else method.label
