"""Losses against a baseline: paired, corrected over classes, and refused where the audits are not comparable."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from gate_audits import of_class, policy, sample, save, with_class
from scipy import stats

from salve_audit.errors import ResultError, UsageError
from salve_audit.gate import baseline
from salve_audit.gate.audit_file import read_audit_file
from salve_audit.gate.baseline import UNPAIRED, _holm, compare_with_baseline
from salve_audit.gate.compared import Compared
from salve_audit.gate.comparison import ALIKE, compare_files
from salve_audit.gate.estimates import Estimate
from salve_audit.gate.paired_losses import draw_medians, draw_share, pair_lost
from salve_audit.gate.run import Request, run_gate
from salve_audit.gate.samples import Samples, read_samples
from salve_audit.results import AuditResult, digest

N = 200


def make_samples(rng: np.random.Generator, accuracy: dict[str, float] | None = None, scale: float = 1.0) -> Samples:
    """200 images of every class: correct with its accuracy, flips around its median."""
    paths, labels, correct, flips = [], [], [], []
    for record in sample().classes:
        share = (accuracy or {}).get(record.name, 0.95)
        paths += [f"{record.name}/{i}.png" for i in range(N)]
        labels += [record.name] * N
        correct.append(rng.random(N) < share)
        flips.append(scale * (record.alpha_hat.flip.median or 1.0) * np.exp(0.3 * rng.standard_normal(N)))
    return Samples(paths, labels, np.concatenate(correct), np.concatenate(flips))


def compared(new: Samples | None, old: Samples | None, result: AuditResult | None = None) -> Compared:
    return Compared(result or sample(), sample(), new, old, "main")


def outcomes(text: str, pair: Compared) -> dict[tuple[str, str], str]:
    return {key: decision.outcome for key, (_, decision) in compare_with_baseline(policy(text), pair).items()}


def test_equal_audits_lose_nothing() -> None:
    samples = make_samples(np.random.default_rng(0))
    found = outcomes("max_drop = { accuracy = 0.02, alpha_hat = 0.2 }", compared(samples, samples))
    assert set(found.values()) == {"pass"}
    assert ("", "accuracy") in found


def test_a_class_that_gets_worse_is_named_and_no_other() -> None:
    rng = np.random.default_rng(1)
    old = make_samples(rng)
    correct = old.correct.copy()
    rows = [i for i, label in enumerate(old.labels) if label == "pair"]
    correct[rows[:60]] = False
    found = outcomes("max_drop = { accuracy = 0.05 }", compared(dataclasses.replace(old, correct=correct), old))
    assert {key for key, outcome in found.items() if outcome == "fail"} == {("pair", "accuracy")}


def test_flip_medians_are_compared_as_shares() -> None:
    rng = np.random.default_rng(2)
    old = make_samples(rng)
    halved = dataclasses.replace(old, flips=old.flips * 0.5)
    losses = compare_with_baseline(policy("max_drop = { alpha_hat = 0.2 }"), compared(halved, old))
    assert {decision.outcome for _, decision in losses.values()} == {"fail"}
    assert all(estimate.value == pytest.approx(0.5) for estimate, _ in losses.values())


def test_accuracy_draws_are_those_of_resampled_pairs() -> None:
    rng = np.random.default_rng(3)
    old, new = rng.random(150) < 0.9, rng.random(150) < 0.8
    counts = int((old & ~new).sum()), int((~old & new).sum())
    point, draws = draw_share(150, *counts, np.random.default_rng(0))
    brute = [float(old[pick].mean() - new[pick].mean()) for pick in rng.integers(150, size=(4000, 150))]
    assert point == pytest.approx(old.mean() - new.mean())
    assert draws.std() == pytest.approx(np.std(brute), rel=0.1)
    assert draws.mean() == pytest.approx(np.mean(brute), abs=0.01)


def test_seeds_widen_the_loss_of_a_median() -> None:
    flips = np.exp(0.3 * np.random.default_rng(4).standard_normal(100))
    record = of_class(sample(), "castle")
    assert record.seeds is not None
    agreeing = dataclasses.replace(record, seeds=dataclasses.replace(record.seeds, medians=(1.0,) * 5))
    apart = dataclasses.replace(record, seeds=dataclasses.replace(record.seeds, medians=(1.0, 0.5, 2.0, 1.0, 1.0)))
    _, tight = draw_medians((flips, flips), (agreeing, agreeing), np.random.default_rng(0))
    _, wide = draw_medians((flips, flips), (apart, agreeing), np.random.default_rng(0))
    assert np.ptp(tight) == 0
    assert wide.std() > 0.2


def test_holm_is_the_textbooks() -> None:
    rng = np.random.default_rng(5)
    p = rng.random(12) ** 3
    order = np.argsort(p)
    expected = np.empty(12)
    expected[order] = np.minimum(1, np.maximum.accumulate(p[order] * (12 - np.arange(12))))
    assert _holm(p.tolist()) == pytest.approx(expected.tolist())


def test_luck_over_many_classes_is_no_violation() -> None:
    """Retrials of one accuracy in two halves of the images: a false alarm in at most one of twenty comparisons."""
    alarms = 0
    for seed in range(40):
        rng = np.random.default_rng((6, seed))
        old, new = make_samples(rng), make_samples(rng)
        found = outcomes("max_drop = { accuracy = 0.0 }", compared(new, old))
        alarms += "fail" in {outcome for (name, _), outcome in found.items() if name}
    assert stats.binomtest(alarms, 40, 0.05, alternative="greater").pvalue > 0.01


def test_intervals_stand_in_where_there_are_no_images() -> None:
    reliance = of_class(sample(), "trio").image_reliance
    assert reliance is not None
    worse = dataclasses.replace(reliance, reliance=0.8, low=0.7, high=0.87)
    result = with_class(sample(), "trio", image_reliance=worse)
    losses = compare_with_baseline(policy("max_drop = { image_reliance = 0.3 }"), compared(None, None, result))
    estimate, decision = losses[("trio", "image_reliance")]
    assert decision.outcome == "fail"
    assert estimate.value == pytest.approx(0.8 - reliance.reliance)
    assert estimate.low == pytest.approx(estimate.value - np.hypot(0.1, reliance.high - reliance.reliance))
    assert losses[("pair", "image_reliance")][1].outcome == "pass"


def test_the_global_factor_that_rose_most_is_the_loss() -> None:
    reliance = of_class(sample(), "trio").image_reliance
    assert reliance is not None
    border, colour = sorted(reliance.factors, key=lambda factor: factor.name)
    shadow = dataclasses.replace(border, removed=border.removed + 0.6, low=border.low + 0.55, high=border.high + 0.6)
    worse = dataclasses.replace(reliance, factors=(colour, shadow, dataclasses.replace(shadow, name="hue")))
    result = with_class(sample(), "trio", image_reliance=worse)
    losses = compare_with_baseline(policy("max_drop = { global_factor = 0.3 }"), compared(None, None, result))
    estimate, decision = losses[("trio", "global_factor")]
    assert estimate.value == pytest.approx(0.6)  # of the border: there is no hue in the baseline
    assert estimate.low < 0.6 < estimate.high
    assert decision.outcome == "fail"
    assert losses[("pair", "global_factor")][1].outcome == "pass"
    bare = with_class(sample(), "trio", image_reliance=dataclasses.replace(reliance, factors=()))
    missing = compare_with_baseline(policy("max_drop = { global_factor = 0.3 }"), compared(None, None, bare))
    assert "no global factor" in missing[("trio", "global_factor")][0].reason


@pytest.mark.parametrize(
    ("removed", "inserted", "lost"),
    [
        ((0.9, 0.9), (0.1, 0.7), 0.6),  # lost without it before as well, but now it makes the class
        ((0.1, 0.9), (0.1, 0.1), 0.0),  # a class known by what it lacks
        ((0.1, 0.1), (0.1, 0.9), 0.0),  # another cue is enough
        ((0.1, 0.9), (None, 0.9), 0.8),  # nothing to compare the insertion with
    ],
)
def test_a_factor_has_to_rise_both_ways(
    removed: tuple[float, float], inserted: tuple[float | None, float | None], lost: float
) -> None:
    reliance = of_class(sample(), "trio").image_reliance
    assert reliance is not None
    border = next(factor for factor in reliance.factors if factor.name == "border")
    sides = []
    for share, shown in zip(removed, inserted, strict=True):
        factor = dataclasses.replace(
            border, removed=share, low=share - 0.05, high=share + 0.05, inserted=shown,
            n_inserted=0 if shown is None else 100, chance=0.0, excess_low=share - 0.05,
        )  # fmt: skip
        sides.append(with_class(sample(), "trio", image_reliance=dataclasses.replace(reliance, factors=(factor,))))
    old, new = sides
    losses = compare_with_baseline(policy("max_drop = { global_factor = 0.2 }"), Compared(new, old, None, None, "main"))
    estimate, decision = losses[("trio", "global_factor")]
    assert estimate.value == pytest.approx(lost)
    assert decision.outcome == ("fail" if lost else "pass")


def test_a_rise_that_chance_explains_is_undecided() -> None:
    reliance = of_class(sample(), "trio").image_reliance
    assert reliance is not None
    border = next(factor for factor in reliance.factors if factor.name == "border")
    broken = dataclasses.replace(border, removed=0.65, low=0.6, high=0.7, chance=0.65, excess_low=-0.1)
    worse = dataclasses.replace(reliance, factors=(broken,))
    pair = compared(None, None, with_class(sample(), "trio", image_reliance=worse))
    losses = compare_with_baseline(policy("max_drop = { global_factor = 0.3 }"), pair)
    assert losses[("trio", "global_factor")][1].outcome == "undecided"


def outcomes_of(samples: Samples, rng: np.random.Generator) -> np.ndarray:
    """What the strongest removal did to 100 images of each class, as the sample's image reliance says."""
    lost = np.full(len(samples.labels), np.nan)
    for record in sample().classes:
        assert record.image_reliance is not None
        rows = rng.permutation([i for i, label in enumerate(samples.labels) if label == record.name])[:100]
        lost[rows] = np.arange(100) < round(100 * record.image_reliance.reliance)
    return lost


