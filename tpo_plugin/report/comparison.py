"""What the answers of several models to the same questions allow to say: slices, accuracies, paired differences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tpo_plugin.errors import TPOError
from tpo_plugin.evaluation.bootstrap import Interval, accuracy, difference
from tpo_plugin.report import sources

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

    @property
    def videos(self) -> int:
        """How many videos the questions are about."""
        return len(set(map(video_of, self.questions)))


def video_of(question: dict[str, Any]) -> tuple[str, str]:
    """The benchmark and the video that a question is about; without a named video it stands for itself."""
    return str(question["task"]), str(question.get("video") or question["id"])


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
            return "reference"
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
    for label, model in models.items():
        if not all({"score", "n", "metric"} <= scored.keys() for scored in model.get("tasks", {}).values()):
            raise TPOError(
                f"{run / 'results.json'}: {label} has a task without score, n or metric; run `{COMMAND}` again"
            )
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
        if found != scored["n"]:
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
    videos = [video_of(evaluation.questions[at]) for at in part.rows]
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
