"""Small SVG charts. Curves have a fixed shape and shrink with their column; graphics in table rows use percent positions,
so that they stretch while strokes and text keep their size."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tpo_plugin.report.markup import Markup, join, tag

WIDTH, HEIGHT = 360, 230
LEFT, RIGHT, TOP, BOTTOM = 46, 80, 10, 34  # margins of a curve chart: axis numbers, line labels, air, step numbers
SPREAD = 5  # pixels between the intervals of several curves at one x
LABEL_GAP = 13  # pixels between the labels at the ends of the lines
DASHES = ("none", "7 3", "2 3", "9 3 2 3")  # the second way, beside colour, to tell lines apart
Place = Callable[[float, float], tuple[float, float]]  # from data to the picture
COLOURS = 6  # colour classes s0 ... s5 of the style sheet; s0 is neutral, for what others are compared with


@dataclass(frozen=True)
class Curve:
    """A named line through (x, y) points; y may be NaN where nothing was measured. `colour` is an index of a series class.

    `bounds` are the ends of each point's interval; points that have them get a mark of their own. After a point at one of `borders` the line
    begins anew, and so does its mean: there another training began.
    """

    name: str
    points: Sequence[tuple[float, float]]
    colour: int = 0
    bounds: Sequence[tuple[float, float]] = ()
    borders: Sequence[float] = ()


@dataclass(frozen=True)
class Axis:
    """What lies across: its name below the axis, in the title and at a point; `marks` to show, on a scale where doublings are equal."""

    name: str = "step"
    title: str = "training steps"
    point: str = "step {}"
    marks: Sequence[float] = ()


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten) from at most `low` to at least `high`, some `about` of them."""
    if high <= low:
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / max(1, about - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]


def number(value: float, digits: int = 6) -> str:
    """A number in few characters, with a true minus sign."""
    return f"{value:.{digits}g}".replace("-", "\u2212")


def trailing_mean(values: Sequence[float], width: int) -> list[float]:
    """The mean of each value and the `width - 1` before it (fewer at the start); NaN values are left out of the means."""
    means = []
    for end in range(1, len(values) + 1):
        window = [value for value in values[max(0, end - width) : end] if not math.isnan(value)]
        means.append(sum(window) / len(window) if window else math.nan)
    return means


def y_range(curves: Sequence[Curve]) -> tuple[float, float]:
    """Smallest and largest measured y of the curves."""
    values = [y for curve in curves for _, y in curve.points if not math.isnan(y)]
    values += [end for curve in curves for bounds in curve.bounds for end in bounds]
    return min(values), max(values)


