"""Windows from a few rivals against all rivals, and the samples that are spread out where there are too many."""

from __future__ import annotations

import numpy as np
import pytest

from salve_audit.interventions import windows
from salve_audit.interventions.affine import AffineHead, LinearEdit, linear_intervention
from salve_audit.interventions.measure import compute_drift, head_change, relative_change
from salve_audit.interventions.samples import AuditSamples, edit_logits, sort_samples

N_CLASSES, D = 60, 12
STRENGTHS = np.array([0.0, 0.01, 0.3, 1.0, 4.0, 50.0])


@pytest.fixture(scope="module")
def samples() -> AuditSamples:
    rng = np.random.default_rng(0)
    head = AffineHead(rng.normal(size=(N_CLASSES, D)), rng.normal(size=N_CLASSES))
    labels = np.repeat(np.arange(N_CLASSES), 20)
    acts = (head.weight[labels] + 0.8 * rng.normal(size=(len(labels), D))).astype(np.float32)
    return sort_samples(acts, labels, head)


def make_edit(kind: str) -> LinearEdit:
    rng = np.random.default_rng(1)
    none = np.zeros(N_CLASSES)
    single = np.zeros((N_CLASSES, 1))
    single[7] = -1.0
    edits = {
        "one row": LinearEdit(single, rng.normal(size=(1, D)), -0.3 * single[:, 0]),
        "rank one": LinearEdit(rng.normal(size=(N_CLASSES, 1)), rng.normal(size=(1, D)), none),
        "rank one and bias": LinearEdit(rng.normal(size=(N_CLASSES, 1)), rng.normal(size=(1, D)), rng.normal(size=60)),
        "bias": LinearEdit(np.zeros((N_CLASSES, 1)), np.zeros((1, D)), rng.normal(size=N_CLASSES)),
        "rank three": LinearEdit(rng.normal(size=(N_CLASSES, 3)), rng.normal(size=(3, D)), none),
        "nothing": LinearEdit(np.zeros((N_CLASSES, 1)), np.zeros((1, D)), none),
    }
    return edits[kind]


KINDS = ("one row", "rank one", "rank one and bias", "bias", "rank three", "nothing")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("strengths", [STRENGTHS[:1], STRENGTHS[:3], STRENGTHS])
def test_a_few_rivals_say_what_all_of_them_say(kind: str, strengths: np.ndarray, samples: AuditSamples) -> None:
    head, edit = AffineHead(np.zeros((N_CLASSES, D)), np.zeros(N_CLASSES)), make_edit(kind)
    edited = edit_logits(samples, [linear_intervention(kind, head, edit)])[0]
    right = edited.correct(strengths)
    for strength, correct in zip(strengths, right, strict=True):
        logits = samples.logits + strength * (edit.left @ edit.right @ samples.acts.T + edit.bias[:, None])
        own = logits[samples.labels, np.arange(len(samples.labels))]
        np.testing.assert_array_equal(correct, (logits >= own).sum(axis=0) == 1)
    assert right[0].mean() > 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_most_samples_are_settled_by_a_few_rivals(
    kind: str, samples: AuditSamples, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    ranked = windows._ranked
    monkeypatch.setattr(windows, "_ranked", lambda m, o, c, rows: sizes.append(len(rows)) or ranked(m, o, c, rows))
    edit = make_edit(kind)
    reach = edit.right @ samples.acts.T if edit.left.any() else None
    windows.find_windows(windows.Margins(samples.logits, samples.labels, edit, reach), samples.rivals, 0.05)
    assert sizes[0] == len(samples.labels)
    assert sum(sizes[2:]) < 0.1 * sizes[0]


def test_the_largest_shift_is_one(samples: AuditSamples) -> None:
    for kind in KINDS:
        edit = make_edit(kind)
        reach = edit.right @ samples.acts.T if edit.left.any() else None
        margins = windows.Margins(samples.logits, samples.labels, edit, reach)
        shifts = edit.left @ edit.right @ samples.acts.T + edit.bias[:, None]
        left_out = shifts if margins.touched is None else np.delete(shifts, margins.touched, axis=0)
        assert np.all(margins.largest_shift >= left_out.max(axis=0) - 1e-12)


def test_rivals_are_the_strongest_wrong_classes(samples: AuditSamples) -> None:
    rivals = samples.rivals
    for i in range(0, len(samples.labels), 37):
        order = np.argsort(-samples.logits[:, i])
        wrong = order[order != samples.labels[i]]
        np.testing.assert_array_equal(rivals.index[:, i], wrong[: len(rivals.index)])
        np.testing.assert_array_equal(rivals.beyond[:, i], samples.logits[wrong[1 : len(rivals.index) + 1], i])


def test_projections_in_single_precision_are_exact_for_the_class_itself(
    samples: AuditSamples, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit = make_edit("rank three")
    precise = edit.right @ samples.acts.T
    monkeypatch.setattr("salve_audit.interventions.samples.SINGLE_VALUES", 10)
    reached = samples.reach(edit.right, [samples.rows_of(3)] * len(edit.right), [slice(0, len(edit.right))])
    np.testing.assert_allclose(reached[:, samples.rows_of(3)], precise[:, samples.rows_of(3)], rtol=1e-12)
    np.testing.assert_allclose(reached, precise, rtol=1e-4, atol=1e-5)
    assert np.abs(reached - precise).max() > 0


def test_drift_of_some_samples_is_near_that_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    head = AffineHead(rng.normal(size=(4, 6)), np.zeros(4))
    samples = sort_samples(rng.normal(size=(4000, 6)).astype(np.float32), np.repeat(np.arange(4), 1000), head)
    edit = LinearEdit(rng.normal(size=(4, 2)), rng.normal(size=(2, 6)), np.zeros(4))
    edited = edit_logits(samples, [linear_intervention("x", head, edit)])[0]
    whole = compute_drift(edited, 1, 0.3)
    monkeypatch.setattr("salve_audit.interventions.samples.MOST_VALUES", 100)
    monkeypatch.setattr("salve_audit.interventions.samples.THINNED_VALUES", 4 * 1500)
    fewer = sort_samples(samples.acts.astype(np.float32), samples.labels, head)
    thinned = edit_logits(fewer, [linear_intervention("x", head, edit)])[0].thinned()
    assert thinned.samples.counts.tolist() == [375] * 4
    drift = compute_drift(thinned, 1, 0.3)
    assert (drift.n, whole.n) == (1125, 3000)
    assert (drift.kl, drift.agreement) == pytest.approx((whole.kl, whole.agreement), rel=0.15)
    right = thinned.correct(np.array([0.3]))[0, thinned.samples.labels != 1]
    assert drift.accuracy == pytest.approx(right.mean())
    np.testing.assert_array_equal(
        thinned.correct(np.array([0.3])), edited.correct(np.array([0.3]))[:, fewer.thinned_rows]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_size_of_a_change_follows_from_its_factors(kind: str) -> None:
    rng = np.random.default_rng(3)
    head = AffineHead(rng.normal(size=(N_CLASSES, D)), rng.normal(size=N_CLASSES))
    intervention = linear_intervention(kind, head, make_edit(kind))
    edited = intervention.head(0.7)
    expected = relative_change(head.weight, edited.weight), relative_change(head.bias, edited.bias)
    assert head_change(intervention, head, 0.7) == pytest.approx(expected)