RISE = "max_drop = { image_reliance = 0.05 }"


def test_image_reliance_is_compared_image_by_image() -> None:
    """More images lost is a rise that pairs decide where the intervals of both do not."""
    rng = np.random.default_rng(10)
    old = make_samples(rng)
    old = dataclasses.replace(old, lost=outcomes_of(old, rng))
    new_lost = old.lost.copy()
    kept = [i for i, label in enumerate(old.labels) if label == "trio" and old.lost[i] == 0]
    new_lost[kept[:20]] = 1
    reliance = of_class(sample(), "trio").image_reliance
    assert reliance is not None
    risen = dataclasses.replace(
        reliance, reliance=reliance.reliance + 0.2, low=reliance.low + 0.15, high=reliance.high + 0.25, chance=0.0
    )
    pair = compared(dataclasses.replace(old, lost=new_lost), old, with_class(sample(), "trio", image_reliance=risen))
    losses = compare_with_baseline(policy(RISE), pair)
    estimate, decision = losses[("trio", "image_reliance")]
    assert (decision.outcome, estimate.n) == ("fail", 100)
    assert estimate.value == pytest.approx(0.2)
    bare = dataclasses.replace(pair, old_samples=dataclasses.replace(old, lost=None))
    unpaired, _ = compare_with_baseline(policy(RISE), bare)[("trio", "image_reliance")]
    assert unpaired.low < estimate.low


