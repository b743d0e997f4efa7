"""Charts: marks sit where the numbers are, and nothing leaves the image."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from salve_audit.interventions.registry import Role
from salve_audit.report.charts.axes import Scale, alpha_scale, share_scale
from salve_audit.report.charts.boxes import BoxGroup, Spread, draw_boxes
from salve_audit.report.charts.curves import Panel, draw_panel
from salve_audit.report.charts.effects import EffectLine, draw_effects
from salve_audit.report.charts.frontier import FrontierPoint, draw_frontier
from salve_audit.report.charts.grid import GridRow, draw_grid
from salve_audit.report.charts.lanes import Lane, draw_lane, draw_lane_axis
from salve_audit.report.charts.methods import MethodRow, draw_methods
from salve_audit.report.charts.svg import Canvas, Drawing, num, shortened, text_width
from salve_audit.report.charts.thresholds import LEFT, ThresholdRow, draw_thresholds
from salve_audit.report.view.features import MAP_FEATURES

SVG = "{http://www.w3.org/2000/svg}"
HUGE = 3.7e8


ROWS = [
    ThresholdRow("a", 0.4, 0.7, 0.5, 0.4, 0.6, 0.45),
    ThresholdRow("b", 1.0, None, HUGE, 2.0, None, None),
    ThresholdRow("c", None, None, None, None, None, None),
    ThresholdRow("d" * 200, 1.0, 0.9, 1.1, 1.0, 1.2, 0.0),
]
VALUES = [0.5, 0.4, 0.6, 1.1, 1.2]


def _dots() -> Drawing:
    return draw_thresholds(ROWS, VALUES, 1.0, "Thresholds")


def _panel() -> Drawing:
    marks = (("analytical", 0.5), ("numerical", HUGE), ("flip", None))
    return draw_panel(Panel("x & <y>", (0.0, 1.0, 2.0), (1.0, 0.5, 0.0), (0.9, 0.9, 0.8), marks, 1.0), 2.08, "linear")


def _boxes() -> Drawing:
    spreads = (
        Spread("analytical", (0.1, 0.2, 0.3, 0.4, HUGE)),
        Spread("numerical", (0.1, None, None, None, None)),
        Spread("flip", (None,) * 5),
    )
    return draw_boxes([BoxGroup("a", spreads), BoxGroup("b", ())], [0.1, HUGE], "Boxes")


def _grid() -> Drawing:
    rows = [GridRow("1", (4.0, -1.0, None), frozenset({0})), GridRow("2", (0.0, 0.0, 0.0), frozenset())]
    return draw_grid(rows, ["a", "b" * 90, "c"], "Grid")


def _effects() -> Drawing:
    lines = [EffectLine("a", (-1.0, -0.5, 0.0, 0.1)), EffectLine("b", (None, None, 0.0, None))]
    return draw_effects((-1.0, -0.5, 0.0, 0.5), lines, "Feature 7")


def _methods() -> Drawing:
    rows = [MethodRow("SALVE", 0.9, 0.88, 0.93, Role.SALVE), MethodRow("null", None, None, None, Role.NULL)]
    return draw_methods([("50 %", rows), ("5 %", rows[:1])], 0.95, "Methods")


def _frontier() -> Drawing:
    points = [
        FrontierPoint(f"v{i}", l0, r2, accuracy, i == 1)
        for i, (l0, r2, accuracy) in enumerate([(0.0, -3.0, 0.1), (50, 0.9, 1.01)])
    ]
    return draw_frontier(points, "Frontier")


def _narrow_dots() -> Drawing:
    return draw_thresholds(ROWS, VALUES, 1.0, "Thresholds", narrow=True)


ALL = [_dots, _narrow_dots, _panel, _boxes, _grid, _effects, _methods, _frontier]


@pytest.mark.parametrize("draw", ALL)
def test_well_formed_described_and_inside(draw: Callable[[], Drawing]) -> None:
    drawing = draw()
    root = ElementTree.fromstring(str(drawing.svg))
    assert [child.tag for child in root[:2]] == [f"{SVG}title", f"{SVG}desc"]
    assert all((child.text or "").strip() for child in root[:2])
    _, _, width, height = (float(v) for v in root.get("viewBox", "").split())
    for text in root.iter(f"{SVG}text"):
        assert -1 <= float(text.get("x", "nan")) <= width
        assert 0 <= float(text.get("y", "nan")) <= height
    for path in root.iter(f"{SVG}path"):
        for x, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path.get("d", "")):
            assert -1 <= float(x) <= width + 1, path.get("d")
            assert -1 <= float(y) <= height + 1, path.get("d")
    numbers = re.sub(r">[^<]*<", "><", str(drawing.svg)).replace("dominant", "")
    assert not re.search(r"\b(nan|inf)\b", numbers)


def test_axis_titles_name_quantity_and_unit() -> None:
    texts = {draw.__name__: str(draw().svg) for draw in ALL}
    assert "no unit" in texts["_dots"]
    assert "accuracy, %" in texts["_panel"]
    assert "change, points" in texts["_effects"]
    assert "accuracy of the others, %" in texts["_methods"]
    assert "active latents per image" in texts["_frontier"]


def test_narrow_chart_is_readable_on_a_telephone() -> None:
    """At most as wide as the text of a 390 px screen, so that it is not scaled; nothing is set beyond its edges."""
    drawing = _narrow_dots()
    assert drawing.width <= 361
    for text in ElementTree.fromstring(str(drawing.svg)).iter(f"{SVG}text"):
        width, x = text_width(text.text or "", float(text.get("font-size", "nan"))), float(text.get("x", "nan"))
        before = {"start": 0.0, "middle": 0.5, "end": 1.0}[text.get("text-anchor", "start")] * width
        assert x - before >= 0
        assert x - before + width <= drawing.width


def test_mark_and_limit_sit_on_their_values() -> None:
    row = ThresholdRow("a", 1.5, 3.0, 2.0, 1.0, 4.0, 2.5)
    root = ElementTree.fromstring(str(draw_thresholds([row], [1.0, 4.0], 1.0, "t").svg))
    scale = alpha_scale([1.0, 4.0, 1.0], LEFT, 680 - 26 - 14)
    limit = next(p for p in root.iter(f"{SVG}path") if p.get("stroke-dasharray") == "5 3")
    assert float(re.findall(r"M([\d.]+)", limit.get("d", ""))[0]) == pytest.approx(scale(1.0), abs=0.06)
    flip = next(p for p in root.iter(f"{SVG}path") if p.get("fill") == "#0072b2")
    left = float(re.findall(r"M([\d.]+)", flip.get("d", ""))[0])
    assert left + 4.4 == pytest.approx(scale(2.0), abs=0.11)


def test_lanes_put_marks_at_shares_of_their_width() -> None:
    lane = Lane(0.5, 0.25, None, "alarm", "a & <b>: 50 %", chance=0.1, limit=0.5, before=0.9)
    root = ElementTree.fromstring(str(draw_lane(lane)))
    assert (root.get("width"), root.get("aria-label")) == ("100%", "a & <b>: 50 %")
    assert [circle.get("cx") for circle in root.iter(f"{SVG}circle")] == ["88.4%", "50.0%"]
    spans = [(line.get("x1"), line.get("x2")) for line in root.iter(f"{SVG}line")]
    assert ("26.0%", "98.0%") in spans  # to the end: the upper bound is open
    assert "25 %" in draw_lane_axis([(0.25, "25 %")])


def test_scales_are_monotone_and_hit_their_ends() -> None:
    for scale in (Scale(0, 5, 10, 110), Scale(0, 500, 10, 110, "log1p"), Scale(0.1, 500, 10, 110, "log")):
        assert scale(scale.low) == pytest.approx(10)
        assert scale(scale.high) == pytest.approx(110)
        places = [scale(t) for t in scale.ticks()]
        assert places == sorted(places)
        assert len(places) >= 3
        assert all(b - a >= 26 for a, b in pairwise(places))


@pytest.mark.parametrize("values", [[None], [], [0.0], [1e-9], [1e12], [0.3, 0.31]])
def test_alpha_scale_survives_extremes(values: list[float | None]) -> None:
    scale = alpha_scale(values, 0, 600)
    assert all(0 <= scale.clipped(v) <= 600 for v in values if v is not None)
    assert 1 <= len(scale.ticks()) <= 21


@pytest.mark.parametrize("values", [[0.5], [0.0, 1.0], [0.991, 0.992], [1.0], []])
def test_share_scale_holds_its_values(values: list[float]) -> None:
    scale = share_scale(values, 0, 300)
    assert all(-1e-9 <= scale(v) <= 300 + 1e-9 for v in values)
    assert 0 <= scale.low < scale.high


def test_outliers_do_not_flatten_the_rest_and_become_arrows() -> None:
    scale = alpha_scale([1.0, 2.0, 3.0, 4.0, 5000.0], 0, 600)
    assert scale.high == pytest.approx(1.04 * 20 * 3)
    assert scale.shown(4.0) == 4.0
    assert scale.shown(5000.0) is None
    assert alpha_scale([1.0], 0, 600, least=9.0)(9.0) <= 600
    rows = [ThresholdRow("a", None, None, 5000.0, 4000.0, 6000.0, None)]
    svg = str(draw_thresholds(rows, [1.0, 2.0, 3.0, 4.0, 5000.0], None, "t").svg)
    assert 'stroke="#0072b2" stroke-width="1.8"' in svg


def test_curve_is_cut_at_the_end_of_the_axis() -> None:
    panel = Panel("a", (0.0, 1.0, 3.0), (1.0, 0.6, 0.0), (0.9, 0.9, 0.9), (), None)
    root = ElementTree.fromstring(str(draw_panel(panel, 2.0, "linear").svg))
    own = [p.get("d", "") for p in root.iter(f"{SVG}path")][-1]
    y = Scale(0.0, 1.0, 140, 30)
    assert own.endswith(f"L292 {num(y(0.3))}")


def test_effects_lie_on_a_linear_axis() -> None:
    lines = [EffectLine("a", (-0.3, -0.2, -0.1, 0.0, 0.1))]
    root = ElementTree.fromstring(str(draw_effects((-2.0, -1.0, -0.5, 0.0, 2.0), lines, "t").svg))
    at = [(t.text, float(t.get("x", "nan"))) for t in root.iter(f"{SVG}text") if re.fullmatch(r"[\d.]+", t.text or "")]
    at = [(text, x) for text, x in at if x > 46]
    assert [text for text, _ in at] == ["2", "1", "0.5", "0", "2"]
    zero = at[3][1]
    unit = (at[4][1] - zero) / 2
    assert [(x - zero) / unit for _, x in at] == pytest.approx([-2, -1, -0.5, 0, 2], abs=0.01)


@pytest.mark.parametrize("n_columns", [3, 10, 40])
def test_the_largest_map_fits_on_a_page(n_columns: int) -> None:
    """A4 less margins is 998 px high; heading, lead and caption take at most 150 of them."""
    rows = [GridRow(str(i), tuple(float(j + 1) for j in range(n_columns)), frozenset()) for i in range(MAP_FEATURES)]
    drawing = draw_grid(rows, ["a class with a long name"] * n_columns, "t")
    assert drawing.height <= 848


def test_failing_method_is_written_at_the_edge() -> None:
    rows = [MethodRow("SALVE", 0.9, 0.88, 0.93, Role.SALVE), MethodRow("null", 0.31, 0.3, 0.32, Role.NULL)]
    svg = str(draw_methods([("5 %", rows)], 0.95, "Methods").svg)
    assert ">31.0 %</text>" in svg
    assert ">80</text>" in svg or ">85</text>" in svg or ">88</text>" in svg
    assert ">40</text>" not in svg


def test_salve_is_never_put_at_the_edge() -> None:
    rows = [MethodRow("SALVE", 0.6, 0.58, 0.63, Role.SALVE), *[MethodRow("x", 0.9, 0.89, 0.91, Role.RIVAL)] * 5]
    assert ">60.0 %</text>" not in str(draw_methods([("5 %", rows)], 0.95, "Methods").svg)


def test_series_is_one_path() -> None:
    rows = [GridRow(str(i), tuple(float(j + 1) for j in range(40)), frozenset()) for i in range(40)]
    assert str(draw_grid(rows, [str(j) for j in range(40)], "t").svg).count("<path") < 12


def test_texts_that_need_shaping_are_given_apart() -> None:
    canvas = Canvas(100, 100, "t", "d")
    canvas.text((10, 20), "سيارة", anchor="end", bold=True)
    canvas.text((10, 40), "plain 文字")
    canvas.text((10, 60), "strength α̂")
    drawing = canvas.render()
    (label,) = drawing.labels
    assert (label.text, label.x, label.y, label.anchor, label.bold) == ("سيارة", 10, 20, "end", True)
    assert "سيارة" in drawing.svg
    assert "سيارة" not in drawing.bare
    assert "plain 文字" in drawing.bare
    assert "αˆ" in drawing.bare
    assert "α̂" not in drawing.bare


def test_shortened_fits_and_keeps_short_names() -> None:
    assert shortened("ship", 100) == "ship"
    cut = shortened("W" * 80, 120)
    assert cut == f"{cut.split('…')[0]}…{cut.split('…')[1]}"
    assert set(cut) == {"W", "…"}
    assert text_width(cut) <= 120
    assert shortened("two\nlines", 200) == "two lines"