def line_chart(
    title: str,
    curves: Sequence[Curve],
    unit: str,
    limits: tuple[float, float] | None = None,
    reference: float | None = None,
    axis: Axis = Axis(),
) -> Markup:
    """Curves over training steps, or over `axis`. With 20 points or more a thin line shows each point and a thick one the trailing mean.

    `limits` sets the y range (for charts that are compared with each other), `reference` draws a dashed level line.
    """
    low, high = limits or y_range(curves)
    if reference is not None:
        low, high = min(low, reference), max(high, reference)
    y_ticks = ticks(low, high)
    first, x_high = min(curve.points[0][0] for curve in curves), max(curve.points[-1][0] for curve in curves)
    x_ticks = list(axis.marks) or ticks(first, x_high, 4)
    x_low = x_ticks[0]
    across, down = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        share_x = math.log(x / x_low) / math.log(x_high / x_low) if axis.marks else (x - x_low) / (x_high - x_low or 1)
        return round(LEFT + share_x * across, 2), round(
            TOP + (1 - (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])) * down, 2
        )

    drawn = []
    for tick in y_ticks:
        y = place(x_low, tick)[1]
        drawn.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid"))
        drawn.append(tag("text", number(tick), x=LEFT - 6, y=y + 4, text_anchor="end"))
    for tick in (tick for tick in x_ticks if tick <= x_high):
        drawn.append(tag("text", number(tick), x=place(tick, low)[0], y=HEIGHT - BOTTOM + 16, text_anchor="middle"))
    drawn.append(tag("text", axis.name, x=LEFT + across / 2, y=HEIGHT - 4, text_anchor="middle", class_="axis"))
    if reference is not None:
        y = place(x_low, reference)[1]
        drawn.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="reference"))
    for border in sorted({border for curve in curves for border in curve.borders}):
        x = place(border, low)[0]
        drawn.append(tag("line", x1=x, x2=x, y1=TOP, y2=HEIGHT - BOTTOM, class_="reference"))
    ends = []
    for at, curve in enumerate(curves):
        aside = SPREAD * (at - (len(curves) - 1) / 2) if curve.bounds else 0.0
        lines, end = _curve(curve, _beside(place, aside), DASHES[at % len(DASHES)])
        drawn.append(lines)
        ends.append(end)
    for curve, y in zip(curves, spread_labels(ends, TOP + 4, HEIGHT - BOTTOM + 4)):
        name = curve.name if len(curve.name) <= 10 else curve.name[:9] + "\u2026"
        drawn.append(tag("text", name, x=WIDTH - RIGHT + 6, y=y + 4, class_=f"end {series(curve.colour)}"))
    return tag(
        "svg", tag("title", f"{title} ({unit}) over {axis.title}"), tag("desc", describe(curves, axis)), drawn,
        viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", class_="curves",
    )  # fmt: skip


