"""Heat maps of a needle in a haystack: numbers of frames across, depths down, a number in each cell.

Each is a stand-alone SVG with its own styles, so that it can lie in a file of its own or in the report's page. Colours run on straight
lines through Oklab, where equal distances look equally far apart, and their lightness alone orders the scores.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import product

from tpo_plugin.report.markup import Markup, join, tag

Cell = tuple[int, float, float]  # frames, depth (0 ... 1), score or difference
Lab = tuple[float, float, float]
Colour = tuple[float, float, float]  # red, green, blue; 0 ... 1

WIDE, HIGH = 33, 26  # a cell: two maps of V-NIAH's 15 columns stand side by side in the report
LEFT, TOP, BOTTOM, RIGHT = 46, 34, 84, 12
BAR, BAR_STEPS = 8, 41  # height of the colour bar, and its patches
LEAST_WIDTH = 260  # room for the title and the bar above a narrow grid
LETTER = 7.4  # width of a letter of the title

# Both ends of a scale in Oklab. Scores: dark blue (0) to pale yellow (1). Differences: orange (-1), near white (0), blue (+1).
SCORES: tuple[Lab, ...] = ((0.28, -0.015, -0.09), (0.96, -0.02, 0.1))
DIFFERENCES: tuple[Lab, ...] = ((0.55, 0.11, 0.11), (0.97, 0.0, 0.0), (0.55, -0.045, -0.14))
INK, PAPER = "#000000", "#ffffff"  # numbers on light and on dark cells: one of them always has a contrast above 4.5

# Rules name the class of this picture: inside a page a style sheet holds for the whole page.
STYLE = (
    ".tpoheat{background:#fff;color:#1a1d21;font:12px system-ui,sans-serif}.tpoheat text{fill:currentColor;font-variant-numeric:tabular-nums}"
    ".tpoheat .none{fill:none;stroke:#8a929b;stroke-dasharray:2 3}.tpoheat .cell{font-size:11px}.tpoheat .name{font-size:13px;font-weight:600}"
    "@media(prefers-color-scheme:dark){.tpoheat{background:#14171a;color:#e8eaed}}"
)


class Picture(Markup):
    """An SVG that knows its size in pixels."""

    width: int
    height: int

    def __new__(cls, svg: Markup, width: int, height: int) -> Picture:
        picture = super().__new__(cls, svg)
        picture.width, picture.height = width, height
        return picture


def heat_map(title: str, cells: Sequence[Cell]) -> Picture:
    """A stand-alone SVG of scores (0 ... 1) over numbers of frames and depths (0 ... 1).

    A place of the grid that has no cell stays empty. ValueError for no cells, a place given twice, or a number out of range.
    """
    values = _grid(cells, 0.0)
    lowest = min(values, key=lambda place: values[place])
    mean = sum(values.values()) / len(values)
    told = (
        f"Mean {mean:.3f} over {len(values)} cells; the lowest, {values[lowest]:.2f}, at {lowest[0]} frames and depth "
        f"{100 * lowest[1]:.3g} %."
    )
    return _picture(title, values, told, lambda score: _blend(SCORES, score), (0.0, 0.5, 1.0), "{:.2f}".format)


def difference_map(title: str, cells: Sequence[Cell]) -> Picture:
    """As `heat_map`, of differences between two models' scores (-1 ... 1): blue where the second is better, orange where worse."""
    values = _grid(cells, -1.0)
    better, worse = (sum(sign * value > 0 for value in values.values()) for sign in (1, -1))
    mean = sum(values.values()) / len(values)
    told = (
        f"Mean difference {mean:+.3f} over {len(values)} cells; {better} are higher, {worse} lower, the others equal."
    )
    return _picture(
        title, values, told, lambda gain: _blend(DIFFERENCES, (gain + 1) / 2), (-1.0, 0.0, 1.0), _signed
    )  # fmt: skip


def _grid(cells: Sequence[Cell], least: float) -> dict[tuple[int, float], float]:
    values = {(frames, depth): value for frames, depth, value in cells}
    if not cells or len(values) != len(cells):
        raise ValueError("a heat map needs at least one cell, and each place once")
    for (frames, depth), value in values.items():
        if not (frames > 0 and 0 <= depth <= 1 and least <= value <= 1):
            raise ValueError(f"{frames} frames, depth {depth}: {value} is outside a heat map's range")
    return values


