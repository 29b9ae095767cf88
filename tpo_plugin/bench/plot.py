"""The scaling sweep as an SVG: operations of a pair over frames, on logarithmic scales, a line for each path and number of pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tpo_plugin.report.charts import DASHES, spread_labels
from tpo_plugin.report.markup import Markup, tag

WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 60, 150, 34, 44
COLOURS = ("#444444", "#999999", "#0b62a4", "#c5570a", "#2a7f3b", "#7a3aa0")
Line = tuple[str, Sequence[tuple[float, float]]]  # name, points


def log_chart(title: str, across: str, up: str, lines: Sequence[Line]) -> Markup:
    """`lines` on logarithmic scales: `across` doubles from mark to mark, `up` has a mark at each power of ten."""
    xs = sorted({x for _, points in lines for x, _ in points})
    ys = [y for _, points in lines for _, y in points]
    low, high = math.floor(math.log10(min(ys))), math.ceil(math.log10(max(ys)))

    def place(x: float, y: float) -> tuple[float, float]:
        share_x = math.log(x / xs[0]) / math.log(xs[-1] / xs[0]) if len(xs) > 1 else 0.5
        share_y = (math.log10(y) - low) / max(1, high - low)
        return round(LEFT + share_x * (WIDTH - LEFT - RIGHT), 1), round(
            HEIGHT - BOTTOM - share_y * (HEIGHT - TOP - BOTTOM), 1
        )

    drawn = [tag("text", title, x=LEFT, y=20, font_weight="bold")]
    for power in range(low, high + 1):
        y = place(xs[0], 10.0**power)[1]
        drawn.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, stroke="#dddddd"))
        drawn.append(tag("text", f"1e{power}", x=LEFT - 6, y=y + 4, text_anchor="end"))
    for x in xs:
        drawn.append(tag("text", f"{x:g}", x=place(x, 10.0**low)[0], y=HEIGHT - BOTTOM + 18, text_anchor="middle"))
    drawn.append(tag("text", across, x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 6, text_anchor="middle"))
    drawn.append(tag("text", up, x=WIDTH - 8, y=20, text_anchor="end"))
    ends = spread_labels([place(*points[-1])[1] for _, points in lines], TOP, HEIGHT - BOTTOM, gap=15)
    for at, ((name, points), end) in enumerate(zip(lines, ends)):
        colour = COLOURS[at % len(COLOURS)]
        path = " ".join(f"{x},{y}" for x, y in (place(*point) for point in points))
        drawn.append(
            tag("polyline", points=path, fill="none", stroke=colour, stroke_width=2,
                stroke_dasharray=DASHES[at % len(DASHES)])
        )  # fmt: skip
        drawn.append(tag("text", name, x=WIDTH - RIGHT + 8, y=end + 4, fill=colour))
    return tag(
        "svg", tag("title", title), tag("rect", width=WIDTH, height=HEIGHT, fill="white"), drawn,
        xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {WIDTH} {HEIGHT}", font_family="sans-serif", font_size=12,
    )  # fmt: skip
