"""What the evaluations and needles of an ablation measured, put together over seeds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tpo_plugin.ablation.plan import Stage
from tpo_plugin.report.answers import Cell, load

Plain = dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """A model's answers in one cell; `main`: not one of a frame sweep; `data`: the digest of the benchmark's questions."""

    name: str
    seed: int
    cell: Cell
    main: bool
    data: str


def measured(done: Mapping[int, Sequence[Stage]]) -> list[Measured]:
    """All cells of all seeds."""
    found: list[Measured] = []
    for seed, stages in done.items():
        for stage in stages:
            if stage.command != "evaluate":
                continue
            results = load(stage.name, stage.folder)
            digests = results.facts.get("data_digest") or {}
            for name, cells in results.cells.items():
                for cell in cells:
                    # Without local data, the digest of what lmms-eval asked.
                    data = digests.get(cell.task) or cell.result["questions"]
                    found.append(Measured(name, seed, cell, not results.facts.get("sweep"), data))
    return found


def summary_rows(cells: Sequence[Measured], needles: Sequence[Plain]) -> Iterator[Plain]:
    """The rows of summary.json. Scores are in percent: the benchmark's own for the category `all` (as it is, where its cell has no
    `unit`), accuracies for the others."""
    for one in cells:
        result = one.cell.result
        row = {"name": one.name, "seed": one.seed, "benchmark": one.cell.task, "frames": one.cell.frames}
        yield {**row, "category": "all", "score": result["score"], "n": result["n"]}
        for name, found in result.get("categories", {}).items():
            yield {**row, "category": name, "score": found["value"], "n": found["n"]}
    yield from needles


def needle_rows(done: Mapping[int, Sequence[Stage]]) -> list[Plain]:
    """The needles' cells as rows of summary.json: a score for teacher-forced and one for generated answers at each depth and number of
    frames."""
    rows = []
    for seed, stages in done.items():
        for stage in stages:
            if stage.command != "needle":
                continue
            results = json.loads((Path(stage.folder) / "results.json").read_text(encoding="utf-8"))
            for name, model in results["models"].items():
                for cell in model["cells"]:
                    row = {"name": name, "seed": seed, "benchmark": "needle", "frames": cell["frames"]}
                    for how in ("teacher_forced", "generated"):
                        category = f"{how.replace('_', '-')}, depth {cell['depth']:g}"
                        rows.append({**row, "category": category, "score": round(100 * cell[how], 3), "n": cell["n"]})
    return rows
