"""The review file: shortcuts fail, accepted objects never do, what nobody has looked at is named."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from gate_audits import of_class, policy, sample, with_accuracy, with_class

from salve_audit.errors import UsageError
from salve_audit.gate.baseline import compare_with_baseline
from salve_audit.gate.compared import Compared
from salve_audit.gate.measures import find_dependences
from salve_audit.gate.review import Entry, Review, fingerprint, load_review, match
from salve_audit.gate.verdict import Given, judge
from salve_audit.results import Concept, Verdict


def strongest(class_name: str) -> Concept:
    record = next(part for part in sample().classes if part.name == class_name)
    concept = find_dependences(sample(), record)[0].concept
    return next(part for part in sample().concepts if part.index == concept)


def entry(class_name: str, verdict: str, kind: str = "region", limit: float | None = None) -> Entry:
    mark = fingerprint(strongest(class_name)) if kind == "region" else ""
    return Entry(class_name, kind, mark, "the thing", verdict, "A. Reviewer", "2026-11-20", "because", limit)


def judged(text: str, *entries: Entry) -> Verdict:
    return judge(sample(), policy(f'review = "r.toml"\n{text}'), Given(review=Review("r.toml", entries)))


def test_a_shortcut_fails_beyond_its_limit() -> None:
    verdict = judged("", entry("ripple", "shortcut"))
    (rule,) = verdict.by_effect("fail")
    assert (rule.class_name, rule.key, rule.limit) == ("ripple", "max_shortcut.the thing", 0.05)
    assert verdict.exit_code == 1
    assert judged("", entry("ripple", "shortcut", limit=1.0)).exit_code == 0
    assert judged("shortcut_limit = 1.0", entry("ripple", "shortcut")).exit_code == 0
    factor = judged("", entry("castle", "shortcut", kind="colour"))
    assert [(part.class_name, part.value) for part in factor.by_effect("fail")] == [("castle", 0.13)]


def test_an_accepted_object_never_fails() -> None:
    rule = "max_image_reliance = 0.5"
    failing = {part.class_name for part in judged(rule).by_effect("fail")}
    accepted = judged(rule, *(entry(name, "accepted") for name in failing))
    assert accepted.by_effect("fail") == ()
    assert accepted.exit_code == 0
    assert {part.class_name for part in judged(rule, entry("ripple", "accepted")).by_effect("fail")} == failing - {
        "ripple"
    }


def test_an_accepted_factor_and_an_accepted_only_cue_never_fail() -> None:
    factor = "max_global_factor = { colour = 0.05 }"
    assert "castle" in {part.class_name for part in judged(factor).by_effect("fail")}
    accepted = judged(factor, entry("castle", "accepted", kind="colour"))
    assert "castle" not in {part.class_name for part in accepted.by_effect("fail")}
    assert accepted.by_effect("exempt")[0].why == "the review accepts what it depends on (colour)"
    redundancy = judged("min_redundancy = 2", entry("ripple", "accepted"))
    assert "ripple" in {part.class_name for part in redundancy.by_effect("exempt")}
    assert "ember" in {part.class_name for part in redundancy.by_effect("fail")}


def test_an_accepted_object_is_no_loss_against_the_baseline() -> None:
    """A class that came to depend on its accepted object alone; nothing else of it got worse."""
    concept, record = strongest("ripple"), of_class(sample(), "ripple")
    assert record.image_reliance is not None
    weaker = dataclasses.replace(record.image_reliance, reliance=0.3, low=0.2, high=0.4, redundancy=2)
    effect = dataclasses.replace(concept.effect[0], drop=0.3, low=0.2, high=0.4)
    concepts = tuple(
        dataclasses.replace(part, effect=(effect,)) if part is concept else part for part in sample().concepts
    )
    old = dataclasses.replace(with_class(sample(), "ripple", image_reliance=weaker), concepts=concepts)
    text = 'review = "r.toml"\nmax_drop = { image_reliance = 0.2 }'
    for review, outcome in ((None, "fail"), (Review("r.toml", (entry("ripple", "accepted"),)), "pass")):
        losses = compare_with_baseline(policy(text), Compared(sample(), old, None, None, "old", review))
        assert losses["ripple", "image_reliance"][1].outcome == outcome


def test_a_shortcut_that_the_audit_has_no_counterpart_of_is_not_passed_over() -> None:
    gone = judged("", dataclasses.replace(entry("ripple", "shortcut"), fingerprint="0" * 8))
    said = "the review calls the thing of ripple a shortcut, and no concept of this audit is the same"
    assert any(note.startswith(said) for note in gone.notes)
    unmeasured = judged("", entry("ripple", "shortcut", kind="watermark"))
    assert unmeasured.exit_code == 2
    assert "the factor 'watermark' was not measured" in unmeasured.problems[0]
    stranger = judged("", dataclasses.replace(entry("ripple", "accepted"), class_name="rippel"))
    assert stranger.problems == ("the review has an entry for 'rippel', and no class of the audit is called so",)


@pytest.mark.parametrize(("word", "code"), [("warn", 0), ("fail", 1), ("pass", 0)])
def test_what_nobody_has_reviewed_is_named(word: str, code: int) -> None:
    verdict = judged(f'on_unreviewed = "{word}"', entry("ripple", "accepted"), entry("ember", "unclear"))
    unreviewed = [rule for rule in verdict.rules if rule.key.startswith("on_unreviewed.")]
    assert {rule.effect for rule in unreviewed} == {word}
    assert "ember" in {rule.class_name for rule in unreviewed}
    assert "ripple" not in {rule.class_name for rule in unreviewed}
    assert verdict.exit_code == code
    note = next(note for note in verdict.notes if note.startswith("ember depends on"))
    assert "which nobody has reviewed" in note
    assert strongest("ember").images[0].path in note


def test_a_review_says_nothing_of_a_class_that_is_always_wrong_or_hardly_seen() -> None:
    wrong = judge(with_accuracy(sample(), "trio", 0), policy('review = "r.toml"'), Given(review=Review("r.toml", ())))
    assert wrong.exit_code == 2
    assert "trio: only 0 of 100 images examined are classified correctly" in wrong.problems[0]
    record = of_class(sample(), "ripple").image_reliance
    assert record is not None
    few = with_class(sample(), "ripple", image_reliance=dataclasses.replace(record, n=12, n_correct=12, thin=True))
    for entries in ((), (entry("ripple", "shortcut"),)):
        verdict = judge(
            few, policy('review = "r.toml"\non_unreviewed = "fail"'), Given(review=Review("r.toml", entries))
        )
        mine = [rule for rule in verdict.rules if rule.class_name == "ripple"]
        assert {(rule.outcome, rule.effect) for rule in mine} == {("thin", "warn")}
        assert "12 images were examined, 30 are needed" in mine[0].why
    whole = judged('on_unreviewed = "pass"')
    assert {rule.class_name for rule in whole.rules} == set(sample().data.classes)  # each was looked at


def test_an_exempt_dependence_shows_the_reason_of_its_exception() -> None:
    exception = '[[exceptions]]\nclass = "ripple"\nrule = "on_unreviewed"\nreason = "looked at"\nuntil = 2999-01-01\n'
    verdict = judged(f'on_unreviewed = "fail"\n{exception}')
    assert {rule.why for rule in verdict.by_effect("exempt")} == {"accepted until 2999-01-01: looked at"}


def test_of_several_entries_the_strictest_counts() -> None:
    assert judged("", entry("ripple", "accepted"), entry("ripple", "shortcut")).exit_code == 1


def test_entries_match_by_kind_class_and_fingerprint() -> None:
    concept = strongest("ripple")
    good = entry("ripple", "accepted")
    assert match(good, concept)
    for change in ({"kind": "border"}, {"class_name": "ember"}, {"fingerprint": "0" * 8}):
        assert not match(dataclasses.replace(good, **change), concept)


GOOD = '[[entry]]\nclass = "a"\nkind = "region"\nfingerprint = "x"\nname = "n"\nverdict = "shortcut"\nwho = "w"\n'
GOOD += 'when = 2026-01-02\nwhy = "y"\nlimit = 0.1\n'


def test_a_review_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(GOOD + GOOD.replace('"shortcut"', '"accepted"').replace("limit = 0.1\n", ""))
    first, second = load_review(tmp_path / "r.toml").entries
    assert first == Entry("a", "region", "x", "n", "shortcut", "w", "2026-01-02", "y", 0.1)
    assert (second.verdict, second.limit) == ("accepted", None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "unknown key 'x'"),
        ("entry = 1", r"expected \[\[entry\]\] tables"),
        (GOOD.replace("shortcut", "bad"), r"expected accepted, shortcut, unclear, got 'bad' in 'entry\[0\].verdict'"),
        (GOOD.replace("2026-01-02", '"soon"'), r"expected a date such as 2027-01-31, got 'soon' in 'entry\[0\].when'"),
        (GOOD.replace('name = "n"\n', ""), r"missing key 'name' in 'entry\[0\]'"),
        (GOOD.replace('fingerprint = "x"\n', ""), "missing key 'fingerprint'"),
        (GOOD.replace("0.1", "2"), r"expected a share in 0..1, got 2 in 'entry\[0\].limit'"),
        (GOOD.replace('who = "w"', "who = 1"), r"expected a text, got int in 'entry\[0\].who'"),
        (GOOD + "more = 1", r"unknown key 'more' in 'entry\[0\]'"),
        ("= 1", "not TOML"),
    ],
)
def test_a_wrong_review_names_the_key(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(UsageError, match=message):
        load_review(tmp_path / "r.toml")
