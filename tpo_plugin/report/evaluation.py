"""The benchmark tables: models by benchmarks, durations, kinds and categories, with intervals and paired tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from tpo_plugin.evaluation.bootstrap import Interval
from tpo_plugin.report import charts
from tpo_plugin.report.answers import Cell, Model
from tpo_plugin.report.comparison import Comparison, Score, Slice, compare, slices
from tpo_plugin.report.markup import Markup, details, join, row, table, tag
from tpo_plugin.report.mcnemar import holm

Compared = Sequence[tuple[Slice, list[Score]]]
FEW_MODELS = 6  # so many still leave a table by kinds of questions readable
KINDS = ("Kind of question", "Kind and video length")
MOST_OPEN = 12  # rows of a table that is shown without being asked for
ACCURACY = (
    "Accuracy is the share of right answers, every question counting once. Intervals are 95 % bootstrap intervals that resample whole videos. "
    "Where every answer agrees an interval has no width, which is a limit of the method, not certainty."
)
PAIRED = (
    "Differences are paired, question by question. Gained and lost are the questions that only this model, or only the first one, answers "
    "rightly; p is McNemar\u2019s exact test of their numbers, in brackets with Holm\u2019s adjustment for all comparisons of the table. The "
    "test takes questions as independent; where several share a video the interval is the safer guide. The reading follows the interval, which "
    "is not adjusted: one in 20 comparisons of equal models would exclude 0. In a long table look for rows whose adjusted p is small too. All "
    "of this holds for one trained model each: how much another training seed would change is not in it."
)


def section(comparison: Comparison, colours: dict[str, int]) -> Markup:
    """The tables of all slices, what their numbers mean, and what was left out."""
    left_out = tag("ul", [tag("li", sentence) for sentence in comparison.left_out], class_="absent")
    if not comparison.questions:
        return left_out
    compared = [(part, compare(comparison, part)) for part in slices(comparison.questions)]
    folded = {"Category"} if len(comparison.models) <= FEW_MODELS else {"Category", *KINDS}
    main = [entry for entry in compared if entry[0].group not in folded]
    categories = [entry for entry in compared if entry[0].group in folded]
    first = comparison.models[0]
    alone = "Accuracy" if len(comparison.models) == 1 else None
    return join(
        left_out if comparison.left_out else None,
        _table(alone or f"Accuracy, and difference from {first} in percentage points", main, colours),
        details(f"By category ({len(categories)})", _table("By category of question", categories, colours))
        if categories
        else None,
        tag("p", ACCURACY, class_="note"),
        tag("p", PAIRED, class_="note") if alone is None else None,
    )


def _table(caption: str, compared: Compared, colours: dict[str, int]) -> Markup:
    scale = _scale(compared)
    adjusted = iter(holm([score.changed.p for _, scores in compared for score in scores if score.changed]))
    columns = ["Questions", "n", "Model", "Accuracy, %"]
    if scale:
        columns += [
            "Difference, points", charts.interval_axis(scale), "Gained : lost", "p (adjusted)", "Reading"
        ]  # fmt: skip
    bodies = []
    group = ""
    for part, scores in compared:
        if part.group != group and part.group != "All questions":
            heading = tag("th", part.group, colspan=len(columns), scope="rowgroup")
            bodies.append(tag("tbody", tag("tr", heading), class_="group"))
        group = part.group
        bodies.append(tag("tbody", _rows(part, scores, scale, colours, adjusted)))
    return table(caption, columns, bodies, numeric=(1,), class_="benchmark")


def _scale(compared: Compared) -> charts.Scale | None:
    """A common scale in percentage points for all intervals of a table; None without a second model."""
    gains = [score.gain for _, scores in compared for score in scores if score.gain]
    if not gains:
        return None
    marks = charts.ticks(
        100 * min(0.0, *(gain.low for gain in gains)), 100 * max(0.0, *(gain.high for gain in gains)), 9
    )
    return charts.Scale(marks[0], marks[-1])


def _rows(
    part: Slice, scores: Sequence[Score], scale: charts.Scale | None, colours: dict[str, int], adjusted: Iterator[float]
) -> Iterator[Markup]:
    for at, score in enumerate(scores):
        heads = (
            tag("th", tag("bdi", part.name), scope="row", rowspan=len(scores)),
            tag("td", f"{len(part.rows):,}", rowspan=len(scores), class_="number"),
        )
        yield tag(
            "tr",
            heads if at == 0 else None,
            tag("td", swatch(colours[score.model]), score.model),
            tag("td", tag("strong", points(score.accuracy.value)), " ", bounds(points, score.accuracy)),
            _difference(score, scale, colours[score.model], adjusted) if scale else None,
        )


def _difference(score: Score, scale: charts.Scale, colour: int, adjusted: Iterator[float]) -> Markup:
    """The cells that compare a model with the first one; dashes for that itself."""
    gain, changed = score.gain, score.changed
    reading = tag("td", score.reading, class_="reading " + score.reading.partition(" ")[0])
    if gain is None or changed is None:
        dash = tag("td", "\u2013")
        return join(dash, tag("td", charts.zero_mark(scale)), dash, dash, reading)
    mark = charts.interval_mark(scale, 100 * gain.value, 100 * gain.low, 100 * gain.high, colour)
    return join(
        tag("td", tag("strong", signed(gain.value)), " ", bounds(signed, gain)),
        tag("td", mark),
        tag("td", f"{changed.gained:,} : {changed.lost:,}"),
        tag("td", probability(changed.p), " ", tag("small", f"({probability(next(adjusted))})")),
        reading,
    )


def harness(models: Sequence[Model]) -> Markup:
    """Score, metric and number of questions of each cell, as lmms-eval computed them."""
    rows = [
        row(
            cell.task,
            metric,
            model.label,
            "\u2013" if cell.frames is None else cell.frames,
            n,
            cell.result.get("empty_responses", "\u2013"),
            cell.result.get("unreadable", "\u2013"),
            score,
            numeric=range(3, 8),
        )
        for model in models
        for _, cell in model.cells
        for metric, score, n in _metrics(cell)
    ]
    note = "A benchmark\u2019s own metric may weigh categories instead of questions; then it differs from the tables above."
    columns = ["Benchmark", "Metric", "Model", "Frames", "n", "Empty answers", "Unreadable videos", "Score"]
    return details(
        f"Scores of the harness ({len(rows)})",
        table(
            "Scores in percent unless marked, by lmms-eval\u2019s own metric",
            columns,
            tag("tbody", rows),
            numeric=range(3, 8),
        ),
        tag("p", note, class_="note"),
        open=len(rows) <= MOST_OPEN,
    )


def _metrics(cell: Cell) -> Iterator[tuple[str, str, int]]:
    """Name, percent and n of the cell's score, and of what it was scored by besides the categories of its questions."""
    result = cell.result
    unknown = "" if result.get("unit", "%") else " (unit unknown)"
    yield result["metric"], charts.number(result["score"], 5) + unknown, result["n"]
    known = {name for question in cell.answers for name in (*question.categories, question.duration, question.kind)}
    for name, found in result.get("categories", {}).items():
        if name not in known:
            yield f"{result['metric']}: {name}", charts.number(found["value"], 5), found["n"]


def swatch(colour: int) -> Markup:
    """A patch of a series' colour."""
    return tag("span", class_=f"swatch {charts.series(colour)}", aria_hidden="true")


def bounds(form: Callable[[float], str], interval: Interval) -> Markup:
    """The interval's ends, in small type."""
    return tag("small", f"{form(interval.low)} to {form(interval.high)}")


def points(share: float) -> str:
    """A share in percent."""
    return f"{100 * share:.1f}"


def signed(share: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    text = f"{100 * share:+.1f}".replace("-", "\u2212")
    return "0.0" if text[1:] == "0.0" else text


def probability(p: float) -> str:
    """A probability in two significant digits; very small ones only as such."""
    if p < 0.001:
        return "< 0.001"
    return "1" if p > 0.995 else f"{p:.2g}"
