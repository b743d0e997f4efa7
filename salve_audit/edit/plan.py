"""The planned edits: in the user's words, then as outputs and latents of an audit. No torch."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from salve_audit.edit.names import find_class, find_concept, find_feature, near_hint
from salve_audit.errors import UsageError
from salve_audit.inputs.reasons import nearest_names
from salve_audit.interventions.registry import ABLATION, DEEP_METHODS, SALVE, editable_methods
from salve_audit.results import AuditResult

CONCEPT = "concept"  # takes a concept out of what the readers of a layer see; named by --concept, not by --method
KEYS = ("class", "feature", "alpha-hat", "strength", "to-accuracy", "method", "enhance", "concept")
WHOLE = 1.0  # the strength that takes all of a concept out
SPEC_HINT = (
    f"for example class=church,alpha-hat=0.8 or feature=7,method={ABLATION.key},strength=1 or class=church,enhance,..."
)


@dataclass(frozen=True)
class Step:
    """One edit, as asked for.

    Attributes:
        class_name: the class to suppress; None: the feature says it all.
        feature: number (or concept) of the latent; None: the class's dominant one.
        strength: in the method's own unit, as in audit.json; of SALVE that is α̂.
        to_accuracy: the class's accuracy to come down to, in place of a strength.
        method: the key of an editable method, or `CONCEPT`.
        enhance: the other way: ``1 + α c`` of SALVE, the negative strength of the others.
        concept: number of a concept, or the class whose strongest one is meant; where it is given, it says it all.

    Raises:
        UsageError: the parts do not make one edit.
    """

    class_name: str | None = None
    feature: str | None = None
    strength: float | None = None
    to_accuracy: float | None = None
    method: str = SALVE.key
    enhance: bool = False
    concept: str | None = None

    def __post_init__(self) -> None:
        _check_method(self)
        if (self.strength is None) == (self.to_accuracy is None):
            why = "give a strength (--alpha-hat X, --strength X) or --to-accuracy P, and only one of them"
            raise UsageError("edit", why)
        if self.strength is not None and not 0 < self.strength < math.inf:
            raise UsageError("strength", f"{self.strength:g} is not a positive number", hint="--enhance goes up")
        if self.to_accuracy is not None and not 0 <= self.to_accuracy < 1:
            raise UsageError("to-accuracy", f"{self.to_accuracy:g} is not in 0..1")
        if self.to_accuracy is not None and self.enhance:
            raise UsageError("to-accuracy", "says how far to suppress; an enhancement needs a strength")
        if self.to_accuracy is not None and self.class_name is None and self.concept is None:
            raise UsageError("to-accuracy", "of which class?", hint="name it with --class, beside --feature or alone")


def _check_method(step: Step) -> None:
    method = step.method
    if step.concept is not None:
        if step.class_name is not None or step.feature is not None or method != CONCEPT:
            why = "is removed as the audit found it: no class, feature or method goes with it"
            raise UsageError("concept", why, hint="--concept N, and --strength X or --to-accuracy P")
        return
    methods = editable_methods()
    if method not in methods:
        near = nearest_names(method, methods)
        raise UsageError("method", f"{method!r} is not one of {', '.join(methods)}", near_hint(near))
    if step.feature is not None and not methods[method].featured:
        raise UsageError("feature", f"{method} edits a class, whatever its features", hint="leave the feature out")
    if step.class_name is None and step.feature is None:
        raise UsageError("edit", "name what to edit: --class NAME or --feature N")
    if step.class_name is None and not methods[method].without_class:
        raise UsageError("class", f"{method} needs the class that it is to change", hint="--class NAME")


def parse_step(text: str) -> Step:
    """The step in ``class=church,alpha-hat=0.8``; a comma counts only where ``key=`` or ``enhance`` follows.

    Raises:
        UsageError: an unknown key, the same key twice, or a value that is no number.
    """
    values: dict[str, str] = {}
    for part in re.split(r",\s*(?=[a-z-]+\s*=|enhance\s*(?:,|$))", text.strip()):
        key, equals, value = (text.strip() for text in part.partition("="))
        if key not in KEYS or (bool(equals) == (key == "enhance")):
            near = near_hint(nearest_names(key, KEYS)) or SPEC_HINT
            raise UsageError("--edit", f"{part!r} is none of {', '.join(KEYS)}", hint=near)
        if key in values:
            raise UsageError("--edit", f"has {key} twice", hint="one --edit for each edit")
        values[key] = value
    return make_step(
        class_name=values.get("class"),
        feature=values.get("feature"),
        numbers={key: _number(key, values[key]) for key in KEYS[2:5] if key in values},
        method=values.get("method"),
        enhance="enhance" in values,
        concept=values.get("concept"),
    )


def make_step(
    class_name: str | None,
    feature: str | None,
    numbers: dict[str, float],
    method: str | None,
    enhance: bool,
    concept: str | None = None,
) -> Step:
    """The step of options; `numbers` has ``alpha-hat``, ``strength`` and ``to-accuracy`` as far as they are given.

    A concept goes with strength 1 where nothing else is said; other edits with SALVE.

    Raises:
        UsageError: α̂ with a method that has none, or what a `Step` refuses.
    """
    if concept is not None:
        if "alpha-hat" in numbers:
            raise UsageError("alpha-hat", "is SALVE's strength; a concept takes --strength, and 1 removes all of it")
        strength = numbers.get("strength", None if "to-accuracy" in numbers else WHOLE)
        return Step(class_name, feature, strength, numbers.get("to-accuracy"), method or CONCEPT, enhance, concept)
    method = method or SALVE.key
    if "alpha-hat" in numbers and method != SALVE.key and method in editable_methods():
        raise UsageError("alpha-hat", f"is SALVE's strength; {method} takes --strength in its own unit")
    if "alpha-hat" in numbers and "strength" in numbers:
        raise UsageError("alpha-hat", "is SALVE's strength; give it once")
    strength = numbers.get("alpha-hat", numbers.get("strength"))
    return Step(class_name, feature, strength, numbers.get("to-accuracy"), method, enhance)


def _number(key: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError("--edit", f"{key} is {text!r}, expected a number") from None


@dataclass(frozen=True)
class Target:
    """A step with what it names found in an audit.

    Attributes:
        step: as asked for.
        class_index: of the class, or None.
        feature: the latent, or None where the method has none.
        concept: index of the concept, or None; the class is then the one that it was found in.
    """

    step: Step
    class_index: int | None
    feature: int | None
    concept: int | None = None

    def describe(self, classes: Sequence[str]) -> str:
        """The edit in words for the user, without its strength."""
        way = "enhance" if self.step.enhance else "suppress"
        name = None if self.class_index is None else classes[self.class_index]
        if self.concept is not None:
            return (
                f"{self.step.method}: {'enhance' if self.step.enhance else 'remove'} concept {self.concept} (of {name})"
            )
        if self.feature is None:
            return f"{self.step.method}: {way} {name}"
        whose = "" if name is None else f" ({'dominant ' if self.step.feature is None else ''}of {name})"
        return f"{self.step.method}: {way} feature {self.feature}{whose}"


def find_target(step: Step, result: AuditResult, concepts: Sequence[str | None]) -> Target:
    """The class and the latent that `step` names.

    Args:
        step: as asked for.
        result: of the audit.
        concepts: per latent its known concept or None; as many as there are latents.

    Raises:
        UsageError: there is no such class or feature; names the nearest.
    """
    if step.concept is not None:
        concept = find_concept(step.concept, result)
        return Target(step, find_class(result.concepts[concept].class_name, result.data.classes), None, concept)
    index = None if step.class_name is None else find_class(step.class_name, result.data.classes)
    if not editable_methods()[step.method].featured:
        return Target(step, index, None)
    if step.feature is not None:
        return Target(step, index, find_feature(step.feature, result, concepts))
    record = next((class_info for class_info in result.classes if class_info.index == index), None)
    if record is None:
        why = f"{step.class_name!r} had no samples in the audit, so its feature is not known"
        raise UsageError("class", why, hint="name the feature with --feature N")
    return Target(step, index, record.dominant_feature)


@dataclass(frozen=True)
class EditRequest:
    """The request that `run_edit` carries out.

    Attributes:
        model: the checkpoint file or folder that was audited.
        audit: the audit's result folder, or its audit.json.
        out: where the edited checkpoint goes.
        steps: edits, each applied to the head that the one before left.
        data: the images of the audit; None: not at hand.
        classes: the file that mapped classes to outputs by hand, if the audit had one.
        verify: run the edited model over the audit's images before the file appears.
        force: replace what is at `out`.
        arch, head, weights, trust_model: as for the audit; None: the setting of the audit, as far as that runs no code.
        cache, use_cache, batch_size, workers, device, progress: of the passes over the images.
    """

    model: Path
    audit: Path
    out: Path
    steps: tuple[Step, ...]
    batch_size: int | None
    data: Path | None = None
    classes: Path | None = None
    verify: bool = True
    force: bool = False
    arch: str | None = None
    head: str | None = None
    weights: str | None = None
    trust_model: bool = False
    cache: Path | None = None
    use_cache: bool = True
    workers: int | None = None
    device: str = "auto"
    progress: bool = False

    def __post_init__(self) -> None:
        if not self.steps:
            raise UsageError("edit", "nothing to do", hint="--class NAME --alpha-hat X, or --edit SPEC")
        if self.is_deep and len({step.method for step in self.steps}) > 1:
            kind = "removing a concept" if any(step.concept for step in self.steps) else "a deep edit"
            why = f"{kind} goes with others of its own kind only: what comes after it is not what was audited"
            raise UsageError("method", why, hint="audit the edited file, then edit that")

    @property
    def is_deep(self) -> bool:
        """True where the layers before the head are to be edited."""
        return any(step.method in (*DEEP_METHODS, CONCEPT) for step in self.steps)

    def with_defaults(self, arch: str | None, head: str | None, weights: str | None) -> EditRequest:
        """The request with these where it says nothing itself."""
        return dataclasses.replace(
            self, arch=self.arch or arch, head=self.head or head, weights=self.weights or weights
        )
