"""`tpo ablate`: each stage of the plan is the `tpo` command itself, in a process of its own; finished ones are not run again.

A stage is finished as long as its recipe, what it starts from, the code and, of an evaluation, the benchmarks' files are the same. The
videos of a curation and the pictures of a needle are not looked at: change the recipe, or remove the stage's folder, where they change.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from itertools import count, groupby
from pathlib import Path
from typing import Any

import yaml

from tpo_plugin import recipe as recipes
from tpo_plugin.ablation.plan import Stage, plan
from tpo_plugin.ablation.summary import DONE, summarise
from tpo_plugin.checks import at_least
from tpo_plugin.errors import RecipeError, TPOError
from tpo_plugin.evaluation.results import last_lines
from tpo_plugin.evaluation.run import read_benchmarks
from tpo_plugin.folders import locked
from tpo_plugin.options import AblateRecipe, EvaluateRecipe
from tpo_plugin.plugins import find
from tpo_plugin.records import write_json, write_text

logger = logging.getLogger(__name__)

LOG = "ablation.log"
ORDER = ("curate", "train", "evaluate", "needle")
SHOWN_LINES = 15


def ablate(recipe: AblateRecipe) -> str:
    """Run what is not finished yet, and return the table as text; `table.md` and `summary.json` in the output hold the same.

    Stopped anywhere, the same call continues. TPOError names the stage that failed and the last lines of its log.
    """
    check(recipe)
    output = Path(recipe.output)
    with locked(output):
        recipes.save(recipe, output)
        done: dict[int, list[Stage]] = {}
        text = ""
        for seed in recipe.seeds:
            folder = output / f"seed-{seed}"
            with prepared(recipe, folder, seed) as values:
                done[seed] = plan(recipe, folder, seed, values)
                _run_all(recipe, seed, done[seed])
            text = summarise(recipe, output, done)  # after each seed: a long run shows what it has
    return text


def check(recipe: AblateRecipe) -> None:
    """RecipeError for values that make no sense."""
    if not recipe.models:
        raise RecipeError(
            "`models` is empty: name the checkpoint that training starts from, and with which all are compared"
        )
    if not recipe.seeds or len(set(recipe.seeds)) < len(recipe.seeds):
        raise RecipeError(f"`seeds` must be different numbers, at least one, it is {recipe.seeds}")
    at_least("workers", recipe.workers, 1)
    at_least("threads", recipe.threads, 1)


def prepared(recipe: AblateRecipe, folder: Path, seed: int) -> AbstractContextManager[Mapping[str, Any]]:
    """The context in which a seed runs, and the values that it names."""
    if recipe.prepare is None:
        return nullcontext({})
    context: AbstractContextManager[Mapping[str, Any]] = find(recipe.prepare, {}, "prepare")(
        folder, seed, **recipe.prepare_with
    )
    return context


def _run_all(recipe: AblateRecipe, seed: int, stages: Sequence[Stage]) -> None:
    """The stages in their order; trainings, each step after step and after those that it starts from, `workers` at once."""
    for command in ORDER:
        entries = groupby((stage for stage in stages if stage.command == command), key=lambda stage: stage.name)
        waiting = {name: list(steps) for name, steps in entries}
        running: dict[Future[None], str] = {}
        with ThreadPoolExecutor(recipe.workers if command == "train" else 1) as pool:
            try:
                while waiting or running:
                    for name in _ready(waiting, list(running.values())):
                        running[pool.submit(_run_chain, recipe, seed, waiting.pop(name))] = name
                    for run in wait(running, return_when=FIRST_COMPLETED).done:
                        del running[run]
                        run.result()
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)  # those that run come to their end
                raise


def _ready(waiting: Mapping[str, Sequence[Stage]], running: Sequence[str]) -> list[str]:
    """Those of the waiting entries that use no result of one that waits or runs."""
    open_ = {*waiting, *running}
    return [name for name, steps in waiting.items() if not any((open_ - {name}) & {*step.after} for step in steps)]


def _run_chain(recipe: AblateRecipe, seed: int, chain: Sequence[Stage]) -> None:
    for stage in chain:
        if _finished(stage):
            logger.info("seed %d: %s %s is finished: %s", seed, stage.command, stage.name, stage.folder)
        else:
            _run(recipe, seed, stage)


def _finished(stage: Stage) -> bool:
    """Whether the stage's folder holds its result, made of the same."""
    marker = _marker(stage)
    if marker.get("identity") != stage.identity or "seconds" not in marker:
        return False
    return "data" not in marker or bool(marker["data"] == _benchmarks(stage))


def _benchmarks(stage: Stage) -> dict[str, str]:
    """Digests of the benchmarks that an evaluation reads on this machine. EvaluationError names what is missing there."""
    if stage.command != "evaluate":
        return {}
    found = read_benchmarks(recipes.parse(EvaluateRecipe, stage.recipe))
    return {task: benchmark.digest for task, benchmark in found.items()}


def _marker(stage: Stage) -> dict[str, Any]:
    """What the folder's last run was made of, and how long it took if it ended well; {} before the first."""
    file = stage.folder / DONE
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return found


def _set_aside(folder: Path) -> None:
    """Rename the folder, so that a training of another make can take its place: `tpo train` writes into none that holds another run."""
    number = next(number for number in count(1) if not folder.with_name(f"{folder.name}.old-{number}").exists())
    old = folder.rename(folder.with_name(f"{folder.name}.old-{number}"))
    logger.warning("what %s is made of has changed: it runs again, and what was there is now %s", folder, old)


def _run(recipe: AblateRecipe, seed: int, stage: Stage) -> None:
    """Run the stage's command with its recipe; TPOError if it fails."""
    given, log = stage.folder / "given.yaml", stage.folder / LOG
    if stage.command == "train" and _marker(stage).get("identity", stage.identity) != stage.identity:
        _set_aside(stage.folder)
    write_json(stage.folder / DONE, {"identity": stage.identity})
    write_text(given, yaml.safe_dump(stage.recipe, sort_keys=False, allow_unicode=True))
    logger.info("seed %d: %s %s starts; log: %s", seed, stage.command, stage.name, log)
    data = _benchmarks(stage)
    started = time.monotonic()
    with log.open("ab") as file:
        status = subprocess.run(
            [sys.executable, "-m", "tpo_plugin", stage.command, str(given)],
            env=_environment(recipe.threads),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
    seconds = round(time.monotonic() - started, 1)
    if status:
        failed = TPOError(
            f"seed {seed}: {stage.command} {stage.name} ended with status {status}; its log is {log}, the last lines:\n"
            f"{last_lines(log, SHOWN_LINES)}\nMend this and run the same command again: what is finished is kept."
        )
        logger.error("seed %d: %s %s failed", seed, stage.command, stage.name)
        raise failed
    write_json(stage.folder / DONE, {"identity": stage.identity, "seconds": seconds, "data": data})
    logger.info("seed %d: %s %s took %.0f s", seed, stage.command, stage.name, seconds)


def _environment(threads: int | None) -> dict[str, str]:
    if threads is None:
        return dict(os.environ)
    return {**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))}
