"""What the answers of several models to the same questions allow to say: slices, accuracies, paired differences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tpo_plugin.evaluation.bootstrap import Interval, intervals
from tpo_plugin.integrations.lmms_eval_tasks import base_task
from tpo_plugin.report.answers import Cell, Model, Question, asked
from tpo_plugin.report.mcnemar import Discordance, discordance

DURATIONS = ("short", "medium", "long")
FEWEST_VIDEOS = 10  # below this a resampling interval says more about the videos than about the models


@dataclass(frozen=True)
class Comparison:
    """Models on the questions that all of them answered, row by row; `left_out` are sentences on what was not compared, and why."""

    questions: list[Question]
    correct: dict[str, list[int]]
    left_out: list[str]

    @property
    def models(self) -> list[str]:
        return list(self.correct)

    @property
    def videos(self) -> int:
        """How many videos the questions are about."""
        return len(set(map(video_of, self.questions)))


def video_of(question: Question) -> tuple[str, str]:
    """The benchmark and the video that a question is about, the same for the variants of a benchmark."""
    return base_task(question.task), question.video


@dataclass(frozen=True)
class Slice:
    """Some of the questions, by their row numbers; `group` is what they were picked by."""

    group: str
    name: str
    rows: tuple[int, ...]


@dataclass(frozen=True)
class Score:
    """One model on one slice; `gain` and `changed` are its paired difference from the reference (None: it is that itself)."""

    model: str
    accuracy: Interval
    gain: Interval | None
    changed: Discordance | None
    videos: int

    @property
    def reading(self) -> str:
        """What the interval of the difference allows to say."""
        if self.gain is None:
            return "reference"
        if self.videos < FEWEST_VIDEOS:
            return f"too few videos to tell ({self.videos})"
        if self.gain.low > 0:
            return "higher"
        return "lower" if self.gain.high < 0 else "no difference shown"


def match(models: Sequence[Model]) -> Comparison:
    """The questions that every model answered, in the first one's order, with each model's own number of frames."""
    questions: list[Question] = []
    correct: dict[str, list[int]] = {model.label: [] for model in models}
    left_out: list[str] = []
    for task in asked(models):
        cells = {model.label: place[1] for model in models if (place := model.cell(task))}
        if absent := [label for label in correct if label not in cells]:
            left_out.append(f"{task}: not compared, for {named(absent)} did not run it.")
            continue
        common = shared(cells)
        left_out += _left_out(task, cells, common)
        questions += [replace(question, task=task) for question in common]
        for label, cell in cells.items():
            correct[label] += [cell.answers[question] for question in common]
    return Comparison(questions, correct, left_out)


def shared(cells: dict[str, Cell]) -> list[Question]:
    """The questions that all cells answer, in the first one's order; of other wording in one of them is another question."""
    first, *others = cells.values()
    wordings = [{question: question.text for question in cell.answers} for cell in cells.values()]
    return [
        question
        for question in first.answers
        if all(question in cell.answers for cell in others)
        and len({words[question] for words in wordings} - {""}) <= 1
    ]  # fmt: skip


def _left_out(task: str, cells: dict[str, Cell], common: Sequence[Question]) -> Iterator[str]:
    """What of a benchmark that all models ran is not compared, in words."""
    ids = {label: {question.id for question in cell.answers} for label, cell in cells.items()}
    every = set().union(*ids.values())
    if len(common) == len(every):
        return
    differing = len(set.intersection(*ids.values())) - len(common)
    why = [f"{label} lacks {len(every - known):,}" for label, known in ids.items() if every - known]
    why += [f"{differing:,} differ in wording, video or right answer between the models"] if differing else []
    yield f"{task}: {len(common):,} of {len(every):,} questions are compared; {named(why)}."


def named(items: Sequence[str], most: int = 6) -> str:
    """The items as a list in words, cut after some."""
    shown = [*items[:most], f"{len(items) - most} more"] if len(items) > most else list(items)
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else "".join(shown)


def slices(questions: Sequence[Question]) -> Iterator[Slice]:
    """All questions; then by benchmark, duration, temporal category, kind, kind and duration, and all categories of each benchmark."""
    yield Slice("All questions", "all", tuple(range(len(questions))))
    yield from _split("Benchmark", [[question.task] for question in questions])
    lengths = [[_length(question.duration)] if question.duration else [] for question in questions]
    yield from _split("Video length", lengths, DURATIONS)
    categories = [[f"{question.task}: {name}" for name in question.categories] for question in questions]
    temporal = [[name for name in names if "temporal" in name.lower()] for names in categories]
    yield from _split("Temporal questions", temporal)
    kinds = [[question.kind] if question.kind else [] for question in questions]
    yield from _split("Kind of question", kinds)
    both = [[f"{kind}, {name}" for kind in one for name in length] for one, length in zip(kinds, lengths)]
    yield from _split(
        "Kind and video length", both, [f"{kind}, {length}" for kind in _seen(kinds) for length in DURATIONS]
    )
    yield from _split("Category", categories)


def _length(duration: str) -> str:
    """A duration's name; LongVideoBench has its groups' upper ends, in seconds."""
    return f"up to {int(duration):>4} s" if duration.isdigit() else duration


def _seen(labels: Sequence[Sequence[str]]) -> list[str]:
    return sorted({label for names in labels for label in names})


def _split(group: str, labels: Sequence[Sequence[str]], order: Sequence[str] = ()) -> Iterator[Slice]:
    rows: dict[str, list[int]] = {}
    for at, names in enumerate(labels):
        for name in names:
            rows.setdefault(name, []).append(at)
    for name in [*(name for name in order if name in rows), *(name for name in sorted(rows) if name not in order)]:
        yield Slice(group, name, tuple(rows[name]))


def compare(comparison: Comparison, part: Slice, reference: str | None = None, seed: int = 0) -> list[Score]:
    """Each model on a slice, and its difference from the reference (default: the first model); whole videos are resampled."""
    reference = reference or comparison.models[0]
    videos = [video_of(comparison.questions[at]) for at in part.rows]
    correct = {model: [rows[at] for at in part.rows] for model, rows in comparison.correct.items()}
    others = [model for model in correct if model != reference]
    gains = [[after - before for before, after in zip(correct[reference], correct[model])] for model in others]
    found = intervals([*correct.values(), *gains], videos, seed)
    accuracies, gained = dict(zip(correct, found)), dict(zip(others, found[len(correct) :]))
    return [
        Score(
            model,
            accuracies[model],
            gained.get(model),
            None if model == reference else discordance(correct[reference], correct[model]),
            len(set(videos)),
        )
        for model in correct
    ]
