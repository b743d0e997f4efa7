"""One class as a chart, with matplotlib where that is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from salve_audit.errors import UsageError
from salve_audit.results.plain_text import plain

if TYPE_CHECKING:
    from salve_audit.results.classes import ClassReliance


def plot_class(record: ClassReliance, ax: Any = None) -> Any:
    """The accuracy of a class, and of the others, while its dominant feature is suppressed; returns the axes.

    Raises:
        UsageError: matplotlib is not installed.
    """
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise UsageError("plot", "needs matplotlib", hint="pip install 'salve-audit[plot]'") from error
    ax = pyplot.subplots(figsize=(5.0, 3.2), layout="constrained")[1] if ax is None else ax
    curve, median = record.curve, record.alpha_hat.flip.median
    ax.plot(curve.alpha_hat, curve.accuracy, label=_literal(record.name))
    ax.plot(curve.alpha_hat, curve.others, linestyle="--", label="other classes")
    if median is not None:
        ax.axvline(median, color="grey", linewidth=1)
        ax.annotate(f"half flipped at {median:.3g}", (median, 0.02), rotation=90, va="bottom", ha="right", fontsize=8)
    ax.set_xscale("symlog", linthresh=1)
    ax.set(xlabel="strength α̂ of the suppression", ylabel="accuracy", ylim=(-0.02, 1.02))
    title = f"{_literal(record.name)}: feature {record.dominant_feature}"
    if record.image_reliance is not None:
        title += f", image reliance {record.image_reliance.reliance:.0%}"
    ax.set_title(title, fontsize=10)
    ax.legend(loc="best", fontsize=8)
    return ax


def _literal(name: str) -> str:
    """A name that matplotlib does not take for a formula, nor for one to leave out of the legend."""
    shown = plain(name).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown
