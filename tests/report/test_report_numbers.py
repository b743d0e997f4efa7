"""Numbers for readers: rounding, signs, reasons."""

from __future__ import annotations

import pytest

from salve_audit.report import numbers
from salve_audit.report.tables import Chips, Column, Missing, make_table


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "not reached"),
        (0.0, "0"),
        (1.0, "1.00"),
        (0.9996, "1.00"),
        (9.995, "9.99"),  # 9.995 is stored as 9.9949...
        (9.996, "10.0"),
        (99.96, "100"),
        (0.0123456, "0.0123"),
        (0.001, "0.00100"),
        (0.00099999, "0.00100"),
        (1234.5, "1,230"),
        (99_960, "1.00 × 10⁵"),
        (0.00012345, "1.23 × 10⁻⁴"),
        (3.2e7, "3.20 × 10⁷"),
        (-0.5, "−0.500"),
    ],
)
def test_strength(value: float | None, text: str) -> None:
    assert numbers.strength(value).replace("\u00a0", " ") == text


@pytest.mark.parametrize(("value", "text"), [(0.12345, "12.3 %"), (1.0, "100 %"), (0.0, "0.0 %"), (0.9996, "100 %")])
def test_percent(value: float, text: str) -> None:
    assert numbers.percent(value).replace("\u00a0", " ") == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.105, "+10.5"), (-0.0301, "−3.0"), (0.0, "±0.0"), (-0.0004, "±0.0"), (-1.0, "−100")]
)
def test_points(value: float, text: str) -> None:
    assert numbers.points(value) == text


@pytest.mark.parametrize(
    ("low", "high", "n", "text"),
    [(0.923, 0.996, 100, "92–100"), (0.0, 0.031, 60, "0–4"), (0.4, 0.5, 100, "40–50"), (0.4123, 0.5, 500, "41.2–50.0")],
)
def test_intervals_of_few_images_are_rounded_outwards(low: float, high: float, n: int, text: str) -> None:
    assert numbers.percent_interval(low, high, n) == text
    assert numbers.percent(0.923, 100) == "92\u00a0%"


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [(1.0, 2.0, "1.00 to 2.00"), (1.0, None, "at least 1.00"), (None, 2.0, "at most 2.00"), (None, None, None)],
)
def test_strength_interval(low: float | None, high: float | None, text: str | None) -> None:
    assert numbers.strength_interval(low, high) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "< 0.001"), (0.0099, "0.0099"), (0.41234, "0.41"), (0.7, "0.70"), (0.0995, "0.10"), (1.0, "1.00")],
)
def test_p_value(value: float, text: str) -> None:
    assert numbers.p_value(value) == text


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([], ""),
        (["a"], "a"),
        (["a", "b"], "a and b"),
        (["a", "b", "c"], "a, b and c"),
        (list("abcdefg"), "a, b, c, d, e and 2 more"),
    ],
)
def test_names(values: list[str], text: str) -> None:
    assert numbers.unmarked(numbers.names(values)) == text


def test_moment_reads_zones_and_their_absence() -> None:
    assert numbers.moment("2026-07-04T12:34:56Z") == numbers.moment("2026-07-04T14:34:56+02:00")
    assert numbers.moment("2026-07-04T12:34:56") == numbers.moment("2026-07-04T12:34:56Z")


def test_missing_values_get_one_footnote_per_reason() -> None:
    columns = [Column("c", "name"), Column("x"), Column("y"), Column("f", "text")]
    rows = [
        ["a", Missing("r1"), Missing("r2"), Chips(("p", "q"))],
        ["b", "1", Missing("r1"), Chips(())],
        ["c", "2", "3", "4"],
    ]
    table = make_table("t", columns, rows, 2, "classes[]")
    assert table.notes == (("a", "r1"), ("b", "r2"))
    assert [cell.mark for cell in table.rows[1]] == ["", "", "a", ""]
    assert table.rows[1][3].text == "–"
    assert table.cut == "The first 2 of 3 rows; all are in audit.json under classes[]."
    assert make_table("t", columns, rows, 3, "classes[]").cut == ""
