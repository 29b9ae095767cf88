"""What `tpo evaluate` left: cells (a model, a number of frames, a benchmark) with the answers to their questions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tpo_plugin.errors import TPOError
from tpo_plugin.integrations.lmms_eval_tasks import base_task
from tpo_plugin.records import stable_id
from tpo_plugin.report import sources

COMMAND = "tpo evaluate"
NEEDED = ("model", "frames", "task", "score", "n", "metric")


@dataclass(frozen=True, slots=True)
class Question:
    """A benchmark's question. Two are the same if these agree: benchmark (in whatever variant), id, video and right answer.

    `text` is a digest of its wording, or empty where only the whole prompt is known.
    """

    task: str
    id: str
    video: str
    answer: str
    text: str = field(default="", compare=False)
    categories: tuple[str, ...] = field(default=(), compare=False)
    duration: str | None = field(default=None, compare=False)
    kind: str | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Cell:
    """One model on one benchmark with one number of frames (None: the wrapper's own); `answers` are 1 (right) or 0."""

    frames: int | None
    task: str
    result: dict[str, Any]
    answers: dict[Question, int]


@dataclass(frozen=True)
class Results:
    """One output folder of `tpo evaluate`; `facts` is what it recorded besides models and cells."""

    label: str
    recipe: dict[str, Any] | None
    models: dict[str, dict[str, Any]]
    facts: dict[str, Any]
    cells: dict[str, list[Cell]]  # by model


@dataclass(frozen=True)
class Model:
    """One model to compare, under a label of its own; `parts` are the folders (usually one) that evaluated it, with its label there."""

    label: str
    parts: list[tuple[Results, str]]

    @property
    def cells(self) -> Iterator[tuple[Results, Cell]]:
        for results, name in self.parts:
            for cell in results.cells[name]:
                yield results, cell

    @property
    def checkpoint(self) -> str:
        results, name = self.parts[0]
        return str(results.models[name].get("checkpoint", ""))

    @property
    def chain(self) -> list[dict[str, Any]]:
        """The trainings that made the checkpoint, if a chain or stages did."""
        results, name = self.parts[0]
        return list(results.models[name].get("chain") or [])

    def cell(self, task: str) -> tuple[Results, Cell] | None:
        """The model's cell on a benchmark: outside a sweep if there is one, with the largest number of frames.

        Without one of that name it is a cell on a variant of the benchmark with another prompt.
        """

        def rank(place: tuple[Results, Cell]) -> tuple[bool, int]:
            results, cell = place
            return not results.facts.get("sweep"), cell.frames or 0

        named = [place for place in self.cells if place[1].task == task]
        return max(named or [place for place in self.cells if base_task(place[1].task) == task], key=rank, default=None)


def load(label: str, path: Path) -> Results:
    """Read an evaluation output folder; TPOError names the file that is missing, unreadable or incomplete."""
    run = sources.folder(path, f"evaluation {label}", COMMAND)
    file = run / "results.json"
    facts = sources.without_secrets(sources.read_json(file, dict, COMMAND))
    models, cells = facts.pop("models", None), facts.pop("cells", None)
    if not isinstance(models, dict) or not models or not isinstance(cells, list):
        raise TPOError(f"{file} has no `models` and `cells` (older versions wrote none); run `{COMMAND}` again")
    loaded: dict[str, list[Cell]] = {name: [] for name in models}
    for number, result in enumerate(cells, 1):
        if not isinstance(result, dict) or not set(NEEDED) <= result.keys():
            raise TPOError(f"{file}, cell {number}: needs {', '.join(NEEDED)}; run `{COMMAND}` again")
        name, frames, task = result["model"], result["frames"], str(result["task"])
        if name not in models:
            raise TPOError(f"{file}, cell {number}: its model {name} is not in `models`; run `{COMMAND}` again")
        path = run / name / ("default" if frames is None else str(frames)) / task / "answers.jsonl"
        loaded[name].append(Cell(frames, task, result, _answers(path, task, result["n"])))
    return Results(label, sources.read_recipe(run), models, facts, {name: loaded[name] for name in models})


def _answers(path: Path, task: str, count: int) -> dict[Question, int]:
    """Right or wrong for each question of one cell; as many as its result says."""
    answers: dict[Question, int] = {}
    seen: set[str] = set()
    for line, row in enumerate(sources.read_rows(path, COMMAND), 1):
        if "id" not in row or row.get("correct") not in (0, 1):
            raise TPOError(f"{path}, record {line}: needs `id` and `correct` (0 or 1); run `{COMMAND}` again")
        question = _question(task, row)
        if question.id in seen:
            raise TPOError(f"{path}, record {line}: question {question.id} is answered twice; run `{COMMAND}` again")
        seen.add(question.id)
        answers[question] = int(row["correct"])
    if len(answers) != count or not answers:
        raise TPOError(f"{path} holds {len(answers)} answers, results.json counts {count}; run `{COMMAND}` again")
    return answers


def _question(task: str, row: dict[str, Any]) -> Question:
    text, name = row.get("question"), str(row["id"])
    known = {key: str(row[key]) if row.get(key) else None for key in ("duration", "kind")}
    listed = row.get("categories") or ([row["category"]] if row.get("category") else [])
    return Question(
        base_task(task),
        name,
        str(row.get("video") or name),  # without a named video a question stands for itself
        str(row.get("answer", "")),
        stable_id(text) if text and text != row.get("prompt") else "",
        tuple(str(name) for name in listed if str(name) not in known.values()),
        **known,
    )


def combine(folders: Sequence[Results]) -> list[Model]:
    """The models of all folders, each under one label.

    A label that several folders use is one model where they hold the same checkpoint and no cell twice; else each is told apart
    by its folder's label.
    """
    holders: dict[str, list[Results]] = {}
    for results in folders:
        for name in results.models:
            holders.setdefault(name, []).append(results)
    models: dict[str, Model] = {}
    for results in folders:
        for name in results.models:
            if len(holders[name]) == 1 or _same(name, holders[name]):
                models.setdefault(name, Model(name, [(holder, name) for holder in holders[name]]))
            else:
                label = f"{results.label}: {name}"
                models[label] = Model(label, [(results, name)])
    return list(models.values())


def _same(name: str, holders: Sequence[Results]) -> bool:
    """Whether the folders hold one checkpoint under this label, on different benchmarks or numbers of frames."""
    digests = [holder.models[name].get("digest") for holder in holders]
    places = [(cell.frames, cell.task) for holder in holders for cell in holder.cells[name]]
    return None not in digests and len(set(digests)) == 1 and len(set(places)) == len(places)


def asked(models: Sequence[Model]) -> list[str]:
    """The tasks to compare the models on. Variants of a benchmark stand for themselves where every model ran one of the same name; else
    all of them stand for the benchmark."""
    ran = [{cell.task for _, cell in model.cells} for model in models]
    common = set.intersection(*ran)
    found: dict[str, list[str]] = {}
    for task in dict.fromkeys(cell.task for model in models for _, cell in model.cells):
        found.setdefault(base_task(task), []).append(task)
    tasks = []
    for benchmark, names in found.items():
        tasks += names if len(names) == 1 or common.intersection(names) else [benchmark]
    return tasks


def load_all(folders: Mapping[str, Path]) -> list[Results]:
    """Read several folders by their labels."""
    return [load(label, path) for label, path in folders.items()]
