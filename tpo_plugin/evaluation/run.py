"""`tpo evaluate`: every model with every number of frames on every task, each in a process of its own, by lmms-eval.

lmms-eval's own exit status says nothing, so only what it wrote counts: a result and one answer to each question.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tpo_plugin import recipe as recipes
from tpo_plugin.checks import at_least, check_frames
from tpo_plugin.errors import EvaluationError, RecipeError, TPOError
from tpo_plugin.evaluation.cached import cached_rows, offline
from tpo_plugin.evaluation.cells import Cell, cell_folder, hub_revision
from tpo_plugin.evaluation.common import chain_of, check_models, releases
from tpo_plugin.evaluation.data import Benchmark, hf_home, read_benchmark, vinoground_truth
from tpo_plugin.evaluation.layouts import NEEDLE, REFUSED, layout_of, with_members
from tpo_plugin.evaluation.results import last_lines, read_task
from tpo_plugin.evaluation.workers import FailedForGood, cache_folder, run_cells
from tpo_plugin.evaluation.wrapper import check_log, check_wrapper, facts, frame_counts, model_arguments
from tpo_plugin.folders import adapter_base, checkpoint_digest, locked
from tpo_plugin.integrations.lmms_eval import MODEL_ID
from tpo_plugin.integrations.lmms_eval_tasks import base_task
from tpo_plugin.options import EvaluateRecipe
from tpo_plugin.records import stable_id, write_json

logger = logging.getLogger(__name__)

PLACES = ("pretrained", "base", "upstream")  # arguments that are full paths; digests and commits stand for them
NO_VIDEO = re.compile(r"video path:.* does not exist")  # how lmms-eval's tasks end a run
OF_THE_DATA = ("data_digest", "subtitled")  # by task, known after the run where lmms-eval fetches the data


def evaluate(recipe: EvaluateRecipe) -> Path:
    """Run every cell of the recipe that is not finished; the output folder with `results.json`, and `answers.jsonl` in each cell's.

    Raises EvaluationError, after all other cells have been run, if one failed or is incomplete (no `results.json` is left then; a
    further run does only the failed ones); RecipeError and TPOError for what cannot be started.
    """
    check_recipe(recipe)
    output = Path(recipe.output)
    installed = versions(recipe)
    with locked(output):
        benchmarks = read_benchmarks(recipe)
        digests = {label: checkpoint_digest(checkpoint) for label, checkpoint in recipe.models.items()}
        numbers = _numbers(recipe, benchmarks, installed)
        chains = {label: chain for label, checkpoint in recipe.models.items() if (chain := chain_of(checkpoint))}
        cells = _cells(recipe, digests, numbers)
        waiting = [cell for cell in cells if cell.finished() is None]
        if len(waiting) < len(cells):
            logger.info("%d of %d cells are evaluated already", len(cells) - len(waiting), len(cells))
        _say_what_is_redone(output / "results.json", waiting, numbers)
        (output / "results.json").unlink(missing_ok=True)
        recipes.save(recipe, output)
        if waiting:
            _run(recipe, waiting, len(cells), benchmarks)
        models = {
            label: {
                **{"checkpoint": checkpoint, "digest": digests[label], "revision": hub_revision(checkpoint)},
                **({"chain": chains[label]} if label in chains else {}),
            }
            for label, checkpoint in recipe.models.items()
        }
        results = {"cells": _finished(cells), "models": models, **numbers}
        write_json(output / "results.json", results | _of_the_data(results))
    for cell, result in zip(cells, results["cells"]):
        unit = " %" if result.get("unit") else ""
        logger.info("%s: %s %.1f%s (%d questions)", cell, result["metric"], result["score"], unit, result["n"])
    return output


def _finished(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """The cells' results. EvaluationError for those that no longer count."""
    found = [cell.finished() for cell in cells]
    if lost := [str(cell) for cell, result in zip(cells, found) if result is None]:
        raise EvaluationError(
            f"{len(lost)} cells do not count any more: the checkpoint, or the code that reads the answers, has changed while the run went on; "
            f"run the same again ({'; '.join(lost)})"
        )
    return [result for result in found if result is not None]


def _say_what_is_redone(file: Path, waiting: Sequence[Cell], numbers: Mapping[str, Any]) -> None:
    """Warn of cells whose result no longer counts, with what has changed since the last `results.json`."""
    redone = [str(cell) for cell in waiting if cell.was_finished()]
    if not redone:
        return
    old = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    changed = [name for name, value in numbers.items() if name in old and old[name] != value]
    why = ", ".join(changed) or "the checkpoint, the wrapper's arguments or the code that reads the answers"
    logger.warning("%d cells are evaluated again (such as %s): changed are %s", len(redone), redone[0], why)