def _picture(
    title: str,
    values: dict[tuple[int, float], float],
    told: str,
    colour: Callable[[float], Colour],
    marks: Sequence[float],
    form: Callable[[float], str],
) -> Picture:
    columns, rows = sorted({frames for frames, _ in values}), sorted({depth for _, depth in values})
    across, down = WIDE * len(columns), HIGH * len(rows)
    width = LEFT + max(across, LEAST_WIDTH, math.ceil(LETTER * len(title))) + RIGHT
    height = TOP + down + BOTTOM
    drawn = [tag("text", title, x=LEFT, y=20, class_="name")]
    for row, column in product(range(len(rows)), range(len(columns))):
        value = values.get((columns[column], rows[row]))
        drawn.append(_cell(LEFT + WIDE * column, TOP + HIGH * row, value, colour, form))
    for at, frames in enumerate(columns):
        drawn.append(
            tag("text", f"{frames}", x=LEFT + WIDE * (at + 0.5), y=TOP + down + 16, text_anchor="middle", class_="cell")
        )
    for at, depth in enumerate(rows):
        label = f"{100 * depth:.3g} %"
        drawn.append(tag("text", label, x=LEFT - 6, y=TOP + HIGH * (at + 0.5) + 4, text_anchor="end"))
    drawn.append(tag("text", "frames, across; depth of the needle, down", x=LEFT, y=TOP + down + 36))
    drawn.append(_bar(LEFT, TOP + down + 48, marks, colour, form))
    svg = tag(
        "svg", tag("title", title), tag("desc", told), tag("style", Markup(STYLE)), drawn,
        xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {width} {height}", width=width, height=height, role="img",
        class_="tpoheat",
    )  # fmt: skip
    return Picture(svg, width, height)


def _cell(
    x: float, y: float, value: float | None, colour: Callable[[float], Colour], form: Callable[[float], str]
) -> Markup:
    """A coloured rectangle with its number; a dashed empty one where nothing was measured."""
    if value is None:
        return tag("rect", x=x + 2, y=y + 2, width=WIDE - 5, height=HIGH - 5, class_="none")
    shade = colour(value)
    ink = max((INK, PAPER), key=lambda one: contrast(one, as_hex(shade)))
    return join(
        tag("rect", x=x, y=y, width=WIDE - 1, height=HIGH - 1, fill=as_hex(shade)),
        tag(
            "text",
            form(value),
            x=x + (WIDE - 1) / 2,
            y=y + HIGH / 2 + 4,
            text_anchor="middle",
            class_="cell",
            style=f"fill:{ink}",
        ),
    )


def _bar(
    x: float, y: float, marks: Sequence[float], colour: Callable[[float], Colour], form: Callable[[float], str]
) -> Markup:
    """The colour scale from the first mark to the last, with the marks' numbers below."""
    width, low, high = LEAST_WIDTH - 20, marks[0], marks[-1]
    step = width / BAR_STEPS
    patches = [
        tag("rect", x=round(x + at * step, 2), y=y, width=round(step + 0.3, 2), height=BAR,
            fill=as_hex(colour(low + (high - low) * at / (BAR_STEPS - 1))))
        for at in range(BAR_STEPS)
    ]  # fmt: skip
    labels = [
        tag("text", form(mark), x=x + width * (mark - low) / (high - low), y=y + BAR + 14, text_anchor=anchor)
        for mark, anchor in zip(marks, ("start", "middle", "end"))
    ]
    return join(tag("g", patches, shape_rendering="crispEdges"), labels)


def _signed(value: float) -> str:
    text = f"{value:+.2f}".replace("-", "\u2212").replace("0.", ".").replace("1.00", "1")
    return "0" if text[1:] == ".00" else text


def _blend(stops: Sequence[Lab], share: float) -> Colour:
    """The colour at `share` (0 ... 1) of the way along the stops, which lie evenly."""
    at = min(int(share * (len(stops) - 1)), len(stops) - 2)
    rest = share * (len(stops) - 1) - at
    light, a, b = (first + rest * (second - first) for first, second in zip(stops[at], stops[at + 1]))
    return _rgb((light, a, b))


def _rgb(lab: Lab) -> Colour:
    """sRGB of an Oklab colour (B. Ottosson, 2020), clipped to what a screen shows."""
    light, a, b = lab
    long, medium, short = (
        (light + 0.3963377774 * a + 0.2158037573 * b) ** 3,
        (light - 0.1055613458 * a - 0.0638541728 * b) ** 3,
        (light - 0.0894841775 * a - 1.2914855480 * b) ** 3,
    )
    linear = (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )
    red, green, blue = (
        12.92 * value if value <= 0.0031308 else 1.055 * value ** (1 / 2.4) - 0.055
        for value in (min(1.0, max(0.0, value)) for value in linear)
    )
    return red, green, blue


def as_hex(colour: Colour) -> str:
    """`#rrggbb`."""
    return "#" + "".join(f"{round(255 * part):02x}" for part in colour)


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two `#rrggbb` colours (1 ... 21), as WCAG 2 defines it."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
