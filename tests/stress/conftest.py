"""A small world whose classes share features, as the stress stage sees it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from salve_audit.activations.store import ActivationSplit
from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.interventions.comparison import ComparisonInputs, ComparisonSettings
from salve_audit.interventions.matched import compare_interventions
from salve_audit.reliance.assess import RelianceInputs, assess_reliance
from salve_audit.reliance.features import describe_use
from salve_audit.reliance.nulls import NullSettings
from salve_audit.reliance.scaling import Samples
from salve_audit.stress.stage import StressInputs

K, D, M = 7, 20, 12


def build_inputs(seed: int = 0, n_per_class: int = 40, methods: tuple[str, ...] | None = None) -> StressInputs:
    rng = np.random.default_rng(seed)
    dictionary = rng.normal(size=(M, D))
    dictionary /= np.linalg.norm(dictionary, axis=1, keepdims=True)

    def draw() -> tuple[np.ndarray, np.ndarray]:
        labels = rng.permutation(np.repeat(np.arange(K), n_per_class))
        codes = np.abs(rng.normal(0.0, 0.3, size=(len(labels), M)))
        codes[np.arange(len(labels)), labels] += rng.normal(2.0, 0.7, size=len(labels)).clip(0.2)
        codes[labels < 3, K] += 1.0
        return (codes @ dictionary + rng.normal(0.0, 0.2, size=(len(labels), D))).astype(np.float32), labels

    (fit_acts, fit_labels), (acts, labels) = draw(), draw()
    design = np.column_stack([fit_acts, np.ones(len(fit_acts))])
    solution = np.linalg.lstsq(design, 6.0 * np.eye(K)[fit_labels] - 1.0, rcond=None)[0]
    head = LinearHead(np.ascontiguousarray(solution[:-1].T, dtype=np.float32), solution[-1].astype(np.float32), "fc")
    encoder = np.linalg.pinv(dictionary).T.astype(np.float32)
    dictionary = dictionary.astype(np.float32)
    names = tuple(f"class {i}" for i in range(K))
    use = describe_use(fit_acts @ encoder.T, fit_labels, dictionary, head)
    audited = Samples(acts, labels, head)
    reliance = assess_reliance(RelianceInputs(use, dictionary, audited, names, 0, NullSettings(5, 5)))
    compared = ComparisonInputs(
        head=head,
        class_names=names,
        features=reliance.use.dominant,
        dictionary=dictionary,
        mean_codes=reliance.use.mean_codes,
        alive=reliance.use.alive,
        fit_acts=fit_acts,
        fit_labels=fit_labels,
        audit_acts=acts,
        audit_labels=labels,
    )
    chosen = ("salve", "steering", "rome", "ablation", "row-scaling", "null-random") if methods is None else methods
    results = compare_interventions(ComparisonSettings(methods=chosen, n_bootstrap=50, n_keys=2), compared).results
    audit = ActivationSplit(acts, labels, tuple(f"val/{i}.png" for i in range(len(labels))))
    return StressInputs(
        compared, results, reliance.classes, reliance.features, encoder, audit, acts @ encoder.T, seed=0
    )


@pytest.fixture(scope="session")
def inputs() -> StressInputs:
    return build_inputs()


@pytest.fixture(scope="session")
def make_inputs() -> Callable[..., StressInputs]:
    return build_inputs
