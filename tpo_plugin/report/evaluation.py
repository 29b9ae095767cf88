"""The benchmark table: models by tasks, durations, kinds and categories, with intervals and paired differences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tpo_plugin.errors import TPOError
from tpo_plugin.evaluation.bootstrap import Interval, accuracy, difference
from tpo_plugin.report import charts, sources
from tpo_plugin.report.markup import Markup, details, join, row, table, tag

COMMAND = "tpo evaluate"
DURATIONS = ("short", "medium", "long")
FEWEST_VIDEOS = 10  # below this a resampling interval says more about the videos than about the models


@dataclass(frozen=True)
class Evaluation:
    """What `tpo evaluate` left in its output folder: the answers of each model, row by row to the same questions."""

    recipe: dict[str, Any] | None
    results: dict[str, Any]
    answers: dict[str, list[dict[str, Any]]]

    @property
    def models(self) -> list[str]:
        return list(self.answers)

    @property
    def questions(self) -> list[dict[str, Any]]:
        return self.answers[self.models[0]]


@dataclass(frozen=True)
class Slice:
    """Some of the questions, by their row numbers; `group` is what they were picked by."""

    group: str
    name: str
    rows: tuple[int, ...]


@dataclass(frozen=True)
class Score:
    """One model on one slice; `gain` is its paired difference from the first model (None: it is the first)."""

    model: str
    accuracy: Interval
    gain: Interval | None
    videos: int

    @property
    def reading(self) -> str:
        """What the interval of the difference allows to say."""
        if self.gain is None:
            return "compared with"
        if self.videos < FEWEST_VIDEOS:
            return f"too few videos to tell ({self.videos})"
        if self.gain.low > 0:
            return "higher"
        return "lower" if self.gain.high < 0 else "no difference shown"


def load(path: Path) -> Evaluation:
    """Read an evaluation output folder; TPOError names the file that is missing, unreadable or incomplete."""
    run = sources.folder(path, "evaluation", COMMAND)
    results = sources.read_json(run / "results.json", dict, COMMAND)
    models = results.get("models")
    if not isinstance(models, dict) or not models:
        raise TPOError(f"{run / 'results.json'} names no models; run `{COMMAND}` again")
    answers = {label: _answers(run / label / "answers.jsonl", models[label]) for label in models}
    first, *others = answers
    order = list(answers[first])
    for label in others:
        if answers[label].keys() != answers[first].keys():
            raise TPOError(
                f"{run / label / 'answers.jsonl'} does not answer the same questions as {first}: "
                f"{len(answers[first].keys() - answers[label].keys())} missing, "
                f"{len(answers[label].keys() - answers[first].keys())} others; run `{COMMAND}` for both models again"
            )
    aligned = {label: [rows[key] for key in order] for label, rows in answers.items()}
    return Evaluation(sources.read_recipe(run), results, aligned)


def _answers(path: Path, model: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """The answers of one model by task and question; as many as its results say."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for line, answer in enumerate(sources.read_rows(path, COMMAND), 1):
        if "task" not in answer or "id" not in answer or answer.get("correct") not in (0, 1):
            raise TPOError(f"{path}, record {line}: needs `task`, `id` and `correct` (0 or 1); run `{COMMAND}` again")
        key = (str(answer["task"]), str(answer["id"]))
        if key in rows:
            raise TPOError(
                f"{path}, record {line}: question {key[1]} of {key[0]} is answered twice; run `{COMMAND}` again"
            )
        rows[key] = answer
    if not rows:
        raise TPOError(f"{path} holds no answers; run `{COMMAND}` again")
    for task, scored in model.get("tasks", {}).items():
        found = sum(name == task for name, _ in rows)
        if "n" in scored and found != scored["n"]:
            raise TPOError(
                f"{path} holds {found} answers to {task}, results.json counts {scored['n']}; run `{COMMAND}` again"
            )
    return rows


