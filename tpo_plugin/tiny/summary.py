"""What the demo's summary says: accuracies by length and kind of question, and how good the pairs really are."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tpo_plugin.evaluation.bootstrap import Interval, accuracy, difference
from tpo_plugin.evaluation.cells import ANSWERS, cell_folder
from tpo_plugin.records import PreferencePair, from_json, read_jsonl
from tpo_plugin.tiny.questions import same_answer, true_answer
from tpo_plugin.tiny.world import Scene

LONG = 12  # scenes
SHORT = 3
Answer = dict[str, Any]
SLICES: dict[str, Callable[[Answer], bool]] = {
    "short": lambda answer: answer["scenes"] <= SHORT,
    "long": lambda answer: answer["scenes"] >= LONG,
    "localized": lambda answer: answer["kind"] == "localized",
    "comprehensive": lambda answer: answer["kind"] == "comprehensive",
    "long_localized": lambda answer: answer["scenes"] >= LONG and answer["kind"] == "localized",
    "long_comprehensive": lambda answer: answer["scenes"] >= LONG and answer["kind"] == "comprehensive",
}


def summarise(runs: Sequence[Path]) -> dict[str, Any]:
    """`models`, `differences` and `pairs` of the demo's summary.json over one or several seeds' output folders.

    Accuracies and differences are in percent; `intervals` holds [low, high, n]: the bootstrap 95 % interval over whole videos, all
    seeds' questions together, and the number of questions.
    """
    answers = [_answers(run) for run in runs]
    models = {label: [row for one in answers for row in one[label]] for label in answers[0]}
    return {
        "models": {label: _numbers(rows) for label, rows in models.items()},
        "differences": {
            f"{label} - {other}": _numbers(models[label], models[other])
            for index, label in enumerate(models)
            for other in list(models)[:index]
        },
        "pairs": _pair_quality(runs),
    }


def _answers(run: Path) -> dict[str, list[Answer]]:
    """Each model's answers in the order of the questions; a video is named with its run."""
    results = json.loads((run / "evaluation" / "results.json").read_text(encoding="utf-8"))
    answers: dict[str, list[Answer]] = {label: [] for label in results["models"]}
    for cell in results["cells"]:
        folder = cell_folder(run / "evaluation", cell["model"], cell["frames"], cell["task"])
        rows = read_jsonl(folder / ANSWERS)
        answers[cell["model"]] += [{**row, "video": f"{run.name}/{row['video']}"} for row in rows]
    return answers


def _numbers(rows: list[Answer], against: list[Answer] | None = None) -> dict[str, Any]:
    """Accuracy, or its difference to another model's on the same questions, of each slice."""
    numbers: dict[str, Any] = {"n": len(rows), "intervals": {}}
    for name, wanted in SLICES.items():
        picked = [index for index, row in enumerate(rows) if wanted(row)]
        found = _interval([rows[index] for index in picked], against and [against[index] for index in picked])
        numbers[name] = round(100 * found.value, 1)
        numbers["intervals"][name] = [round(100 * found.low, 1), round(100 * found.high, 1), found.n]
    return numbers


def _interval(rows: list[Answer], against: list[Answer] | None) -> Interval:
    correct, videos = [row["correct"] for row in rows], [row["video"] for row in rows]
    if against is None:
        return accuracy(correct, videos)
    return difference([row["correct"] for row in against], correct, videos)


def _pair_quality(runs: Sequence[Path]) -> dict[str, Any]:
    """How many pairs were kept and dropped, and the share of chosen responses that are right and of rejected ones that are wrong.

    `before_filters` has the same shares of all candidates.
    """
    judged: list[tuple[PreferencePair, bool, bool]] = []
    dropped: Counter[str] = Counter()
    for run in runs:
        world = json.loads((run / "world" / "scenes.json").read_text(encoding="utf-8"))
        scenes = {name: [Scene(**scene) for scene in listed] for name, listed in world.items()}
        for row in read_jsonl(run / "pairs" / "candidates.jsonl"):
            pair = from_json(PreferencePair, row)
            true = true_answer(pair.query.text, scenes[pair.video.path]) or ""
            judged.append((pair, same_answer(pair.chosen, true), not same_answer(pair.rejected, true)))
        for stage in json.loads((run / "pairs" / "statistics.json").read_text(encoding="utf-8"))["funnel"]:
            dropped.update(stage["dropped"])
    kept = [one for one in judged if not one[0].drop]
    return {
        "kept": len(kept),
        "dropped": dict(dropped),
        **_shares(kept),
        "before_filters": {"candidates": len(judged), **_shares(judged)},
    }


def _shares(judged: Sequence[tuple[PreferencePair, bool, bool]]) -> dict[str, float]:
    count = max(1, len(judged))
    return {
        "chosen_right": round(sum(right for _, right, _ in judged) / count, 4),
        "rejected_wrong": round(sum(wrong for _, _, wrong in judged) / count, 4),
    }


def table(summary: dict[str, Any]) -> str:
    """The summary for a terminal."""
    lines = ["  ".join(["accuracy, %".ljust(16), *(name.rjust(19) for name in SLICES)])]
    for part in ("models", "differences"):
        sign = "+" if part == "differences" else ""
        for label, numbers in summary[part].items():
            cells = []
            for name in SLICES:
                low, high, _ = numbers["intervals"][name]
                cells.append(f"{numbers[name]:{sign}.1f} ({low:{sign}.1f} {high:{sign}.1f})".rjust(19))
            lines.append("  ".join([label.ljust(16), *cells]))
    pairs, before = summary["pairs"], summary["pairs"]["before_filters"]
    counts = ", ".join(f"{count} {name}" for name, (_, _, count) in summary["models"]["base"]["intervals"].items())
    return "\n".join(
        [
            *lines,
            f"in brackets: bootstrap 95 % interval over videos; questions: {counts}",
            f"pairs: {pairs['kept']} of {before['candidates']} candidates kept; chosen right {pairs['chosen_right']:.1%} "
            f"(before the filters {before['chosen_right']:.1%}), rejected wrong {pairs['rejected_wrong']:.1%} "
            f"({before['rejected_wrong']:.1%})",
        ]
    )
