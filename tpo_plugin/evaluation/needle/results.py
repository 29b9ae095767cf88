"""What a needle run leaves in its output folder, and reading it again.

results.json                 per model the cells with both scores; everything that can change a number
<label>/answers.jsonl        each question's answer
<label>/all_accuracies.json  V-NIAH's own schema, with the teacher-forced score, as there
<label>/heatmap.svg          the same as a picture; heatmap_generated.svg of the generated score
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tpo_plugin.errors import EvaluationError
from tpo_plugin.records import read_jsonl, write_json, write_jsonl, write_text
from tpo_plugin.report.heatmap import heat_map

logger = logging.getLogger(__name__)

SCORES = ("teacher_forced", "generated")
FILES = {"teacher_forced": "heatmap.svg", "generated": "heatmap_generated.svg"}
WORDS = {"teacher_forced": "teacher-forced", "generated": "generated"}

Answers = Sequence[Mapping[str, Any]]


def write_results(
    output: Path, models: Mapping[str, Mapping[str, Any]], answers: Mapping[str, Answers], facts: Mapping[str, Any]
) -> None:
    """Write the files of a finished run; `models` says of each label what it is, `results.json` is written last."""
    found = {}
    for label, facts_of in models.items():
        cells = by_cell(answers[label])
        means = {f"mean_{score}": round(sum(cell[score] for cell in cells) / len(cells), 6) for score in SCORES}
        found[label] = {**facts_of, "cells": cells, **means}
        folder = output / label
        write_jsonl(folder / "answers.jsonl", map(dict, answers[label]))
        write_json(folder / "all_accuracies.json", as_v_niah(cells))
        for score, file in FILES.items():
            title = f"{label}: needle in a haystack, {WORDS[score]}"
            write_text(folder / file, f"{heat_map(title, places(cells, score))}\n")
    write_json(output / "results.json", {"models": found, **facts})
    for label, model in found.items():
        said = ", ".join(f"{WORDS[score]} {100 * model[f'mean_{score}']:.1f} %" for score in SCORES)
        logger.info("%s: %s of the needles found", label, said)


def by_cell(answers: Answers) -> list[dict[str, Any]]:
    """The mean of both scores over the needles, for each cell in its order."""
    groups: dict[tuple[int, float], list[Mapping[str, Any]]] = {}
    for answer in answers:
        groups.setdefault((answer["frames"], answer["depth"]), []).append(answer)
    return [
        {
            "frames": frames,
            "depth": depth,
            **{score: round(sum(answer[score] for answer in group) / len(group), 6) for score in SCORES},
            "n": len(group),
        }
        for (frames, depth), group in groups.items()
    ]


def as_v_niah(cells: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The cells as V-NIAH's all_accuracies.json has them; the depth in percent."""
    return [
        {
            "Num. Frame": cell["frames"],
            "Frame Depth": round(100.0 * cell["depth"], 3),
            "Score": cell["teacher_forced"],
        }
        for cell in cells
    ]


def places(cells: Sequence[Mapping[str, Any]], score: str) -> list[tuple[int, float, float]]:
    """The cells as `report.heatmap` takes them."""
    return [(cell["frames"], cell["depth"], cell[score]) for cell in cells]


@dataclass(frozen=True)
class Result:
    """One model of a finished run: its label, its part of results.json, the rest of results.json, its answers."""

    label: str
    model: dict[str, Any]
    facts: dict[str, Any]
    answers: list[dict[str, Any]]


def read_result(named: str) -> Result:
    """The result that OUTPUT or OUTPUT:LABEL names. EvaluationError if there is none, or several and no label."""
    folder, label = Path(named), ""
    if not (folder / "results.json").is_file() and ":" in named:
        path, _, label = named.rpartition(":")
        folder = Path(path)
    try:
        results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise EvaluationError(f"no finished needle run in {folder} (results.json is written last)") from None
    except ValueError as error:
        raise EvaluationError(f"{folder / 'results.json'} is not JSON: {error}") from None
    models = results.pop("models", None)
    if not isinstance(models, dict) or not all("mean_teacher_forced" in model for model in models.values()):
        raise EvaluationError(f"{folder / 'results.json'} is not of a needle run")
    label = label or (next(iter(models)) if len(models) == 1 else "")
    if label not in models:
        known = ", ".join(f"{folder}:{name}" for name in models)
        raise EvaluationError(f"{named}: say which model, one of {known}")
    return Result(label, models[label], results, list(read_jsonl(folder / label / "answers.jsonl")))
