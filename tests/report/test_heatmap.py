"""Heat maps: the numbers, the scale, and that both can be read."""

from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree

import pytest

from tpo_plugin.report.heatmap import (
    DIFFERENCES,
    INK,
    PAPER,
    SCORES,
    _blend,
    as_hex,
    contrast,
    difference_map,
    heat_map,
)

SVG = "{http://www.w3.org/2000/svg}"


def drawn(svg: str, element: str, classes: str = "") -> list[ElementTree.Element]:
    return [item for item in ElementTree.fromstring(svg).iter(SVG + element) if classes in item.get("class", "")]


def lightness(colour: str) -> float:
    """CIELAB's L of an sRGB colour, from its luminance (its contrast with black)."""
    luminance = contrast(colour, "#000000") * 0.05 - 0.05
    return 116 * luminance ** (1 / 3) - 16 if luminance > 0.008856 else 903.3 * luminance


CELLS = [(8, 0.0, 1.0), (8, 0.5, 0.8), (16, 0.0, 0.25)]


def test_every_cell_has_its_number_in_its_place() -> None:
    svg = heat_map("needle", CELLS)
    places = {item.text: (float(item.get("x", "")), float(item.get("y", ""))) for item in drawn(svg, "text", "cell")}
    assert {"1.00", "0.80", "0.25", "8", "16"} <= set(places)
    assert places["1.00"][0] == places["0.80"][0] < places["0.25"][0]  # frames go across
    assert places["1.00"][1] == places["0.25"][1] < places["0.80"][1]  # depth goes down
    assert len(drawn(svg, "rect", "none")) == 1  # 16 frames, depth 0.5 was not measured
    labels = {item.text for item in drawn(svg, "text")}
    assert {"0 %", "50 %", "needle"} <= labels


def test_it_stands_alone_and_says_what_it_shows() -> None:
    svg = heat_map("a < b", CELLS)
    root = ElementTree.fromstring(svg)
    assert root.tag == SVG + "svg"
    assert (root.get("role"), drawn(svg, "title")[0].text) == ("img", "a < b")
    # (1 + 0.8 + 0.25) / 3 = 0.683
    assert drawn(svg, "desc")[0].text == "Mean 0.683 over 3 cells; the lowest, 0.25, at 16 frames and depth 0 %."
    assert "prefers-color-scheme:dark" in svg
    # In a page a style sheet holds everywhere: no rule may reach beyond these pictures.
    rules = (drawn(svg, "style")[0].text or "").replace("@media(prefers-color-scheme:dark){", "").split("}")
    assert all(rule.startswith(".tpoheat") for rule in rules if rule)


def test_its_size_is_known() -> None:
    for picture in (heat_map("needle", CELLS), difference_map("a long title " * 9, CELLS)):
        root = ElementTree.fromstring(picture)
        assert (root.get("width"), root.get("height")) == (str(picture.width), str(picture.height))


@pytest.mark.parametrize("scale", [SCORES, DIFFERENCES[1:], DIFFERENCES[1::-1]])
def test_lightness_orders_the_values_evenly(scale: tuple) -> None:
    """Without any sense of hue the order is still there: each tenth of the way changes L by the same amount, within a half."""
    steps = [
        after - before for before, after in pairwise(lightness(as_hex(_blend(scale, at / 10))) for at in range(11))
    ]
    mean = sum(steps) / len(steps)
    assert all(0.5 < step / mean < 1.5 for step in steps)
    assert abs(mean) > 3


@pytest.mark.parametrize("scale", [SCORES, DIFFERENCES])
def test_numbers_can_be_read_on_every_colour(scale: tuple) -> None:
    shades = [as_hex(_blend(scale, at / 200)) for at in range(201)]
    assert min(max(contrast(INK, shade), contrast(PAPER, shade)) for shade in shades) >= 4.5  # WCAG AA
    inks = [item.get("style") for item in drawn(heat_map("", CELLS), "text", "cell") if item.get("style")]
    assert set(inks) == {f"fill:{INK}", f"fill:{PAPER}"}


def test_differences_are_signed_and_blue_is_better() -> None:
    svg = difference_map("b - a", [(8, 0.0, 0.2), (16, 0.0, -0.4), (32, 0.0, 0.0), (64, 0.0, 1.0)])
    cells = {item.text for item in drawn(svg, "text", "cell")}
    assert {"+.20", "\u2212.40", "0", "+1"} <= cells
    fills = [item.get("fill", "") for item in drawn(svg, "rect") if item.get("height") == "25"]
    red, blue = (lambda shade: int(shade[1:3], 16)), (lambda shade: int(shade[5:], 16))
    assert blue(fills[0]) > red(fills[0])
    assert red(fills[1]) > blue(fills[1])
    assert "2 are higher, 1 lower" in (drawn(svg, "desc")[0].text or "")


@pytest.mark.parametrize(
    "cells",
    [[], [(8, 0.5, 1.0), (8, 0.5, 0.0)], [(8, 0.5, 1.2)], [(8, 50.0, 1.0)], [(0, 0.5, 1.0)], [(8, 0.5, float("nan"))]],
)
def test_what_is_no_grid_of_scores_is_refused(cells: list) -> None:
    with pytest.raises(ValueError, match="heat map"):
        heat_map("", cells)
