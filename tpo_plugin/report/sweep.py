"""The frame sweep: accuracy over the number of frames, a chart a benchmark and a line a model, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tpo_plugin.evaluation.bootstrap import Interval, intervals
from tpo_plugin.report import charts
from tpo_plugin.report.answers import Cell, Model
from tpo_plugin.report.charts import Axis, Curve
from tpo_plugin.report.comparison import named, shared, video_of
from tpo_plugin.report.markup import Markup, join, table, tag

MOST_LINES = 6  # as many as there are colours; the table holds the others


@dataclass(frozen=True)
class Sweep:
    """One benchmark: the accuracy of each model with each number of frames, on the `questions` that all those cells answered."""

    task: str
    questions: int
    asked: int
    scores: dict[str, dict[int, Interval]]


def sweeps(models: Sequence[Model]) -> list[Sweep]:
    """The benchmarks that some models were asked with several numbers of frames, with these models."""
    cells: dict[str, dict[tuple[str, int], Cell]] = {}
    for model in models:
        known = [cell for _, cell in model.cells if cell.frames is not None]
        for task in dict.fromkeys(cell.task for cell in known):
            found = {(model.label, cell.frames or 0): cell for cell in known if cell.task == task}
            if len(found) > 1:
                cells.setdefault(task, {}).update(found)
    return [_sweep(task, found) for task, found in cells.items()]


def _sweep(task: str, cells: dict[tuple[str, int], Cell]) -> Sweep:
    common = shared({f"{label} {frames}": cell for (label, frames), cell in cells.items()})
    asked = len(set().union(*(cell.answers for cell in cells.values())))
    scores: dict[str, dict[int, Interval]] = {}
    if common:
        columns = [[cell.answers[question] for question in common] for cell in cells.values()]
        for (label, frames), interval in zip(cells, intervals(columns, [video_of(question) for question in common])):
            scores.setdefault(label, {})[frames] = interval
    ordered = {label: dict(sorted(by_frames.items())) for label, by_frames in scores.items()}
    return Sweep(task, len(common), asked, ordered)


def section(found: Sequence[Sweep], colours: dict[str, int]) -> Markup:
    """The charts of the benchmarks, what they leave out, and the numbers behind them."""
    drawn = [one for one in found if one.scores]
    figures = [
        tag("figure", tag("figcaption", one.task, " ", tag("small", f"accuracy, %; {one.questions:,} questions")),
            chart(one, colours))
        for one in drawn
    ]  # fmt: skip
    hidden = list(dict.fromkeys(label for one in drawn for label in list(one.scores)[MOST_LINES:]))
    notes = [
        "Bars are 95 % bootstrap intervals over whole videos; each chart has its own scale, which does not begin at 0."
    ]
    notes += [f"Only in the table: {named(hidden)}."] if hidden else []
    notes += [
        f"{one.task}: {one.questions:,} of {one.asked:,} questions were answered by every model with every number of frames; "
        + ("they are shown." if one.scores else "nothing is shown.")
        for one in found
        if one.questions < one.asked
    ]
    return join(
        tag("div", figures, class_="charts"),
        tag("p", " ".join(notes), class_="note"),
        _numbers(drawn, colours) if drawn else None,
    )


def chart(sweep: Sweep, colours: dict[str, int]) -> Markup:
    """Accuracy in percent over the number of frames, where each doubling is a step of the same width."""
    shown = list(sweep.scores.items())[:MOST_LINES]
    marks = sorted({frames for _, scores in shown for frames in scores})
    curves = [
        Curve(
            label,
            [(frames, 100 * score.value) for frames, score in scores.items()],
            colours[label],
            [(100 * score.low, 100 * score.high) for score in scores.values()],
        )
        for label, scores in shown
    ]
    return charts.line_chart(
        f"Accuracy on {sweep.task}", curves, "%", axis=Axis("frames", "the number of frames", "{} frames", marks)
    )


def _numbers(found: Sequence[Sweep], colours: dict[str, int]) -> Markup:
    marks = sorted({frames for one in found for scores in one.scores.values() for frames in scores})
    bodies = []
    for one in found:
        heading = tag("th", f"{one.task} (n = {one.questions:,})", colspan=len(marks) + 1, scope="rowgroup")
        rows = [
            tag("tr", tag("th", tag("span", class_=f"swatch {charts.series(colours[label])}", aria_hidden="true"),
                          tag("bdi", label), scope="row"),
                [tag("td", _cell(scores.get(frames)), class_="number") for frames in marks])
            for label, scores in one.scores.items()
        ]  # fmt: skip
        bodies.append(tag("tbody", tag("tr", heading, class_="group"), rows))
    columns = ["Model", *(f"{frames} frames" for frames in marks)]
    return table("Accuracy, %, by number of frames", columns, bodies, numeric=range(1, len(columns)), class_="sweep")


def _cell(score: Interval | None) -> Markup | str:
    if score is None:
        return "\u2013"
    ends = f"{100 * score.low:.1f} to {100 * score.high:.1f}"
    return join(tag("strong", f"{100 * score.value:.1f}"), " ", tag("small", ends))
