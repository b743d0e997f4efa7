"""A small world with planted features: every class is carried by one latent and a little by a shared one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from salve_audit.inputs.model.head.linear import LinearHead
from salve_audit.interventions.comparison import ComparisonInputs
from salve_audit.interventions.context import EditContext, compute_fit_statistics, float64_head
from salve_audit.interventions.rome import choose_key

N_CLASSES, D, N_LATENTS = 5, 24, 12


def _draw(
    dictionary: np.ndarray, n_per_class: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    labels = rng.permutation(np.repeat(np.arange(N_CLASSES), n_per_class))
    codes = rng.normal(0.0, 0.3, size=(len(labels), N_LATENTS))
    codes[np.arange(len(labels)), labels] += rng.normal(2.0, 0.7, size=len(labels))
    codes[labels < 2, N_CLASSES] -= 1.0  # a negative code shared by two classes
    acts = codes @ dictionary + rng.normal(0.0, 0.2, size=(len(labels), D)) + 0.3
    return acts.astype(np.float32), labels, codes


def make_world(seed: int = 0, n_per_class: int = 80) -> ComparisonInputs:
    rng = np.random.default_rng(seed)
    dictionary = rng.normal(size=(N_LATENTS, D))
    dictionary /= np.linalg.norm(dictionary, axis=1, keepdims=True)
    fit_acts, fit_labels, codes = _draw(dictionary, n_per_class, rng)
    audit_acts, audit_labels, _ = _draw(dictionary, n_per_class, rng)
    design = np.column_stack([fit_acts, np.ones(len(fit_acts))])
    solution = np.linalg.lstsq(design, 6.0 * np.eye(N_CLASSES)[fit_labels] - 1.0, rcond=None)[0]  # (d + 1, k)
    return ComparisonInputs(
        head=LinearHead(np.ascontiguousarray(solution[:-1].T, dtype=np.float32), solution[-1].astype(np.float32), "fc"),
        class_names=tuple(f"class {i}" for i in range(N_CLASSES)),
        features=np.arange(N_CLASSES),
        dictionary=dictionary.astype(np.float32),
        mean_codes=np.stack([codes[fit_labels == i].mean(axis=0) for i in range(N_CLASSES)]),
        alive=np.ones(N_LATENTS, dtype=bool),
        fit_acts=fit_acts,
        fit_labels=fit_labels,
        audit_acts=audit_acts,
        audit_labels=audit_labels,
    )


@pytest.fixture(scope="session")
def world() -> ComparisonInputs:
    return make_world()


@pytest.fixture(scope="session")
def build_world() -> Callable[..., ComparisonInputs]:
    return make_world


@pytest.fixture(scope="session")
def build_context() -> Callable[..., EditContext]:
    def build(inputs: ComparisonInputs, class_index: int = 1, seed: int = 0) -> EditContext:
        return EditContext(
            head=float64_head(inputs.head),
            class_index=class_index,
            feature=int(inputs.features[class_index]),
            dominant=inputs.features,
            dictionary=inputs.dictionary,
            mean_codes=inputs.mean_codes,
            alive=inputs.alive,
            fit=compute_fit_statistics(inputs.fit_acts, inputs.fit_labels, inputs.head.n_classes),
            key=choose_key(inputs.fit_acts, np.flatnonzero(inputs.fit_labels == class_index)),
            rng=np.random.default_rng(seed),
        )

    return build


@pytest.fixture
def context(world: ComparisonInputs, build_context: Callable[..., EditContext]) -> EditContext:
    return build_context(world)
