"""What the first page says follows from audit.json, for audits drawn at random, and is no surer than the interval."""

from __future__ import annotations

import dataclasses
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from report_reliance import build_scenario, judged
from report_results import build_result

from salve_audit.config import AuditConfig, described
from salve_audit.reliance.survival import wilson
from salve_audit.report.commands import changed_settings, rerun, rounded_up
from salve_audit.report.conclusions import Conclusions, Group, images_to_decide, smallest_detectable
from salve_audit.report.labels import address_classes, label_classes
from salve_audit.report.numbers import count, percent, percent_interval, strength, strength_interval, unmarked
from salve_audit.report.recommend import recommend
from salve_audit.report.sentences import class_sentence, headline, trust_ticks, would_have_found
from salve_audit.report.view.front import build_front
from salve_audit.report.view.page import ClassName
from salve_audit.results import AuditResult, ImageReliance
from salve_audit.results.intervals import wilson_interval
from salve_audit.results.relabel import without_pixels

BASE = build_result(6, plain_names=True, limit=None)
shares = st.integers(0, 100)


def _reliance(lost: int, chance: int | None, n: int, thin: bool) -> ImageReliance:
    lost = min(lost, n)
    low, high = wilson(lost, n)
    bounds = (None, None) if chance is None else wilson(min(chance, n), n)
    share = None if chance is None else min(chance, n) / n
    return ImageReliance(n, n, lost / n, low, high, "region", None, 1, 1, 1, 5, share, thin, *bounds)


class Drawn:
    """An audit whose failure is not reported with 400 kB of its numbers."""

    def __init__(self, result: AuditResult) -> None:
        self.result = result

    def __repr__(self) -> str:
        return str([info.image_reliance for info in self.result.classes])


@st.composite
def audits(draw: st.DrawFn) -> Drawn:
    classes = []
    for info in BASE.classes:
        measured = None
        if draw(st.booleans()) or draw(st.booleans()):
            n = draw(st.sampled_from((12, 60, 100)))
            measured = _reliance(draw(shares), draw(st.none() | shares), n, n < 20)
        classes.append(dataclasses.replace(info, image_reliance=measured))
    return Drawn(dataclasses.replace(BASE, classes=tuple(classes)))


def _names(result: AuditResult) -> dict[str, ClassName]:
    labels = label_classes(info.name for info in result.classes)
    anchors = address_classes(labels.values())
    return {label: ClassName(label, name, anchors[label]) for name, label in labels.items()}


def _numbers(text: str) -> set[str]:
    """Every number that a reader meets, but for those in names."""
    return set(re.findall(r"\d+(?:[.,]\d+)*", re.sub(r"concept \d+|class \d{4}", "", unmarked(text))))


def _known_numbers(result: AuditResult, conclusions: Conclusions) -> set[str]:
    """What page 1 may say: numbers of audit.json as they are rounded, counts of classes, and the rules' own."""
    texts = [
        percent(conclusions.threshold, 100),
        "95 %",
        "30 images",
        "20 flips",
        *map(str, range(len(result.classes) + 1)),
    ]
    if conclusions.detectable is not None:
        texts.append(percent(conclusions.detectable, 100))
    for each in conclusions.ranked:
        info, reliance = each.info, each.reliance
        texts += [strength(info.alpha_hat.flip.median), strength_interval(*info.judged_interval) or ""]
        texts += [percent(info.accuracy, info.n), str(info.dominant_feature)]
        if reliance is not None:
            texts += [percent(reliance.reliance, reliance.n), str(reliance.n)]
            texts.append(percent_interval(reliance.low, reliance.high, reliance.n))
            texts += [] if reliance.chance is None else [percent(reliance.chance, n) for n in (reliance.n, 100)]
            needed = images_to_decide(reliance, conclusions.threshold)
            texts += [] if needed is None else [count(max(needed, reliance.n + 1))]
            texts.append(percent(rounded_up(reliance.high), 100))
    return set().union(*map(_numbers, texts))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(audits())