def _of_the_data(results: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """`data_digest` and `subtitled` of each task, also of those whose data lmms-eval fetched: their cells hold them."""
    found: dict[str, dict[str, Any]] = {name: dict(results[name]) for name in OF_THE_DATA}
    for cell in results["cells"]:
        for name in OF_THE_DATA:
            if name in cell and found[name].setdefault(cell["task"], cell[name]) != cell[name]:
                raise EvaluationError(
                    f"{cell['task']}: its data have changed between two cells: choose another `output`"
                )
    return found


def check_recipe(recipe: EvaluateRecipe) -> None:
    """RecipeError or TPOError for a recipe that cannot be run."""
    if not recipe.models or not recipe.tasks:
        raise RecipeError("an evaluation needs at least one entry in `models` and one in `tasks`")
    check_models(recipe.models)
    check_frames(recipe.frames)
    for name, least in (("batch_size", 1), ("workers", 1), ("retries", 0), ("check", 1)):
        at_least(name, getattr(recipe, name), least)
    for count in recipe.sweep:
        at_least("sweep", count, 1)
    check_wrapper(recipe)
    tasks = with_members(recipe.tasks)
    for task in tasks:
        if base_task(task) in REFUSED:
            raise RecipeError(f"`tasks`: {task}: {REFUSED[base_task(task)]}")
        layout = layout_of(task)
        if layout and (layout.guesses or layout.judge) and recipe.unreadable == "count":
            does = "has an LLM judge" if layout.judge else "draws an option at random for"
            raise RecipeError(
                f"`unreadable: count` cannot go with {task}: lmms-eval {does} an empty answer, so a question about an unreadable "
                "video could be right; mend the video, or leave the task out"
            )
    if recipe.prompt_as and NEEDLE in tasks:
        raise RecipeError(
            f"`prompt_as` cannot go with the task {NEEDLE}, which has one prompt: evaluate it in a recipe of its own"
        )
    if unknown := set(recipe.expect) - set(tasks):
        raise RecipeError(f"`expect` names {', '.join(sorted(unknown))}, which is not in `tasks`")
    checkpoints = [path for item in recipe.models.values() for path in (item, adapter_base(item)) if path]
    for path in (str(Path(item).absolute()) for item in (recipe.output, *checkpoints)):
        if set(path) & set(",\"'[]{}"):
            raise RecipeError(f"lmms-eval's arguments allow no comma, quote or bracket in a path: {path}")


def versions(recipe: EvaluateRecipe) -> dict[str, str]:
    """The releases of the packages that can change a score. TPOError if one that is needed is missing."""
    found = releases("decord")
    missing = [name for name in ("lmms-eval", "torch", "transformers") if name not in found]
    if missing:
        extras = "hf,lmms" if recipe.wrapper == MODEL_ID else "llava,lmms"
        raise TPOError(f"evaluation needs {', '.join(missing)}: pip install 'tpo-plugin[{extras}]'")
    return found


def read_benchmarks(recipe: EvaluateRecipe) -> dict[str, Benchmark]:
    """The local questions of each task that has some, as many as the recipe expects.

    Without `data`, and with a network, those of the needle task alone, which are always local.
    """
    local = [task for task in with_members(recipe.tasks) if recipe.data or offline() or task == NEEDLE]
    found = {task: local_benchmark(recipe, task) for task in local}
    return {task: benchmark for task, benchmark in found.items() if benchmark is not None}


def local_benchmark(recipe: EvaluateRecipe, task: str) -> Benchmark | None:
    """The questions of a task in `data` or, without it, where lmms-eval and `datasets` keep them; None if its layout is not known here.

    EvaluationError says what is missing, or that there are not as many as the recipe expects.
    """
    folder, layout = Path(recipe.data) if recipe.data else hf_home(), layout_of(task)
    benchmark = read_benchmark(folder, task, cached_rows(task, layout) if layout and recipe.data is None else None)
    if benchmark is None:
        return None
    expected = recipe.expect.get(task, len(benchmark.rows))
    if len(benchmark.rows) != expected:
        raise EvaluationError(f"{task}: {folder} holds {len(benchmark.rows)} questions, {expected} expected")
    return benchmark


def _judge(tasks: Sequence[str]) -> dict[str, str] | None:
    """The LLM that lmms-eval sends answers to, if one of the tasks has one."""
    if not any(map(_is_judged, tasks)):
        return None
    return {name: os.environ.get(name, "") for name in ("API_TYPE", "OPENAI_API_URL")}


def _is_judged(task: str) -> bool:
    layout = layout_of(task)
    return layout is not None and layout.judge


def _numbers(recipe: EvaluateRecipe, benchmarks: Mapping[str, Benchmark], installed: dict[str, str]) -> dict[str, Any]:
    """Everything besides the checkpoint that can change a score."""
    plain = recipes.to_plain(recipe)
    return {
        "tasks": list(with_members(recipe.tasks)),
        **{key: plain[key] for key in ("sweep", "seed", "batch_size", "expect", "data", "prompt_as")},
        **facts(recipe),
        "judge": _judge(with_members(recipe.tasks)),
        "data_digest": {task: benchmark.digest for task, benchmark in benchmarks.items()},
        "subtitled": {task: one.subtitled for task, one in benchmarks.items() if one.subtitled is not None},
        "versions": installed,
    }


def _cells(recipe: EvaluateRecipe, digests: Mapping[str, str], numbers: Mapping[str, Any]) -> list[Cell]:
    """The cells in their order. A cell's fingerprint leaves out what belongs to other cells, so these can be added later."""
    shared = {
        key: value for key, value in numbers.items() if key not in ("tasks", "sweep", "expect", "judge", *OF_THE_DATA)
    }
    cells = []
    for label, checkpoint in recipe.models.items():
        for frames in frame_counts(recipe):
            named = model_arguments(recipe, checkpoint, frames)
            settings = {key: value for key, value in named.items() if key not in PLACES}
            for task in numbers["tasks"]:
                own = [recipe.expect.get(task), numbers["data_digest"].get(task), settings, task]
                if _is_judged(task):
                    own.append(numbers["judge"])
                fingerprint = stable_id(shared, own, str(Path(checkpoint)), digests[label])
                arguments = (
                    # Twice: lmms-eval takes one name for a folder of tasks if the working directory holds a folder of that name.
                    *("--model", recipe.wrapper, "--model_args", ",".join(f"{key}={named[key]}" for key in named)),
                    *("--tasks", f"{task},{task}", "--batch_size", str(recipe.batch_size), "--seed", str(recipe.seed)),
                    # Some tasks pick an answer at random where a response names none: in threads, in another order each time.
                    *("--log_samples", "--process_docs_parallel", "1"),
                )
                folder = cell_folder(Path(recipe.output), label, frames, task)
                cells.append(Cell(label, frames, task, fingerprint, folder, arguments, checkpoint))
    return cells


def _run(recipe: EvaluateRecipe, cells: list[Cell], total: int, benchmarks: Mapping[str, Benchmark]) -> None:
    """Run these cells. EvaluationError lists those that failed."""

    def collect(cell: Cell, how: str) -> None:
        _collect(recipe, cell, how, benchmarks.get(cell.task))

    shutil.rmtree(cache_folder(recipe), ignore_errors=True)
    try:
        failures = run_cells(recipe, cells, collect)
    finally:
        shutil.rmtree(cache_folder(recipe), ignore_errors=True)
    if failures:
        listed = "\n".join(f"{cell}: {reason}" for cell, reason in failures.items())
        raise EvaluationError(
            f"{len(failures)} of {total} cells failed; the others are kept, and a further run does only these\n{listed}"
        )


def _collect(recipe: EvaluateRecipe, cell: Cell, how: str, benchmark: Benchmark | None) -> None:
    """Check what lmms-eval wrote for a cell and finish it. EvaluationError says why there is no result."""
    if error := cell.error():
        raise FailedForGood(f"{error} (its log: {cell.log})")
    try:
        check_log(cell.log, recipe.wrapper)
    except EvaluationError as error:
        cell.kept.unlink(missing_ok=True)  # it holds answers without a video
        raise FailedForGood(str(error)) from None
    fetched = {}
    if benchmark is None:
        try:
            benchmark = local_benchmark(recipe, cell.task)
        except EvaluationError as error:
            raise FailedForGood(str(error)) from None
        if benchmark:
            known = {"data_digest": benchmark.digest, "subtitled": benchmark.subtitled}
            fetched = {name: value for name, value in known.items() if value is not None}
    rows = benchmark.rows if benchmark else None
    expected = recipe.expect.get(cell.task, len(rows) if rows else None)
    try:
        result, answers = read_task(cell.written, cell.task, expected, rows, recipe.seed, _truth(recipe, cell.task))
        cell.finish(result | fetched, answers)
    except EvaluationError as error:
        lines = last_lines(cell.log)
        kind = FailedForGood if NO_VIDEO.search(lines) else EvaluationError
        raise kind(f"{error} (lmms-eval {how}). Its log is {cell.log}; the last lines:\n{lines}") from None
    if empty := result["empty_responses"]:
        logger.warning("%s: %d of %d responses are empty", cell, empty, result["n"])


def _truth(recipe: EvaluateRecipe, task: str) -> dict[str, Any]:
    """Vinoground's right answers, which neither its rows nor its samples hold."""
    layout = layout_of(task)
    if layout is None or not layout.pairs:
        return {}
    return vinoground_truth((Path(recipe.data) if recipe.data else hf_home()) / layout.videos)
