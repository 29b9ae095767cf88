"""The numbers in the pictures follow the data."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest

from tpo_plugin.report import charts
from tpo_plugin.report.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Curve, Scale


def drawn(svg: str, element: str, classes: str = "") -> list[ElementTree.Element]:
    return [item for item in ElementTree.fromstring(svg).iter(element) if classes in item.get("class", "")]


def corners(line: ElementTree.Element) -> list[tuple[float, float]]:
    return [tuple(map(float, corner.split(","))) for corner in line.get("points", "").split()]  # type: ignore[misc]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.5, 1]),  # 1 / 2 parts = 0.5: a round step
        (-3, 7, [-5, 0, 5, 10]),  # 10 / 2 = 5
        (2, 2, [1.5, 2, 2.5]),  # a level line still gets an axis
    ],
)
def test_ticks_are_round_and_enclose_the_data(low: float, high: float, expected: list[float]) -> None:
    assert charts.ticks(low, high, 3) == expected


def test_a_curve_goes_from_the_bottom_left_to_the_top_right_corner() -> None:
    svg = charts.line_chart("Loss", [Curve("a", [(0, 0.0), (5, 0.5), (10, 1.0)])], "nats")
    (line,) = drawn(svg, "polyline")
    across, down = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    assert corners(line) == [(LEFT, TOP + down), (LEFT + across / 2, TOP + down / 2), (LEFT + across, TOP)]
    texts = [item.text for item in drawn(svg, "text")]
    assert {"0", "1", "10", "step", "a"} <= set(texts)


def test_a_long_curve_shows_its_values_and_their_trailing_mean() -> None:
    # 20 points alternate between 0 and 1; the mean over a tenth of them, 2 points, is 1/2 from the second point on.
    svg = charts.line_chart("Loss", [Curve("a", [(step, step % 2) for step in range(20)])], "nats")
    down = HEIGHT - TOP - BOTTOM
    assert {y for _, y in corners(drawn(svg, "polyline", "raw")[0])} == {TOP, TOP + down}
    assert {y for _, y in corners(drawn(svg, "polyline", "line")[0])[1:]} == {TOP + down / 2}


def test_a_missing_value_breaks_the_line_and_a_lone_point_stays_visible() -> None:
    svg = charts.line_chart("Loss", [Curve("a", [(0, 1.0), (1, 2.0), (2, math.nan), (3, 1.5)])], "nats")
    first, second = (corners(line) for line in drawn(svg, "polyline"))
    assert len(first) == 2
    assert len(second) == 2
    assert second[0] == second[1]


def test_charts_say_in_words_what_they_show() -> None:
    svg = charts.line_chart("Loss", [Curve("tpo", [(1, 0.693), (100, -0.25)])], "nats")
    assert drawn(svg, "title")[0].text == "Loss (nats) over training steps"
    assert drawn(svg, "desc")[0].text == "tpo: 0.693 at step 1, \u22120.25 at step 100."


def test_a_shared_range_and_a_reference_level_widen_the_axis() -> None:
    svg = charts.line_chart("Margin", [Curve("a", [(0, 2.0), (1, 3.0)])], "nats", limits=(1, 4), reference=0.0)
    labels = [item.text for item in drawn(svg, "text") if item.get("text-anchor") == "end"]
    assert labels == ["0", "1", "2", "3", "4"]
    (level,) = drawn(svg, "line", "reference")
    assert float(level.get("y1", "")) == HEIGHT - BOTTOM


def test_doublings_are_equally_far_apart_and_points_have_their_intervals() -> None:
    axis = charts.Axis("frames", "the number of frames", "{} frames", (16, 32, 64))
    curve = Curve("tpo", [(16, 50.0), (32, 60.0), (64, 70.0)], 1, [(40.0, 60.0), (50.0, 70.0), (60.0, 80.0)])
    svg = charts.line_chart("Accuracy", [curve], "%", axis=axis)
    (line,) = drawn(svg, "polyline")
    across, down = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    assert [x for x, _ in corners(line)] == [LEFT, LEFT + across / 2, LEFT + across]
    ends = [[float(item.get(name, "")) for name in ("y1", "y2")] for item in drawn(svg, "line", "interval")]
    assert ends[0] == [TOP + down, TOP + down / 2]  # 40 to 60 on a scale of 40 to 80
    assert len(drawn(svg, "circle")) == len(ends) == 3
    assert {"16", "32", "64", "frames"} <= {item.text for item in drawn(svg, "text")}
    assert drawn(svg, "title")[0].text == "Accuracy (%) over the number of frames"
    assert drawn(svg, "desc")[0].text == "tpo: 50 at 16 frames, 70 at 64 frames."


def test_intervals_of_several_curves_stay_apart() -> None:
    axis = charts.Axis(marks=(8, 16))
    curves = [Curve(name, [(8, 1.0), (16, 2.0)], at, [(0.5, 1.5), (1.5, 2.5)]) for at, name in enumerate("abc")]
    xs = {item.get("x1") for item in drawn(charts.line_chart("t", curves, "%", axis=axis), "line", "interval")}
    assert len(xs) == 6


def test_labels_at_the_ends_of_lines_do_not_overlap() -> None:
    placed = charts.spread_labels([100.0, 101.0, 20.0, 199.0], 10, 200, gap=13)
    assert placed == [100, 113, 20, 199]
    # Three that all want the lower limit are stacked upwards from it.
    assert charts.spread_labels([200.0, 200.0, 200.0], 10, 200, gap=13) == [174, 187, 200]


def test_trailing_mean() -> None:
    means = charts.trailing_mean([1, 2, math.nan, 4], 2)
    assert means == [1, 1.5, 2, 4]


def test_a_bar_is_as_long_as_its_share() -> None:
    svg = charts.share_bar(12.5, 50.0, marker=25.0)
    assert drawn(svg, "rect", "bar")[0].get("width") == "25%"
    assert drawn(svg, "line", "paper")[0].get("x1") == "50%"


@pytest.mark.parametrize(("low", "high", "fill"), [(1, 9, "clear"), (-9, -1, "clear"), (-1, 9, "open"), (0, 9, "open")])
def test_an_interval_is_filled_only_if_it_excludes_zero(low: float, high: float, fill: str) -> None:
    svg = charts.interval_mark(Scale(-10, 10), 5, low, high, 2)
    (point,) = drawn(svg, "circle")
    assert fill in point.get("class", "").split()
    # 2 % of the width is air on each side: 5 of -10..10 lies at 2 + 96 * 15 / 20 = 74 %, 0 at 50 %.
    assert point.get("cx") == "74%"
    assert drawn(svg, "line", "zero")[0].get("x1") == "50%"
    ends = [drawn(svg, "line", "interval")[0].get(name) for name in ("x1", "x2")]
    assert ends == [f"{2 + 4.8 * (end + 10):g}%" for end in (low, high)]


def test_colours_never_fall_back_to_the_neutral_one() -> None:
    assert [charts.series(index) for index in range(8)] == ["s0", "s1", "s2", "s3", "s4", "s5", "s1", "s2"]


def test_names_are_escaped() -> None:
    svg = charts.line_chart("<b>", [Curve("</svg>", [(0, 1.0), (1, 2.0)])], "nats")
    assert re.findall(r"</svg>", svg) == ["</svg>"]
    assert drawn(svg, "text", "end")[0].text == "</svg>"
