"""A result as people work with it: one class by name, tables, a notebook's view, the files beside it."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from salve_audit.errors import ResultError, UsageError
from salve_audit.results.classes import ClassReliance
from salve_audit.results.companions import SAMPLES, Companions
from salve_audit.results.plain_text import plain

if TYPE_CHECKING:
    import pandas as pd

    from salve_audit.results.audit import AuditResult

FORMATS = ("html", "pdf", "json")
SHOWN = 3  # classes in a repr
COMPANIONS = "_companions"  # beside the fields: it is no part of audit.json, and of no comparison


class ResultView:
    """What `AuditResult` offers beside its fields."""

    classes: tuple[ClassReliance, ...]

    def __getitem__(self, name: str) -> ClassReliance:
        """The record of a class.

        Raises:
            UsageError: no such class was audited; names the nearest.
        """
        found = next((record for record in self.classes if record.name == name), None)
        if found is None:
            names = [record.name for record in self.classes]
            near = get_close_matches(str(name), names, n=3) or names[:3]
            raise UsageError(repr(name), "is no class with audit images", hint=f"nearest: {', '.join(near)}")
        return found

    def __contains__(self, name: object) -> bool:
        return any(record.name == name for record in self.classes)

    def __iter__(self) -> Iterator[ClassReliance]:
        return iter(self.classes)

    @property
    def samples(self) -> pd.DataFrame:
        """One row per audit image: path, label, prediction, margin, thresholds (docs/audit-json.md).

        Raises:
            ResultError: samples.parquet is not at hand.
        """
        import pandas as pd

        return pd.read_parquet(io.BytesIO(self.read_file(SAMPLES)))

    def read_file(self, file: str) -> bytes:
        """The content of a file beside audit.json, such as ``sae.safetensors``.

        Raises:
            ResultError: it is not at hand.
        """
        return self._companions.read(file)

    def save(self, folder: str | Path, format: str | Sequence[str] = FORMATS) -> Path:
        """Writes the same folder as the command line, all or nothing; returns it.

        Args:
            folder: is made; files of an earlier audit in it are replaced.
            format: what is rendered, out of ``html``, ``pdf`` and ``json``; audit.json is always written.

        Raises:
            UsageError: an unknown format.
            OutputError: the folder cannot be written.
        """
        formats = (format,) if isinstance(format, str) else tuple(format)
        unknown = next((name for name in formats if name not in FORMATS), None)
        if unknown is not None:
            raise UsageError("format", f"{unknown!r} is not one of {', '.join(FORMATS)}")
        self._companions.save(cast("AuditResult", self), Path(folder), formats)
        return Path(folder)

    @property
    def _companions(self) -> Companions:
        companions = vars(self).get(COMPANIONS)
        if companions is None:
            why = "is an audit.json alone, the files beside it are not at hand"
            raise ResultError("this result", why, hint="load_audit(FOLDER), or the result that an audit returned")
        return cast(Companions, companions)

    def to_frame(self) -> pd.DataFrame:
        """A pandas table with one row per class, by name; shares in 0..1, NaN where there is no number."""
        import pandas as pd

        return pd.DataFrame([_to_row(record) for record in self.classes]).set_index("class")

    def __repr__(self) -> str:
        result = cast("AuditResult", self)
        n, n_correct = result.counts
        name, accuracy = plain(result.model.name), f"{n_correct / n:.1%}" if n else "no images"
        lines = [f"<AuditResult of {name}: {len(self.classes)} classes, {n} images, accuracy {accuracy}>"]
        ranked = rank_classes(self.classes)
        lines += [f"  {_in_words(record)}" for record in ranked[:SHOWN]]
        more = len(ranked) - SHOWN
        lines += [
            f"  and {more} more; verdict: {result.verdict.word}" if more > 0 else f"  verdict: {result.verdict.word}"
        ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """A small table with bars, for notebooks."""
        from salve_audit.results.notebook import render_result

        return render_result(cast("AuditResult", self))


def attach(result: AuditResult, companions: Companions) -> AuditResult:
    """The same result, which finds the files beside it from now on."""
    vars(result)[COMPANIONS] = companions
    return result


def companions_of(result: ResultView) -> Companions | None:
    """The files beside a result; None: they are not at hand."""
    return cast("Companions | None", vars(result).get(COMPANIONS))


def rank_classes(classes: Sequence[ClassReliance]) -> list[ClassReliance]:
    """The classes that depend most on one thing in the image first, then those that flip first."""

    def key(record: ClassReliance) -> tuple[float, float, int]:
        reliance, median = record.image_reliance, record.alpha_hat.flip.median
        return (
            -(reliance.reliance if reliance is not None else -1.0),
            float("inf") if median is None else median,
            record.index,
        )

    return sorted(classes, key=key)


def _in_words(record: ClassReliance) -> str:
    reliance, median = record.image_reliance, record.alpha_hat.flip.median
    words = [f"{plain(record.name)}: accuracy {record.accuracy:.0%}"]
    if reliance is not None:
        kind = f", {reliance.kind}" if reliance.kind else ""
        words.append(f"image reliance {reliance.reliance:.0%} ({reliance.low:.0%} to {reliance.high:.0%}{kind})")
    words.append("not flipped at the head" if median is None else f"flips at alpha_hat {median:.3g}")
    return ", ".join(words)


def _to_row(record: ClassReliance) -> dict[str, Any]:
    flip, reliance, nan = record.alpha_hat.flip, record.image_reliance, float("nan")
    low, high = record.judged_interval
    return {
        "class": record.name,
        "n": record.n,
        "accuracy": record.accuracy,
        "accuracy_low": record.accuracy_low,
        "accuracy_high": record.accuracy_high,
        "image_reliance": nan if reliance is None else reliance.reliance,
        "image_reliance_low": nan if reliance is None else reliance.low,
        "image_reliance_high": nan if reliance is None else reliance.high,
        "kind": None if reliance is None else reliance.kind,
        "redundancy": nan if reliance is None or reliance.redundancy is None else reliance.redundancy,
        "alpha_hat": nan if flip.median is None else flip.median,
        "alpha_hat_low": nan if low is None else low,
        "alpha_hat_high": nan if high is None else high,
        "dominant_feature": record.dominant_feature,
        "stable": record.stable,
        "flags": ", ".join(record.flags),
    }