def _curve(curve: Curve, place: Place, dash: str) -> tuple[Markup, float]:
    """The line or lines of a curve, and the y at which its last point lies."""
    width = max(2, len(curve.points) // 10)
    classes = series(curve.colour)
    shown, lines = list(curve.points), []
    sections = list(_sections(curve))
    if len(curve.points) >= 20:
        lines.append(join(_polylines(section, place, class_=f"raw {classes}") for section in sections))
        sections = [
            [(x, y) for (x, _), y in zip(section, trailing_mean([y for _, y in section], width))]
            for section in sections
        ]
        shown = [point for section in sections for point in section]
    lines.append(
        join(_polylines(section, place, class_=f"line {classes}", stroke_dasharray=dash) for section in sections)
    )
    for point, (low, high) in zip(curve.points, curve.bounds):
        (x, y), bottom, top = place(*point), place(point[0], low)[1], place(point[0], high)[1]
        lines.append(tag("line", x1=x, x2=x, y1=bottom, y2=top, class_=f"interval {classes}"))
        lines.append(tag("circle", cx=x, cy=y, r=3, class_=f"point clear {classes}"))
    return join(lines), place(*[point for point in shown if not math.isnan(point[1])][-1])[1]


def _sections(curve: Curve) -> Iterator[list[tuple[float, float]]]:
    """The points up to each border, and those behind the last one; parts without points are left out."""
    start = -math.inf
    for end in (*curve.borders, math.inf):
        if section := [point for point in curve.points if start < point[0] <= end]:
            yield section
        start = end


def _beside(place: Place, pixels: float) -> Place:
    """The same places, moved to the right: intervals of several curves at one x stay apart."""

    def moved(x: float, y: float) -> tuple[float, float]:
        across, down = place(x, y)
        return round(across + pixels, 2), down

    return moved


def _polylines(points: Sequence[tuple[float, float]], place: Place, **attributes: str) -> Markup:
    """Lines through the measured points, broken where a value is missing."""
    runs: list[list[str]] = [[]]
    for x, y in points:
        if math.isnan(y):
            runs.append([])
        else:
            runs[-1].append(",".join(f"{value:g}" for value in place(x, y)))
    # A run of one point is doubled: only then do round line ends draw it, as a dot.
    return join(
        tag("polyline", points=" ".join(run * 2 if len(run) == 1 else run), **attributes) for run in runs if run
    )


def spread_labels(wanted: Sequence[float], low: float, high: float, gap: float = LABEL_GAP) -> list[float]:
    """Label positions close to the wanted ones, in the same order, at least `gap` apart and as far as possible within limits."""
    order = sorted(range(len(wanted)), key=lambda at: wanted[at])
    placed = [0.0] * len(wanted)
    below = low - gap
    for rank, at in enumerate(order):
        below = max(below + gap, min(wanted[at], high - gap * (len(order) - 1 - rank)))
        placed[at] = below
    return placed


def describe(curves: Sequence[Curve], axis: Axis = Axis()) -> str:
    """The curves in words: first and last value of each."""
    sentences = []
    for curve in curves:
        measured = [point for point in curve.points if not math.isnan(point[1])]
        (first_x, first_y), (last_x, last_y) = measured[0], measured[-1]
        first, last = (axis.point.format(number(x)) for x in (first_x, last_x))
        sentences.append(f"{curve.name}: {number(first_y, 3)} at {first}, {number(last_y, 3)} at {last}.")
    return " ".join(sentences)


def series(index: int) -> str:
    """The style class of a series; the neutral first colour is not used again when the colours run out."""
    return f"s{index if index < COLOURS else 1 + (index - 1) % (COLOURS - 1)}"


def percent(value: float) -> str:
    """A position or length along a row graphic."""
    return f"{round(100 * value, 3):g}%"


def share_bar(share: float, scale: float, marker: float | None = None) -> Markup:
    """A bar for `share` (0 to `scale`), with an upright tick at `marker`. The numbers stand in the row: hidden from readers."""
    bar = tag("rect", x="0", y="5", width=percent(share / scale), height="10", rx="1", class_="bar")
    tick = (
        None
        if marker is None
        else tag("line", x1=percent(marker / scale), x2=percent(marker / scale), y1="1", y2="19", class_="paper")
    )
    return tag(
        "svg",
        tag("rect", x="0", y="5", width="100%", height="10", class_="track"),
        bar,
        tick,
        class_="rowgraphic",
        aria_hidden="true",
    )


@dataclass(frozen=True)
class Scale:
    """A shared horizontal scale for interval graphics, from `low` to `high` around 0."""

    low: float
    high: float

    def at(self, value: float) -> str:
        return percent(0.02 + 0.96 * (value - self.low) / (self.high - self.low))


def zero_mark(scale: Scale) -> Markup:
    """Only the zero line, for the row that the others are compared with."""
    return tag("svg", _zero(scale), class_="rowgraphic", aria_hidden="true")


def _zero(scale: Scale) -> Markup:
    """The zero line, longer than its row is high, so that the rows' lines join."""
    return tag("line", x1=scale.at(0), x2=scale.at(0), y1="-4", y2="26", class_="zero")


def interval_axis(scale: Scale) -> Markup:
    """The axis of a column of intervals: round numbers, 0 among them."""
    marks = [tick for tick in ticks(scale.low, scale.high) if scale.low <= tick <= scale.high]
    labels = [tag("text", number(mark), x=scale.at(mark), y="13", text_anchor="middle") for mark in marks]
    return tag("svg", labels, class_="rowgraphic axis", aria_hidden="true")


def interval_mark(scale: Scale, point: float, low: float, high: float, colour: int) -> Markup:
    """A point with its interval on `scale`, the zero line behind it; filled where the interval excludes 0."""
    clear = "clear" if low > 0 or high < 0 else "open"
    return tag(
        "svg",
        _zero(scale),
        tag("line", x1=scale.at(low), x2=scale.at(high), y1="10", y2="10", class_=f"interval {series(colour)}"),
        tag("circle", cx=scale.at(point), cy="10", r="4.5", class_=f"point {clear} {series(colour)}"),
        class_="rowgraphic", aria_hidden="true",
    )  # fmt: skip
