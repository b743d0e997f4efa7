"""Audits for tests of the gate: a saved one, with its numbers changed so that they still fit together."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

from salve_audit.gate.estimates import wilson
from salve_audit.gate.policy import Policy
from salve_audit.gate.policy_file import read_policy, tomllib
from salve_audit.results import AuditResult, ClassReliance, load_audit

LEAST_CORRECT = 6  # images, below which image reliance is called thin, as in salve_audit.evidence.records
SAMPLE = Path(__file__).with_name("eight_classes.json")


@functools.cache
def sample() -> AuditResult:
    """An audit of eight classes with 200 images each, image reliance measured on 100, kept as it once was measured.

    Without the parts that no rule reads. Tests rest on its numbers, so it is no file that is made anew.
    """
    return load_audit(SAMPLE)


def of_class(result: AuditResult, name: str) -> ClassReliance:
    """The record of a class."""
    return next(class_info for class_info in result.classes if class_info.name == name)


def with_class(result: AuditResult, name: str, **changes: Any) -> AuditResult:
    """The audit with fields of one class changed."""
    classes = [
        dataclasses.replace(class_info, **changes) if class_info.name == name else class_info
        for class_info in result.classes
    ]
    return dataclasses.replace(result, classes=tuple(classes))


def with_accuracy(result: AuditResult, name: str, n_correct: int) -> AuditResult:
    """The audit with a class of which `n_correct` images are right, and flip numbers to match."""
    record = of_class(result, name)
    low, high = wilson(n_correct, record.n)
    thin = n_correct < 30
    flip = dataclasses.replace(record.alpha_hat.flip, share=1.0 if n_correct else 0.0)
    if not n_correct:
        flip = dataclasses.replace(flip, median=None, low=None, high=None)
    reliance = record.image_reliance
    if reliance is not None:
        right = min(reliance.n, round(reliance.n * n_correct / record.n))
        reliance = dataclasses.replace(reliance, n_correct=right, thin=right < LEAST_CORRECT)
    return with_class(
        result,
        name,
        n_correct=n_correct,
        accuracy=n_correct / record.n,
        accuracy_low=low,
        accuracy_high=high,
        thin=thin,
        alpha_hat=dataclasses.replace(record.alpha_hat, flip=flip),
        seeds=None if not n_correct else record.seeds,
        image_reliance=reliance,
    )


def without_classes(result: AuditResult, *names: str) -> AuditResult:
    """The audit as if the data had no images of these classes."""
    classes = tuple(class_info for class_info in result.classes if class_info.name not in names)
    concepts = tuple(concept for concept in result.concepts if concept.class_name not in names)
    data = dataclasses.replace(result.data, n_audit=sum(class_info.n for class_info in classes))
    return dataclasses.replace(result, classes=classes, concepts=concepts, data=data)


def save(result: AuditResult, folder: Path) -> Path:
    """The folder, with the audit in it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "audit.json").write_text(result.to_json(), encoding="utf-8")
    return folder


def policy(text: str, folder: Path | None = None) -> Policy:
    """The policy in a TOML text, as if it stood in a file of `folder`."""
    file = "" if folder is None else str(folder / "policy.toml")
    return read_policy(tomllib.loads(text), "policy.toml", file=file)