def test_a_share_of_several_draws_is_paired_as_well() -> None:
    rng = np.random.default_rng(11)
    lost = rng.choice([0.0, 0.5, 1.0], size=(2, 80))
    estimate, p = pair_lost(Estimate(0.1, 0.0, 0.2, looks=2), (lost[0], lost[1]), 0.0, 0.95)
    assert estimate.value == pytest.approx(float((lost[1] - lost[0]).mean()))
    spread = (lost[1] - lost[0]).std() / np.sqrt(80)
    assert estimate.high - estimate.low == pytest.approx(2 * 2.24 * spread, rel=0.1)  # two looks: 97.5 %
    assert p <= 1


def test_an_audit_has_not_changed_against_itself() -> None:
    """Of one network on the same images nothing rose for certain, however few they are and whatever the measure."""
    samples = make_samples(np.random.default_rng(12))
    samples = dataclasses.replace(samples, lost=outcomes_of(samples, np.random.default_rng(0)))
    names = "accuracy = 0, alpha_hat = 0, image_reliance = 0, global_factor = 0, redundancy = 0, cross_class_damage = 0"
    for pair in (compared(samples, samples), compared(*[dataclasses.replace(samples, lost=None)] * 2)):
        for key, (estimate, decision) in compare_with_baseline(policy(f"max_drop = {{ {names} }}"), pair).items():
            assert estimate.reason or (estimate.value, estimate.high, decision.outcome) == (0, 0, "pass"), key
    result = sample()
    other = dataclasses.replace(result, provenance=dataclasses.replace(result.provenance, model_sha256="0" * 64))
    losses = compare_with_baseline(policy("max_drop = { accuracy = 0 }"), compared(samples, samples, other))
    assert losses[("pair", "accuracy")][1].outcome == "undecided"  # another network that is right on the same images


