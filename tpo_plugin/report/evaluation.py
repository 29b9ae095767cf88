"""The benchmark table: models by tasks, durations, kinds and categories, with intervals and paired differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from tpo_plugin.evaluation.bootstrap import Interval
from tpo_plugin.report import charts
from tpo_plugin.report.comparison import Evaluation, Score, Slice, compare, slices
from tpo_plugin.report.markup import Markup, details, join, row, table, tag


def findings(evaluation: Evaluation) -> list[Markup]:
    """The overall result of each pair of models, one sentence each."""
    everything = next(slices(evaluation.questions))
    scores = {score.model: score for score in compare(evaluation, everything)}
    first, *others = evaluation.models
    sentences = [_finding(scores[model], scores[first]) for model in others]
    for at, model in enumerate(others):
        for other in others[at + 1 :]:
            # The same comparison with `model` in the place of the first.
            pair = Evaluation(None, {}, {model: evaluation.answers[model], other: evaluation.answers[other]})
            reference, score = compare(pair, everything)
            sentences.append(_finding(score, reference))
    return sentences


def _finding(score: Score, reference: Score) -> Markup:
    """The conclusion first, then the numbers it stands on."""
    gain = score.gain
    assert gain is not None
    both = (tag("bdi", score.model), " and ", tag("bdi", reference.model))
    conclusion = {
        "higher": join(tag("bdi", score.model), " scores higher than ", tag("bdi", reference.model)),
        "lower": join(tag("bdi", score.model), " scores lower than ", tag("bdi", reference.model)),
        "no difference shown": join("No difference shown between ", both),
    }.get(score.reading, join(f"Too few videos ({score.videos}) to compare ", both))
    zero = "excludes" if gain.low > 0 or gain.high < 0 else "includes"
    return join(
        tag("strong", conclusion),
        f": {points(score.accuracy.value)} % against {points(reference.accuracy.value)} % right, {signed(gain.value)} points; "
        f"the 95 % interval, {signed(gain.low)} to {signed(gain.high)}, {zero} 0.",
    )


def section(evaluation: Evaluation, colours: dict[str, int]) -> Markup:
    """The table of all slices, what its numbers mean, and the scores in the harness's own words."""
    compared = [(part, compare(evaluation, part)) for part in slices(evaluation.questions)]
    main = [entry for entry in compared if entry[0].group != "Category"]
    categories = [entry for entry in compared if entry[0].group == "Category"]
    first, others = evaluation.models[0], len(evaluation.models) - 1
    made = len(compared) * others
    chance = (
        f" The tables make {made} comparisons: some {made / 20:.0f} of them would exclude 0 by chance alone if no model differed."
        if made >= 10
        else ""
    )
    return join(
        _table(f"Accuracy, and difference from {first} in percentage points", main, colours),
        details(f"By category ({len(categories)})", _table("By category of question", categories, colours))
        if categories
        else None,
        tag(
            "p",
            "Accuracy is the share of right answers, every question counting once. Intervals are 95 % bootstrap intervals that resample whole "
            f"videos; differences are paired, question by question. They hold for one trained model each: how much another training seed would "
            f"change is not in them.{chance} Where every answer agrees an interval has no width, which is a limit of the method, not "
            "certainty.",
            class_="note",
        ),
        tag("h3", "As lmms-eval reports it"),
        harness(evaluation),
    )


def _table(caption: str, compared: Sequence[tuple[Slice, list[Score]]], colours: dict[str, int]) -> Markup:
    scale = _scale(compared)
    bodies = []
    group = ""
    for part, scores in compared:
        if part.group != group and part.group != "All questions":
            bodies.append(tag("tbody", tag("tr", tag("th", part.group, colspan=7, scope="rowgroup")), class_="group"))
        group = part.group
        bodies.append(tag("tbody", _rows(part, scores, scale, colours)))
    columns = [
        "Questions", "n", "Model", "Accuracy, %", "Difference, points", charts.interval_axis(scale) if scale else "", "Reading",
    ]  # fmt: skip
    return table(caption, columns, bodies, numeric=(1,), class_="benchmark")


def _scale(compared: Sequence[tuple[Slice, list[Score]]]) -> charts.Scale | None:
    """A common scale in percentage points for all intervals of a table; None without a second model."""
    gains = [score.gain for _, scores in compared for score in scores if score.gain]
    if not gains:
        return None
    marks = charts.ticks(
        100 * min(0.0, *(gain.low for gain in gains)), 100 * max(0.0, *(gain.high for gain in gains)), 9
    )
    return charts.Scale(marks[0], marks[-1])


def _rows(
    part: Slice, scores: Sequence[Score], scale: charts.Scale | None, colours: dict[str, int]
) -> Iterator[Markup]:
    for at, score in enumerate(scores):
        colour = colours[score.model]
        heads = (
            tag("th", tag("bdi", part.name), scope="row", rowspan=len(scores)),
            tag("td", f"{len(part.rows):,}", rowspan=len(scores), class_="number"),
        )
        gain, mark = score.gain, None
        if scale and not gain:
            mark = charts.zero_mark(scale)
        elif scale and gain:
            mark = charts.interval_mark(scale, 100 * gain.value, 100 * gain.low, 100 * gain.high, colour)
        yield tag(
            "tr",
            heads if at == 0 else None,
            tag("td", swatch(colour), score.model),
            tag("td", tag("strong", points(score.accuracy.value)), " ", bounds(points, score.accuracy)),
            tag("td", join(tag("strong", signed(gain.value)), " ", bounds(signed, gain)) if gain else "\u2013"),
            tag("td", mark),
            tag("td", score.reading, class_="reading " + score.reading.partition(" ")[0]),
        )


def harness(evaluation: Evaluation) -> Markup:
    """Score, metric and number of questions of each task and model, as lmms-eval computed them."""
    rows = [
        row(
            task,
            scored["metric"],
            model,
            scored["n"],
            scored.get("empty_responses", "\u2013"),
            charts.number(scored["score"], 5),
            numeric=(3, 4, 5),
        )
        for model, entry in evaluation.results["models"].items()
        for task, scored in sorted(entry.get("tasks", {}).items())
    ]
    note = (
        "A benchmark\u2019s own metric may weigh categories instead of questions; then it differs from the table above."
    )
    return join(
        table(
            "Scores of the harness",
            ["Benchmark", "Metric", "Model", "n", "Empty answers", "Score"],
            tag("tbody", rows),
            numeric=(3, 4, 5),
        ),
        tag("p", note, class_="note"),
    )


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