def test_every_number_of_page_1_is_that_of_the_audit(drawn: Drawn) -> None:
    result = drawn.result
    conclusions = Conclusions(result)
    front = build_front(conclusions, _names(result))
    by_name = {info.name: info for info in result.classes}
    rows = [row for group in front.groups for row in group.rows]
    assert sorted(row.name.full for row in rows) == sorted(by_name)
    assert sum(int(group.total) for group in front.groups) == len(by_name)
    for row in rows:
        record = by_name[row.name.full]
        if conclusions.is_measured and record.image_reliance is None:  # no strength among the images lost
            assert (row.value, row.interval, row.crop_note) == ("–", "", "not measured")
    for row in rows:
        reliance = by_name[row.name.full].image_reliance
        if reliance is not None and conclusions.is_measured:
            assert row.value == percent(reliance.reliance, reliance.n)
            assert row.interval == percent_interval(reliance.low, reliance.high, reliance.n)
            low, high = (float(v) / 100 for v in row.interval.split("–"))
            if reliance.n <= 100:  # rounded outwards
                assert low <= reliance.low + 1e-9
                assert high >= reliance.high - 1e-9
    said = [front.headline, *front.also, front.note, *(f"{tick.title} {tick.text}" for tick in front.ticks)]
    said += [step.action for step in front.next_steps] + [group.note for group in front.groups]
    said += [f"{row.value} {row.interval} {row.crop_note} {row.second}" for row in rows]
    assert _numbers(" ".join(said)) <= _known_numbers(result, conclusions)
    dependent = [
        info.name
        for info in result.classes
        if (r := info.image_reliance) is not None and not r.thin and r.low > 0.5 and not r.is_by_chance
    ]
    assert {each.name for each in conclusions.of(Group.DEPENDS)} == set(dependent)
    headline_said = unmarked(front.headline)
    if dependent:
        assert re.match(rf"{len(dependent)} of {conclusions.n_judged} class|The class loses", headline_said)
    else:
        assert "lose" not in headline_said or headline_said.startswith("Nothing fragile was found: none of")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(audits())
def test_nothing_is_surer_than_its_interval(drawn: Drawn) -> None:
    conclusions = Conclusions(drawn.result)
    for each in conclusions.ranked:
        said = unmarked(class_sentence(each, conclusions.threshold))
        reliance = each.reliance
        if reliance is None or reliance.thin:
            continue
        if reliance.low <= 0.5 < reliance.high:
            assert "Undecided: the interval contains 50" in said.replace("\u00a0", " ")
        if reliance.is_by_chance and reliance.high <= 0.5:
            assert said.startswith("No one thing was found to matter")
    order = [each.group for each in conclusions.ranked]
    assert order == sorted(order, key=list(Group).index)
    measured = [each.excess for each in conclusions.of(Group.NOT_FOUND)]
    assert measured == sorted(measured, key=lambda excess: -(excess or 0.0))


@pytest.mark.parametrize(
    ("scenario", "said"),
    [
        ("calm", "Nothing fragile was found: none of 8 classes loses more than half of its images"),
        ("fragile", "8 of 8 classes lose more than half of their images when one thing is removed."),
        ("open", "No class was shown to depend on one thing, but the images do not decide 8 of 8 classes."),
        ("arrays", "What the classes depend on in their images was not measured"),
        ("two", "1 of 2 classes loses more than half of its images when one thing is removed."),
    ],
)
def test_headline(scenario: str, said: str) -> None:
    assert said in headline(Conclusions(build_scenario(scenario)))


def test_a_null_result_says_what_would_have_been_found() -> None:
    conclusions = Conclusions(build_scenario("calm"))
    share = conclusions.detectable
    assert share is not None
    for each in conclusions.of(Group.NOT_FOUND):
        assert each.reliance is not None
        low, high = wilson_interval(share, each.reliance.n)
        found = dataclasses.replace(each.reliance, reliance=share, low=low, high=high)
        assert not found.is_by_chance
    assert f"A thing that costs {percent(share, 100)} of a class's images or more" in would_have_found(conclusions)
    advice = recommend(conclusions)
    assert advice[0].gate == "fail_over_reliance = 0.15"
    assert advice[0].command == "salve-audit gate audit.json --fail-over-reliance 0.15"


def test_smallest_detectable_is_the_smallest() -> None:
    record = _reliance(0, 10, 100, False)
    share = smallest_detectable(record)
    assert share is not None
    for lost, by_chance in ((round(100 * share), False), (round(100 * share) - 1, True)):
        low, high = wilson_interval(lost / 100, 100)
        assert dataclasses.replace(record, reliance=lost / 100, low=low, high=high).is_by_chance == by_chance


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 500), st.integers(1, 500))
def test_wilson_interval_is_scipys(hits: int, n: int) -> None:
    hits = min(hits, n)
    assert wilson_interval(hits / n, n) == pytest.approx(wilson(hits, n), abs=1e-9)


def test_images_to_decide_shrink_the_interval_enough() -> None:
    record = _reliance(45, 0, 100, False)
    n = images_to_decide(record, 0.5)
    assert n is not None
    assert wilson_interval(0.45, n)[1] == pytest.approx(0.5, abs=0.005)
    assert images_to_decide(_reliance(50, 0, 100, False), 0.5) is None


