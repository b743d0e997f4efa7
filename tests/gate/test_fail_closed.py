"""Audits that were once green and must not be: each is exit code 2 with its reason, in every output alike."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gate_audits import of_class, policy, sample, save, with_accuracy, with_class, without_classes

from salve_audit.cli.app import run
from salve_audit.errors import ResultError
from salve_audit.gate.policy import Exemption
from salve_audit.gate.review import Review
from salve_audit.gate.run import Request, run_gate
from salve_audit.gate.verdict import Given, judge
from salve_audit.results import AuditResult, Verdict
from salve_audit.results.consistency import check_consistency
from salve_audit.results.schema import to_dict
from salve_audit.results.stale import STALE_FILE, mark_stale

LIMIT = "min_alpha_hat = 1.0\nmax_image_reliance = 1.0\n"
SWAPPED = (
    "Accuracy is 61.0 %: classes are probably mapped to the wrong outputs. The order that fits best (castle -> output "
    "1) would give 98.0 %; --classes FILE maps them by hand."
)
AT_CHANCE = (
    "Accuracy is 12.4 %, no better than chance (12.5 %): the model or the labels are wrong, and no other order fits."
)


def judged(result: AuditResult, text: str = LIMIT, **given: Any) -> Verdict:
    return judge(result, policy(text), Given(**given))


def holds_back(verdict: Verdict, *words: str) -> None:
    """Exit code 2, neither passed nor failed, and one of the reasons has these words."""
    assert (verdict.exit_code, verdict.passed, verdict.word) == (2, None, "NOT JUDGED")
    assert any(all(word in problem for word in words) for problem in verdict.problems), verdict.problems


def test_the_sample_itself_is_trusted() -> None:
    verdict = judged(sample())
    assert (verdict.exit_code, verdict.passed, verdict.problems) == (0, True, ())


@pytest.mark.parametrize("note", [SWAPPED, AT_CHANCE])
def test_a_mapping_that_is_probably_wrong(note: str) -> None:
    holds_back(judged(dataclasses.replace(sample(), notes=(*sample().notes, note))), note)


def test_words_in_a_note_are_no_warning_where_the_audit_says_which_notes_are() -> None:
    named = dataclasses.replace(sample(), notes=("The class 'no better than chance' has 200 images.", SWAPPED))
    assert judged(dataclasses.replace(named, distrust=())).exit_code == 0
    holds_back(judged(dataclasses.replace(named, distrust=(1,))), SWAPPED)
    outside = to_dict(dataclasses.replace(named, distrust=(2,)))
    with pytest.raises(ResultError, match="expected a place among 2 notes, got 2 in 'distrust'"):
        check_consistency(outside)


def test_most_classes_misclassified_are_not_passed_over_as_thin() -> None:
    result = sample()
    for name in ("castle", "chapel", "clinic", "ember", "pair", "plain"):
        result = with_accuracy(result, name, 20)
    holds_back(
        judged(result, "min_alpha_hat = 1.0"), "2 classes could be judged, 8 are needed", "only 20 of 200 images"
    )
    relying = judged(result, "max_image_reliance = 1.0")
    holds_back(relying, "2 classes could be judged, 8 are needed", "classified correctly")


def test_classes_at_zero_are_not_passed_over() -> None:
    result = with_accuracy(with_accuracy(sample(), "plain", 0), "trio", 0)
    holds_back(judged(result), "6 classes could be judged, 8 are needed")


@pytest.mark.parametrize(
    "rule",
    [
        "max_image_reliance = 1.0",
        "min_redundancy = 1",
        "min_alpha_hat = 0.01",
        "max_global_factor = 1.0",
        "max_cross_class_damage = 1.0",
        "max_null_p = 1.0",
        "require_stable = true",
        "require_measured = true",
    ],
)
def test_no_rule_passes_over_a_class_that_is_always_wrong(rule: str) -> None:
    """Real audits mark such a class thin, as if it had too few images."""
    result = with_accuracy(sample(), "trio", 0)
    verdict = judged(result, f'{rule}\non_thin = "skip"')
    holds_back(verdict, "7 classes could be judged, 8 are needed", "trio: only 0 of")
    assert not any("contradicts itself" in problem for problem in verdict.problems)


def test_classes_without_images_are_missing_unless_the_policy_says_so() -> None:
    result = without_classes(sample(), "castle", "pair", "trio")
    holds_back(judged(result), "3 of 8 classes have no audit images: castle, pair, trio")
    allowed = judged(result, LIMIT + 'allow_missing = ["castle", "p*", "trio"]')
    assert allowed.exit_code == 0


def test_nothing_evaluated_is_no_pass() -> None:
    nothing = without_classes(sample(), *sample().data.classes)
    holds_back(judged(nothing, LIMIT + 'allow_missing = ["*"]'), "nothing was evaluated")
    thin = sample()
    for class_info in thin.classes:
        thin = with_class(thin, class_info.name, image_reliance=None)
    holds_back(judged(thin, "max_image_reliance = 0.5"), "no class could be judged", "was not measured")


def test_rules_that_concern_nobody_are_no_pass() -> None:
    result = without_classes(sample(), "trio")
    text = 'allow_missing = ["trio"]\n[classes.trio]\nmin_alpha_hat = 1.0'
    holds_back(judged(result, text), "no rule of the policy concerns a class of the audit")
    switched_off = "[classes.trio]\nmin_alpha_hat = false"
    holds_back(judged(sample(), switched_off), "no rule of the policy concerns a class of the audit")


def test_a_review_of_what_was_not_measured_is_no_pass() -> None:
    blind = with_class(sample(), "trio", image_reliance=None)
    verdict = judged(blind, 'review = "r.toml"', review=Review("r.toml", ()))
    holds_back(verdict, "the review needs image reliance", "1 classes: trio")


def test_an_autoencoder_below_its_goal_holds_back_what_rests_on_it() -> None:
    sae = dataclasses.replace(
        sample().sae, satisfied=False, accuracy_reconstructed=0.65 * sample().sae.accuracy_original
    )
    weak = dataclasses.replace(sample(), sae=sae)
    holds_back(judged(weak), "min_alpha_hat rest on an autoencoder that misses its own goal", "65%")
    assert judged(weak, "max_image_reliance = 1.0").exit_code == 0
    assert judged(weak, LIMIT + "require_autoencoder = false").exit_code == 0


def test_accuracy_below_the_limit_is_no_matter_of_fragility() -> None:
    low = sample()
    for class_info in low.classes:
        low = with_accuracy(low, class_info.name, 110)
    holds_back(judged(low, "min_accuracy = 0.9"), "the audit has 0.55", "accuracy at least 0.9")
    one = with_accuracy(sample(), "pair", 110)
    holds_back(judged(one, "[classes.pair]\nmin_accuracy = 0.9"), "class 'pair' has 0.55")
    assert judged(sample(), "min_accuracy = 0.9").exit_code == 0


def test_too_many_unreadable_images() -> None:
    skipped = dataclasses.replace(sample(), data=dataclasses.replace(sample().data, n_skipped=400))
    holds_back(judged(skipped), "images could not be read", "max_skipped_share is 5.0%")
    assert judged(skipped, LIMIT + "max_skipped_share = 0.5").exit_code == 0


def test_an_expired_exception_is_an_error_that_names_it() -> None:
    text = (
        'max_image_reliance = 0.5\n[[exceptions]]\nclass = "*"\nrule = "max_image_reliance"\nreason = "known"\nuntil = '
    )
    day = datetime.date(2026, 6, 1)
    assert judged(sample(), text + "2026-06-01", today=day).exit_code == 0
    holds_back(judged(sample(), text + "2026-05-31", today=day), "expired on 2026-05-31", "known", "'*'")


def test_an_exception_masks_no_2_and_covers_the_whole_audit_where_it_says_so_alone() -> None:
    everything = '[[exceptions]]\nclass = "*"\nrule = "*"\nreason = "known"\nuntil = 2999-01-01\n'
    low = with_accuracy(sample(), "pair", 110)
    holds_back(judged(low, f"min_accuracy = 0.95\n{everything}"), "accuracy at least 0.95")
    holds_back(judged(low, f"{everything}[classes.pair]\nmin_accuracy = 0.9\n"), "class 'pair' has 0.55")
    fragile = "max_image_reliance = 0.5\nmax_fragile_share = 0.4\n"
    share = everything.replace('"*"\nrule = "*"', '"*"\nrule = "max_fragile_share"')
    assert judged(sample(), fragile + share).exit_code == 1
    assert judged(sample(), fragile + share.replace('class = "*"', 'class = ""')).exit_code == 0


def test_a_class_with_brackets_in_its_name_is_named_by_it() -> None:
    result = without_classes(sample(), "trio", "pair")
    names = tuple("cat [tabby]" if name == "trio" else name for name in sample().data.classes)
    result = dataclasses.replace(result, data=dataclasses.replace(result.data, classes=names))
    assert judged(result, LIMIT + 'allow_missing = ["cat [tabby]", "pair"]').exit_code == 0
    exemption = Exemption("cat [tabby]", "*", "known", "2999-01-01")
    assert exemption.covers("cat [tabby]", "max_image_reliance")
    assert not exemption.covers("", "min_accuracy")


def test_names_that_no_class_has_are_no_rules() -> None:
    holds_back(judged(sample(), LIMIT + "[classes.castel]\nmin_alpha_hat = 9"), "'castel'", "no class of the audit")


def test_a_violation_does_not_mask_what_cannot_be_trusted() -> None:
    result = without_classes(sample(), "trio")
    verdict = judged(result, "max_image_reliance = 0.5")
    assert verdict.by_effect("fail")
    holds_back(verdict, "no audit images")


def test_a_limit_that_chance_reaches_says_so() -> None:
    """Once such a class was said to have an interval that contains the limit, which lies below it."""
    reliance = of_class(sample(), "castle").image_reliance
    assert reliance is not None
    by_chance = dataclasses.replace(reliance, chance=0.37, chance_low=0.28, chance_high=0.46)
    verdict = judged(with_class(sample(), "castle", image_reliance=by_chance), "max_image_reliance = 0.0")
    rule = next(rule for rule in verdict.rules if rule.class_name == "castle")
    assert (rule.outcome, rule.effect) == ("undecided", "warn")
    assert rule.low is not None
    assert rule.low > rule.limit
    assert rule.why.startswith("not distinguished from chance: random places as large take 0.37")
    assert "contains the limit" not in rule.why
    assert rule.n_needed is not None


EDITS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "negative number of images": (lambda v: v["data"].update(n_fit=-5), "a number of images is negative"),
    "rows removed": (lambda v: v["classes"].pop(0), "data.n_audit is 1600"),
    "a bound nulled": (lambda v: v["classes"][0]["alpha_hat"]["flip"].update(low=None), "no lower bound"),
    "an upper bound nulled": (lambda v: v["classes"][0]["alpha_hat"]["flip"].update(high=None), "no upper bound"),
    "the interval moved": (lambda v: v["classes"][0]["seeds"].update(low=5.0, high=9.0), "outside of its interval"),
    "accuracy polished": (lambda v: v["classes"][0].update(accuracy=0.999), "accuracy is 0.999"),
    "hits beyond n": (lambda v: v["classes"][0].update(n_correct=900), "900 of 200"),
    "thin hidden": (lambda v: v["classes"][0].update(thin=True), "thin is True"),
    "reliance lowered": (
        lambda v: v["classes"][0]["image_reliance"].update(reliance=0.0, low=0.0),
        "a global factor takes",
    ),
    "concept kept": (lambda v: v["classes"][1]["image_reliance"].update(reliance=0.5), "a concept takes 0.98"),
    "a class twice": (lambda v: v["classes"].append(v["classes"][0]), "listed twice"),
}


@pytest.mark.parametrize("name", EDITS)
def test_edited_numbers_break_the_digest_and_contradict_each_other(name: str, tmp_path: Path) -> None:
    edit, contradiction = EDITS[name]
    value = json.loads(sample().to_json())
    edit(value)
    (tmp_path / "audit.json").write_text(json.dumps(value))
    request = Request(tmp_path, limits={"fail_under": 0.1, "fail_over_reliance": 1.0})
    verdict = run_gate(request).verdict
    holds_back(verdict, "its digest is not that of its numbers")
    holds_back(verdict, "contradicts itself", contradiction)
    del value["digest"]
    (tmp_path / "audit.json").write_text(json.dumps(value))
    holds_back(run_gate(request).verdict, "carries no digest")
    again = run_gate(dataclasses.replace(request, allow_mismatch=("digest",))).verdict
    holds_back(again, "contradicts itself", contradiction)


def test_a_verdict_that_the_numbers_do_not_bear_out(tmp_path: Path) -> None:
    text = policy("max_image_reliance = 0.5")
    failed = dataclasses.replace(sample(), verdict=judge(sample(), text))
    assert failed.verdict.passed is False
    forged = dataclasses.replace(failed.verdict, passed=True, rules=())
    save(dataclasses.replace(failed, verdict=forged), tmp_path)
    holds_back(run_gate(Request(tmp_path)).verdict, "audit.json says passed; judged again, its numbers say FAILED")
    save(dataclasses.replace(failed, verdict=Verdict(passed=True, policy=None, rules=())), tmp_path)
    holds_back(run_gate(Request(tmp_path, limits={"fail_under": 1.0})).verdict, "a verdict without a policy")


def test_a_number_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    value = json.loads(sample().to_json())
    value["classes"][0]["image_reliance"]["low"] = float("nan")
    (tmp_path / "audit.json").write_text(json.dumps(value))
    assert run(["gate", str(tmp_path), "--fail-over-reliance", "0.5"]) == 2
    assert "expected a finite number, got nan in 'classes[0].image_reliance.low'" in capsys.readouterr().err


def test_the_layout_of_the_file_is_no_edit(tmp_path: Path) -> None:
    value = json.loads(sample().to_json())
    (tmp_path / "audit.json").write_text(json.dumps({**value, "created": "2027-01-01T00:00:00Z"}))
    assert run_gate(Request(tmp_path, limits={"fail_under": 1.0})).verdict.exit_code == 0


def test_a_limit_tightens_the_saved_policy_and_never_replaces_it(tmp_path: Path) -> None:
    saved = dataclasses.replace(sample(), verdict=judge(sample(), policy("max_image_reliance = 0.5")))
    save(saved, tmp_path)
    loosened = run_gate(Request(tmp_path, limits={"fail_over_reliance": 1.0})).verdict
    assert (loosened.exit_code, loosened.policy) == (1, "image reliance at most 0.5")
    added = run_gate(Request(tmp_path, limits={"fail_over_reliance": 0.3, "fail_under": 1.0})).verdict
    assert added.policy == "image reliance at most 0.3; alpha_hat flip median at least 1"
    assert added.exit_code == 1
    (tmp_path / "other.toml").write_text("max_image_reliance = 1.0\n")
    replaced = run_gate(Request(tmp_path, policy=tmp_path / "other.toml")).verdict
    assert replaced.exit_code == 0
    assert "was judged under image reliance at most 0.5: FAILED" in replaced.notes[0]


def test_stale_results_are_not_judged(tmp_path: Path) -> None:
    save(sample(), tmp_path)
    mark_stale(tmp_path, "an audit of other.pt that started later has not finished")
    holds_back(run_gate(Request(tmp_path, limits={"fail_under": 1.0})).verdict, "are stale: an audit of other.pt")
    (tmp_path / STALE_FILE).unlink()
    assert run_gate(Request(tmp_path, limits={"fail_under": 1.0})).verdict.exit_code == 0
    mark_stale(tmp_path / "empty", "nothing is there to be marked")
    assert not (tmp_path / "empty").exists()


def test_a_verdict_is_bound_to_the_model_file(tmp_path: Path) -> None:
    model, other = tmp_path / "model.pt", tmp_path / "other.pt"
    model.write_bytes(b"weights")
    other.write_bytes(b"other weights")
    provenance = dataclasses.replace(sample().provenance, model_sha256=hashlib.sha256(b"weights").hexdigest())
    save(dataclasses.replace(sample(), provenance=provenance), tmp_path / "audit")
    request = Request(tmp_path / "audit", limits={"fail_under": 1.0})
    assert run_gate(dataclasses.replace(request, model=model)).verdict.exit_code == 0
    holds_back(run_gate(dataclasses.replace(request, model=other)).verdict, "the audit is of another model")
    (tmp_path / "hub").mkdir()
    model.rename(tmp_path / "hub" / "model.safetensors")
    assert run_gate(dataclasses.replace(request, model=tmp_path / "hub")).verdict.exit_code == 0


def test_min_judged_counts_classes_or_their_share() -> None:
    result = sample()
    for name in ("castle", "chapel"):
        result = with_accuracy(result, name, 20)
    for least, code in (('"all"', 2), ("6", 0), ("7", 2), ("0.75", 0), ("0.76", 2)):
        assert judged(result, f"min_alpha_hat = 1.0\nmin_judged = {least}").exit_code == code, least
