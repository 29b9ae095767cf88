"""`tpo demo`: the whole loop on the tiny world.

    world -> curate -> train (TPO, and SFT on the chosen responses) -> evaluate (base and both) -> summary, report

Every stage resumes or reuses what it finds finished in the output folder.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tpo_plugin.curation.pipeline import curate
from tpo_plugin.evaluation.run import evaluate
from tpo_plugin.options import CurateRecipe, EvaluateRecipe, TrainRecipe
from tpo_plugin.recipe import load, shipped
from tpo_plugin.records import write_json
from tpo_plugin.report.page import write_report
from tpo_plugin.tiny.server import TinyServer
from tpo_plugin.tiny.setting import WorldSizes, base_checkpoint, write_world
from tpo_plugin.tiny.summary import summarise, table
from tpo_plugin.training.run import train

logger = logging.getLogger(__name__)
SIZES = WorldSizes()


def demo(output: Path, seeds: list[int]) -> str:
    """Run the loop once for each seed and return the results as a text; `summary.json` in `output` holds the same.

    One seed writes to `output` itself, several to `output/seed-N` and all together to `output/summary.json`.
    """
    folders = {seed: output if len(seeds) == 1 else output / f"seed-{seed}" for seed in seeds}
    summaries = {seed: run(folder, seed) for seed, folder in folders.items()}
    summary = summaries[seeds[0]]
    if len(seeds) > 1:
        summary = {**summarise(list(folders.values())), "seeds": {str(seed): one for seed, one in summaries.items()}}
        write_json(output / "summary.json", summary)
    reports = "\n".join(f"report: {folder / 'report.html'}" for folder in folders.values())
    return f"{table(summary)}\n{reports}"


def run(output: Path, seed: int, sizes: WorldSizes = SIZES) -> dict[str, Any]:
    """One seed's loop; its summary, also written to `output/summary.json`.

    `seconds` holds each stage's longest run so far: a second run that only reuses results does not replace it.
    """
    before = output / "summary.json"
    seconds = json.loads(before.read_text(encoding="utf-8"))["seconds"] if before.is_file() else {}

    @contextmanager
    def timed(stage: str) -> Iterator[None]:
        logger.info("%s, seed %d", stage, seed)
        started = time.monotonic()
        yield
        seconds[stage] = max(seconds.get(stage, 0.0), round(time.monotonic() - started, 1))

    world, pairs, models = output / "world", output / "pairs", {"base": base_checkpoint()}
    with timed("world"):
        write_world(world, seed, sizes)
    with timed("curate"), TinyServer() as server:
        curate(_curate_recipe(world, pairs, seed, server.base_url))
    for name in ("sft_self", "tpo"):
        with timed(f"train_{name}"):
            models[name] = str(train(_train_recipe(name, pairs, output / name, seed)))
    with timed("evaluate"):
        evaluate(_evaluate_recipe(world, models, output / "evaluation"))
    with timed("report"):
        training = {name: output / name for name in ("sft_self", "tpo")}
        write_report(output / "report.html", pairs, training, {"evaluation": output / "evaluation"})
    summary = {**summarise([output]), "seconds": seconds}
    write_json(output / "summary.json", summary)
    return summary


def _curate_recipe(world: Path, output: Path, seed: int, base_url: str) -> CurateRecipe:
    recipe = load(CurateRecipe, shipped("tiny/curate"))
    captioner = recipe.captions.generator
    captioner = replace(captioner, server=replace(captioner.server, base_url=base_url))
    return replace(
        recipe,
        output=str(output),
        seed=seed,
        videos=replace(recipe.videos, source=str(world / "videos")),
        captions=replace(recipe.captions, generator=captioner),
        responses=replace(recipe.responses, model=base_checkpoint()),
        llm=replace(recipe.llm, base_url=base_url),
    )


def _train_recipe(name: str, pairs: Path, output: Path, seed: int) -> TrainRecipe:
    recipe = load(TrainRecipe, shipped(f"tiny/{name}"))
    return replace(recipe, model=base_checkpoint(), data=str(pairs), output=str(output), seed=seed)


def _evaluate_recipe(world: Path, models: dict[str, str], output: Path) -> EvaluateRecipe:
    recipe = load(EvaluateRecipe, shipped("tiny/evaluate"))
    return replace(recipe, models=models, data=str(world / "benchmarks"), output=str(output))
