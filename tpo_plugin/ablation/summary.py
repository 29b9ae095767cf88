"""What an ablation leaves: `summary.json`, `table.md`, `stages.json` and a report page a seed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from tpo_plugin.ablation.collect import measured, needle_rows, summary_rows
from tpo_plugin.ablation.plan import Stage, result
from tpo_plugin.ablation.table import ACCURACY_NOTE, accuracy_tables, main_table, needle_table, note, sweep_table
from tpo_plugin.evaluation.needle.compare import compare
from tpo_plugin.integrations.llava_family.claim import FILE as RUN
from tpo_plugin.options import AblateRecipe
from tpo_plugin.records import write_json, write_text
from tpo_plugin.report.page import write_report

DONE = "ablation.json"  # in a stage's folder: what it is made of and, when it has ended well, how long it took
CHAIN = "chain.json"  # of `tpo train` with `steps`


def summarise(recipe: AblateRecipe, output: Path, done: Mapping[int, Sequence[Stage]]) -> str:
    """Write the files from the seeds that are done, and return the tables as text."""
    base = next(iter(recipe.models))
    cells, needles = measured(done), needle_rows(done)
    parts = [
        main_table(cells, base, pairs_of(recipe, done)),
        "\n\n".join(accuracy_tables(cells, base)),
        sweep_table(cells, base),
        needle_table(needles),
    ]
    titles = [
        note(base, len(done)),
        ACCURACY_NOTE.format(base=base),
        "By number of frames: own scores, and the difference in accuracy as above.",
        "Needle in a haystack: right answers in %, over all depths.",
    ]
    text = "\n\n".join(f"{title}\n\n{part}" for title, part in zip(titles, parts) if part) + "\n"
    write_json(output / "summary.json", list(summary_rows(cells, needles)))
    write_json(output / "stages.json", list(_stages(done)))
    write_text(output / "table.md", text)
    for stages in done.values():
        _heat_maps(base, stages)
    pages = [str(_report(seed, output / f"seed-{seed}", stages)) for seed, stages in done.items()]
    return f"{text}\n" + "\n".join(f"report: {page}" for page in pages)


def _heat_maps(base: str, stages: Sequence[Stage]) -> None:
    """Each model of a needle stage beside the base, as pictures in the stage's folder."""
    for stage in stages:
        if stage.command != "needle" or base not in stage.recipe["models"]:
            continue
        for name in stage.recipe["models"]:
            if name != base:
                compare(f"{stage.folder}:{base}", f"{stage.folder}:{name}", stage.folder / f"{base}-{name}.svg")


def pairs_of(recipe: AblateRecipe, done: Mapping[int, Sequence[Stage]]) -> dict[str, str]:
    """How many pairs each training took, step by step; a range where the seeds differ. Empty where a script does not say it."""
    said = {}
    for name in recipe.train:
        steps: list[list[int]] = []
        for stages in done.values():
            steps.append(
                [count for stage in stages if (stage.command, stage.name) == ("train", name) for count in _pairs(stage)]
            )
        ranges = [(min(found), max(found)) for found in zip(*steps) if None not in found]
        complete = ranges and all(len(counts) == len(ranges) for counts in steps)
        words = [str(low) if low == high else f"{low}-{high}" for low, high in ranges]
        said[name] = " + ".join(words) if complete else ""
    return said


def _pairs(stage: Stage) -> list[Any]:
    """The pairs of each step of a training; None where an earlier release did not write it down."""
    if "steps" in stage.recipe:
        return [step.get("pairs") for step in _read(stage.folder / CHAIN)["steps"]]
    return [_read(Path(result(stage)) / RUN if "flags" in stage.recipe else stage.folder / "done.json").get("pairs")]


def _read(file: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return values


def _stages(done: Mapping[int, Sequence[Stage]]) -> Iterator[dict[str, Any]]:
    for seed, stages in done.items():
        for stage in stages:
            marker = json.loads((stage.folder / DONE).read_text(encoding="utf-8"))
            row = {"seed": seed, "command": stage.command, "name": stage.name, "folder": str(stage.folder)}
            yield {**row, "seconds": marker["seconds"]}


def _report(seed: int, folder: Path, stages: Sequence[Stage]) -> Path:
    """The seed's report page: its first curation, its trainings (of a chain each step) as far as they leave a history, all its evaluations
    and needles."""
    curations = [stage.folder for stage in stages if stage.command == "curate"]
    training: dict[str, Path] = {}
    for name, steps in groupby((stage for stage in stages if stage.command == "train"), key=lambda stage: stage.name):
        last = list(steps)[-1]
        folders = {
            name: last.folder,
            **{f"{name}: {step['name']}": last.folder / step["name"] for step in last.recipe.get("steps", ())},
        }
        training |= {title: place for title, place in folders.items() if (place / "history.json").is_file()}
    evaluations, needles = (
        {stage.name: stage.folder for stage in stages if stage.command == command} for command in ("evaluate", "needle")
    )
    pairs = curations[0] if curations else None
    return write_report(folder / "report.html", pairs, training, evaluations, f"Ablation, seed {seed}", needles=needles)
