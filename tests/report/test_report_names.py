"""Names of classes: shown and not obeyed, short, isolated, and never two alike."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from salve_audit.report.charts.svg import distinct_labels, text_width
from salve_audit.report.labels import address_classes, label_classes
from salve_audit.report.numbers import LONGEST_NAME, clean, clip, isolated, name, names, unmarked

any_names = st.lists(st.text(max_size=80), min_size=1, max_size=12, unique=True)


@given(any_names)
def test_labels_are_short_clean_and_unique(given_names: list[str]) -> None:
    labels = label_classes(given_names)
    assert len(set(labels.values())) == len(given_names)
    for label in labels.values():
        assert 0 < len(label) <= LONGEST_NAME + 2
        assert clean(label) == label
    anchors = address_classes(labels.values())
    assert len(set(anchors.values())) == len(anchors)
    assert all(anchor.startswith("class-") for anchor in anchors.values())


def test_short_clean_names_stay_as_they_are() -> None:
    assert label_classes(["cat", "自転車", "🦒 giraffe"]) == {
        "cat": "cat",
        "自転車": "自転車",
        "🦒 giraffe": "🦒 giraffe",
    }
    assert address_classes(["ripple"])["ripple"] == "class-ripple"


def test_long_names_that_differ_in_the_middle_get_different_labels() -> None:
    long = ["x" * 150 + letter + "y" * 149 for letter in "abc"]
    labels = label_classes(long)
    assert [labels[each] for each in long] == [f"{'x' * 18}…{'y' * 17} ‹{i}›" for i in (1, 2, 3)]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("‮gnp.exe", "‹U+202E›gnp.exe"),
        ("a\x00b\x1b", "a‹U+0000›b‹U+001B›"),
        ("zero\u200bwidth", "zero‹U+200B›width"),
        ("\udcff", "‹U+DCFF›"),
        ("ک\u200cم", "ک\u200cم"),
        ("👩\u200d🚀", "👩\u200d🚀"),
    ],
)
def test_controls_are_shown_not_obeyed(text: str, shown: str) -> None:
    assert clean(text) == shown


def test_names_in_sentences_are_isolated() -> None:
    said = isolated(f"Without it, {name('زرافة')} loses 9 %.")
    assert said == "Without it, \u2068زرافة\u2069 loses 9 %."
    assert unmarked(names(["a", "b", "c"])) == "a, b and c"
    assert "\u2069" not in isolated("a\u2069b")  # a stray end of an isolate is shown


@given(st.text(max_size=300), st.integers(5, 60))
def test_clipping_keeps_both_ends(text: str, most: int) -> None:
    short = clip(text, most)
    assert len(short) <= most
    whole = clean(text).replace("\n", " ")
    if len(whole) <= most:
        assert short == whole
    else:
        head, tail = short.split("…", 1) if short.count("…") == 1 else (short[:1], short[-1:])
        assert whole.startswith(head)
        assert whole.endswith(tail)


def test_labels_of_one_chart_are_distinct_and_fit() -> None:
    texts = [f"{'a' * 30}{letter}{'b' * 30}" for letter in "xyz"] + ["short"]
    labels = distinct_labels(texts, 120)
    assert len(set(labels)) == 4
    assert labels[3] == "short"
    assert all(text_width(label) <= 121 for label in labels)
