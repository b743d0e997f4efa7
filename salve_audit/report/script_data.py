"""The numbers that the page's script works with: classes, and every change of a prediction under suppression."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from salve_audit.report.labels import address_classes, label_classes
from salve_audit.report.language import say
from salve_audit.report.numbers import clean
from salve_audit.results import AuditResult, SuppressionTrace
from salve_audit.results.relabel import class_names

MOST_OUTPUTS = 2000  # beyond which the confusion matrix would be most of the page
WORDS = (
    "{n} of {total} classes", "page {n} of {total}", "before / after", "Class", "Accuracy", "Unedited",
    "Accuracy, and images by class (rows) and prediction (columns)", "The {n} of {total} classes that change most.",
    "Suppress the feature of", "by", "Predictions at this strength", "Accuracy of {name} and of the others",
    "Close", "copy", "copied", "jump to a class", "next, previous class", "light or dark", "index of classes",
    "these keys", "close", "Keys", "{n} written",
)  # fmt: skip


def page_data(result: AuditResult) -> dict[str, Any]:
    """Classes with their cards' addresses, the script's words, and exact changes of predictions where there are any."""
    labels = label_classes(class_names(result))
    anchors = address_classes(labels[info.name] for info in result.classes)
    classes = []
    for info in result.classes:
        label = labels[info.name]
        full = clean(info.name)
        classes.append({"label": label, "anchor": anchors[label], "full": full if full != label else ""})
    words = {word: translated for word in WORDS if (translated := say(word)) != word}
    return {"classes": classes, "words": words, "suppression": _suppression(result, labels)}


def _suppression(result: AuditResult, labels: Mapping[str, str]) -> dict[str, Any] | None:
    """Counts by class and prediction without an edit, (class, prediction, n), and the changes under each feature."""
    record = result.suppression
    outputs = result.data.classes
    if record is None or not record.traces or len(outputs) > MOST_OUTPUTS:
        return None
    counts = [[entry.label, entry.predicted, entry.n] for entry in record.start]
    by_name = {info.name: info.index for info in result.classes}
    traces = [
        _trace(trace, by_name[trace.class_name], labels) for trace in record.traces if trace.class_name in by_name
    ]
    return {"labels": [labels[name] for name in outputs], "counts": counts, "traces": traces}


def _trace(trace: SuppressionTrace, index: int, labels: Mapping[str, str]) -> dict[str, Any]:
    return {
        "index": index,
        "label": labels[trace.class_name],
        "upTo": trace.up_to,
        "at": trace.alpha_hat,
        "of": trace.label,
        "from": trace.before,
        "to": trace.after,
    }