def test_images_that_only_one_audit_has_are_left_out() -> None:
    old = make_samples(np.random.default_rng(7))
    new = dataclasses.replace(old, paths=[f"elsewhere/{path}" for path in old.paths])
    losses = compare_with_baseline(policy("max_drop = { accuracy = 0.1 }"), compared(new, old))
    assert {decision.outcome for _, decision in losses.values()} == {"thin"}
    assert losses[("pair", "accuracy")][0].reason == "0 images are in both audits, 30 are needed"


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two saved audits of the same data, with their samples."""
    folders = tmp_path / "new", tmp_path / "old"
    samples = make_samples(np.random.default_rng(8))
    columns = {"path": samples.paths, "label": samples.labels, "correct": samples.correct}
    for folder in folders:
        save(sample(), folder)
        pd.DataFrame({**columns, "alpha_hat_flip": samples.flips}).to_parquet(folder / "samples.parquet")
    return folders


@pytest.mark.parametrize(
    ("word", "change"),
    [
        ("data", lambda r: dataclasses.replace(r, provenance=dataclasses.replace(r.provenance, data_sha256="0" * 64))),
        ("autoencoder", lambda r: dataclasses.replace(r, sae=dataclasses.replace(r.sae, variant="topk"))),
    ],
)
def test_unlike_baselines_are_refused_unless_named(word: str, change: object, pair: tuple[Path, Path]) -> None:
    new, old = pair
    save(change(sample()), old)  # type: ignore[operator]
    (new / "policy.toml").write_text("max_drop = { accuracy = 0.1 }\n")
    request = Request(new, policy=new / "policy.toml", baseline=old)
    verdict = run_gate(request).verdict
    assert verdict.exit_code == 2
    assert any(f"--allow-mismatch {word}" in problem for problem in verdict.problems)
    assert run_gate(dataclasses.replace(request, allow_mismatch=(word,))).verdict.exit_code == 0
    with pytest.raises(UsageError, match="'weather' is not one of data, schema"):
        run_gate(dataclasses.replace(request, allow_mismatch=("weather",)))


def test_a_baseline_is_named_by_the_policy_or_the_caller(pair: tuple[Path, Path]) -> None:
    new, old = pair
    file = new / "policy.toml"
    file.write_text("max_drop = { accuracy = 0.1 }\n")
    with pytest.raises(UsageError, match="max_drop needs a baseline"):
        run_gate(Request(new, policy=file))
    file.write_text('baseline = "../old"\nmax_drop = { accuracy = 0.1, alpha_hat = 0.3 }\n')
    verdict = run_gate(Request(new, policy=file)).verdict
    assert verdict.exit_code == 0
    assert {rule.key for rule in verdict.rules} == {"max_drop.accuracy", "max_drop.alpha_hat"}
    file.write_text('baseline = "../gone"\nmax_drop = { accuracy = 0.1 }\n')
    with pytest.raises(ResultError, match="No such file"):
        run_gate(Request(new, policy=file))
    (old / "samples.parquet").unlink()
    verdict = run_gate(Request(new, policy=file, baseline=old)).verdict
    assert verdict.exit_code == 2
    assert any("samples.parquet of both audits is needed" in problem for problem in verdict.problems)


def test_a_comparison_reads_a_file_once_and_draws_no_gain_of_what_did_not_fall(
    pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a thousand classes that is most of the time."""
    hashed, drawn = [], []
    monkeypatch.setattr("salve_audit.results.digest._hash", lambda text, of=digest._hash: hashed.append(1) or of(text))
    original = baseline.compare_paired
    monkeypatch.setattr(baseline, "compare_paired", lambda *given: drawn.append(given[0]) or original(*given))
    before, after = (read_audit_file(folder) for folder in pair)
    changes = compare_files(before, after).changes
    assert {change.word for change in changes if change.measure == "accuracy"} == {ALIKE}
    assert (len(hashed), len(drawn)) == (2, 2 * len(sample().classes))  # accuracy and flips, for losses alone