def slices(questions: Sequence[dict[str, Any]]) -> Iterator[Slice]:
    """All questions; then by task, duration, kind, kind and duration, and category within its task, as far as they are known."""
    yield Slice("All questions", "all", tuple(range(len(questions))))
    yield from _split("Benchmark", [str(item["task"]) for item in questions])
    lengths = [item.get("duration") for item in questions]
    yield from _split("Video length", lengths, DURATIONS)
    kinds = [item.get("kind") for item in questions]
    yield from _split("Kind of question", kinds)
    both = [f"{kind}, {length}" if kind and length else None for kind, length in zip(kinds, lengths)]
    yield from _split(
        "Kind and video length", both, [f"{kind}, {length}" for kind in _seen(kinds) for length in DURATIONS]
    )
    categories = [f"{item['task']}: {item['category']}" if item.get("category") else None for item in questions]
    yield from _split("Category", categories)


def _seen(labels: Sequence[str | None]) -> list[str]:
    return sorted({label for label in labels if label})


def _split(group: str, labels: Sequence[str | None], order: Sequence[str] = ()) -> Iterator[Slice]:
    seen = _seen(labels)
    for name in [*(name for name in order if name in seen), *(name for name in seen if name not in order)]:
        yield Slice(group, name, tuple(at for at, label in enumerate(labels) if label == name))


def compare(evaluation: Evaluation, part: Slice, seed: int = 0) -> list[Score]:
    """Each model on a slice, and its difference from the first model; whole videos are resampled."""
    videos = [str(evaluation.questions[at].get("video") or evaluation.questions[at]["id"]) for at in part.rows]
    correct = {model: [rows[at]["correct"] for at in part.rows] for model, rows in evaluation.answers.items()}
    first = evaluation.models[0]
    return [
        Score(
            model,
            accuracy(correct[model], videos, seed),
            None if model == first else difference(correct[first], correct[model], videos, seed),
            len(set(videos)),
        )
        for model in evaluation.models
    ]


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
    gain = score.gain
    assert gain is not None
    says = {
        "higher": "The interval excludes 0: higher on these questions.",
        "lower": "The interval excludes 0: lower on these questions.",
        "no difference shown": "The interval includes 0: no difference shown.",
    }.get(score.reading, f"T{score.reading[1:]}.")
    return join(
        tag("strong", score.model), f" answers {points(score.accuracy.value)} % right, ", tag("strong", reference.model),
        f" {points(reference.accuracy.value)} %: {signed(gain.value)} points, 95 % interval {signed(gain.low)} to {signed(gain.high)}. ",
        says,
    )  # fmt: skip


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
    marks = charts.ticks(100 * min(0.0, *(gain.low for gain in gains)), 100 * max(0.0, *(gain.high for gain in gains)))
    return charts.Scale(marks[0], marks[-1])


def _rows(
    part: Slice, scores: Sequence[Score], scale: charts.Scale | None, colours: dict[str, int]
) -> Iterator[Markup]:
    for at, score in enumerate(scores):
        colour = colours[score.model]
        heads = (
            tag("th", tag("bdi", part.name.replace("_", " ")), scope="row", rowspan=len(scores)),
            tag("td", f"{len(part.rows):,}", rowspan=len(scores), class_="number"),
        )
        gain, mark = score.gain, None
        if gain and scale:
            mark = charts.interval_mark(scale, *(100 * value for value in (gain.value, gain.low, gain.high)), colour)
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
            scored.get("metric", "\u2013"),
            model,
            scored.get("n", "\u2013"),
            charts.number(scored["score"], 5),
            numeric=(3, 4),
        )
        for model, entry in evaluation.results["models"].items()
        for task, scored in sorted(entry.get("tasks", {}).items())
    ]
    note = (
        "A benchmark\u2019s own metric may weigh categories instead of questions; then it differs from the table above."
    )
    return join(
        table(
            "Scores of the harness", ["Benchmark", "Metric", "Model", "n", "Score"], tag("tbody", rows), numeric=(3, 4)
        ),
        tag("p", note, class_="note"),
    )


def swatch(colour: int) -> Markup:
    """A patch of a series' colour."""
    return tag("span", class_=f"swatch {charts.series(colour)}", aria_hidden="true")


def bounds(form: Any, interval: Interval) -> Markup:
    """The interval's ends, in small type."""
    return tag("small", f"{form(interval.low)} to {form(interval.high)}")


def points(share: float) -> str:
    """A share in percent."""
    return f"{100 * share:.1f}"


def signed(share: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    text = f"{100 * share:+.1f}".replace("-", "\u2212")
    return "0.0" if text[1:] == "0.0" else text