def test_a_review_tells_accepted_dependence_from_the_rest() -> None:
    result = build_scenario("fragile")
    index = {concept.class_name: concept.index for concept in result.concepts}
    names = [each.name for each in Conclusions(result).dependent]
    reviewed = {index[names[0]]: "accepted", index[names[1]]: "shortcut", index[names[2]]: "unclear"}
    conclusions = Conclusions(result, reviewed)
    by_name = {each.name: each for each in conclusions.ranked}
    assert [by_name[name].review for name in names[:4]] == ["accepted", "shortcut", "unclear", "unreviewed"]
    assert [each.name for each in conclusions.of(Group.ACCEPTED)] == names[:1]
    n = len(conclusions.dependent)
    front = build_front(conclusions, _names(result))
    assert f"Reviewed: 1 accepted as the object itself, 1 judged a shortcut, {n - 2} not reviewed." in front.also
    chips = {row.name.full: row.chips for group in front.groups for row in group.rows}
    assert [chips[name] for name in names[:4]] == [("accepted",), ("shortcut",), ("unclear",), ("unreviewed",)]
    advised = {each.class_name: each.action for each in recommend(conclusions)}
    assert names[0] not in advised
    assert advised[names[1]].startswith("Collect images of")
    assert advised[names[3]].startswith("Decide whether the outlined thing is the object itself or a shortcut.")
    alone = build_front(Conclusions(result), _names(result))
    assert "Whether that thing is the object itself or a shortcut has not been reviewed." in alone.also
    assert all(row.chips == () for group in alone.groups for row in group.rows)


def test_a_policys_limit_is_the_threshold() -> None:
    result = build_scenario("fragile")
    conclusions = Conclusions(judged(result, fail_over_reliance=0.8))
    assert conclusions.threshold == 0.8
    assert "lose more than 80 % of their images" in headline(conclusions).replace("\u00a0", " ")


def test_ticks_tell_what_is_missing() -> None:
    signs = {
        name: [tick.sign for tick in trust_ticks(Conclusions(build_scenario(name)))] for name in ("calm", "arrays")
    }
    assert signs == {"calm": ["yes", "yes", "partly"], "arrays": ["partly", "partly", "partly"]}


@pytest.mark.parametrize(("chance", "sign"), [(0, "yes"), (50, "partly")])
def test_images_are_not_enough_where_losses_up_to_the_limit_pass_for_chance(chance: int, sign: str) -> None:
    classes = [dataclasses.replace(info, image_reliance=_reliance(0, chance, 100, False)) for info in BASE.classes]
    conclusions = Conclusions(dataclasses.replace(BASE, classes=tuple(classes)))
    assert trust_ticks(conclusions)[2].sign == sign


def test_without_images_page_1_says_why_and_describes_the_thing() -> None:
    result = without_pixels(build_scenario("failing"))
    front = build_front(Conclusions(result), _names(result))
    assert "What it looks like is not shown: images are kept out of the results (--no-images)." in front.also
    row = front.groups[0].rows[0]
    assert row.crop is None
    assert unmarked(row.crop_note).replace("\u00a0", " ") == "concept 9, 10 % of the image, in 92 of 100 images"
    assert front.next_steps[0].command == "salve-audit explain resnet18_cifar10_64.pt IMAGE audit.json"
    shown = build_scenario("failing")
    assert not any("not shown" in text for text in build_front(Conclusions(shown), _names(shown)).also)


def test_every_finding_gets_advice_with_a_command_and_a_check() -> None:
    for scenario in ("mixed", "open", "fragile", "arrays", "failing"):
        conclusions = Conclusions(build_scenario(scenario))
        advice = recommend(conclusions)
        concerned = {each.class_name for each in advice}
        for each in conclusions.of(Group.DEPENDS, Group.UNDECIDED):
            assert each.name in concerned
        assert all(each.action and each.check for each in advice)
        assert [each.weight for each in advice] == sorted(each.weight for each in advice)


def test_a_factor_that_nobody_foresaw_gets_advice_too() -> None:
    result = build_scenario("fragile")
    classes = [
        dataclasses.replace(
            info, image_reliance=dataclasses.replace(info.image_reliance, kind="lens flare", concept=None)
        )
        if info.image_reliance is not None
        else info
        for info in result.classes
    ]
    conclusions = Conclusions(dataclasses.replace(result, classes=tuple(classes)))
    advice = recommend(conclusions)
    assert advice[0].action.startswith("Vary it at random in training")
    assert "Without its lens flare" in advice[0].evidence


def test_only_settings_that_are_no_defaults_are_told() -> None:
    """`commands.DEFAULTS` says again what the configuration declares, since a report is rendered without it."""
    config = dict(described(AuditConfig(model="m.pt", data="data")))
    result = dataclasses.replace(BASE, provenance=dataclasses.replace(BASE.provenance, config=config))
    assert changed_settings(result) == {}
    assert rerun(result) == "salve-audit resnet18_cifar10_64.pt data/cifar10"
    changed = {**config, "seed": 3, "images": False, "trust_model": True, "interventions": ["salve"], "head": "fc"}
    result = dataclasses.replace(result, provenance=dataclasses.replace(BASE.provenance, config=changed))
    assert rerun(result).endswith("cifar10 --head fc --no-images --interventions salve --seed 3 --trust-model")