def test_it_is_said_where_an_earlier_audit_knows_nothing_of_single_images(pair: tuple[Path, Path]) -> None:
    new, old = pair
    (new / "policy.toml").write_text("max_drop = { image_reliance = 0.1 }\n")
    request = Request(new, policy=new / "policy.toml", baseline=old)
    verdict = run_gate(request).verdict
    assert verdict.exit_code == 0
    assert UNPAIRED in verdict.notes
    for folder in pair:
        frame = pd.read_parquet(folder / "samples.parquet")
        frame.assign(lost=np.nan).to_parquet(folder / "samples.parquet")
    assert UNPAIRED not in run_gate(request).verdict.notes


def test_a_baseline_that_cannot_be_trusted_is_no_measure(pair: tuple[Path, Path]) -> None:
    new, old = pair
    file = new / "policy.toml"
    file.write_text('max_drop = { accuracy = 0.1 }\nallow_mismatch = ["digest", "data"]\n')
    request = Request(new, policy=file, baseline=old)
    assert run_gate(request).verdict.exit_code == 0
    at_chance = "Accuracy is 12.4 %, no better than chance (12.5 %): the model or the labels are wrong."
    save(dataclasses.replace(sample(), notes=(at_chance,)), old)
    assert f"the baseline's own warning: {at_chance}" in run_gate(request).verdict.problems
    text = save(sample(), old).joinpath("audit.json").read_text()
    (old / "audit.json").write_text(text.replace('"n_fit": ', '"n_fit": 1', 1))
    broken = run_gate(request).verdict
    assert broken.exit_code == 2
    (problem,) = broken.problems
    assert "was changed after it was written" in problem
    assert "--allow-mismatch" not in problem


def test_a_policy_names_what_a_baseline_need_not_share(pair: tuple[Path, Path]) -> None:
    new, old = pair
    save(dataclasses.replace(sample(), sae=dataclasses.replace(sample().sae, variant="topk")), old)
    file = new / "policy.toml"
    for allowed, code in (("", 2), ('allow_mismatch = ["autoencoder"]\n', 0)):
        file.write_text(f"{allowed}max_drop = {{ accuracy = 0.1 }}\n")
        assert run_gate(Request(new, policy=file, baseline=old)).verdict.exit_code == code


def test_a_named_baseline_is_opened_though_nothing_is_compared_with_it(pair: tuple[Path, Path]) -> None:
    new, old = pair
    (new / "policy.toml").write_text("min_alpha_hat = 1\n")
    request = Request(new, policy=new / "policy.toml", baseline=old)
    verdict = run_gate(request).verdict
    assert verdict.exit_code == 0
    assert any("no max_drop in the policy: nothing is compared" in note for note in verdict.notes)
    with pytest.raises(ResultError, match="No such file"):
        run_gate(dataclasses.replace(request, baseline=old / "gone"))


def test_accuracy_lost_over_all_images_is_no_matter_of_classes(pair: tuple[Path, Path]) -> None:
    new, old = pair
    samples = read_samples(old)
    assert samples is not None
    frame = pd.read_parquet(new / "samples.parquet")
    frame["correct"] &= np.random.default_rng(9).random(len(frame)) < 0.7
    frame.to_parquet(new / "samples.parquet")
    (new / "policy.toml").write_text("max_drop = { accuracy = 0.1 }\n")
    verdict = run_gate(Request(new, policy=new / "policy.toml", baseline=old)).verdict
    assert verdict.exit_code == 2
    assert any(problem.startswith("the audit has 0.2") for problem in verdict.problems)


def test_damaged_samples_are_refused(pair: tuple[Path, Path]) -> None:
    new, _ = pair
    (new / "samples.parquet").write_bytes(b"PAR1 nothing")
    with pytest.raises(ResultError, match=r"samples.parquet: cannot be read"):
        read_samples(new)
