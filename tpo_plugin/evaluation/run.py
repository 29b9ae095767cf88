"""`tpo evaluate`: each checkpoint in a process of its own, through lmms-eval's command line.

lmms-eval ends with status 0 whatever happened, so only what it wrote counts: a result for each task and one answer to
each question.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tqdm import tqdm

import tpo_plugin
from tpo_plugin import recipe as recipes
from tpo_plugin.checks import at_least, check_frames, checkpoint_named
from tpo_plugin.errors import EvaluationError, RecipeError, TPOError
from tpo_plugin.evaluation.data import Benchmark, read_benchmark
from tpo_plugin.evaluation.results import last_lines, read_task
from tpo_plugin.evaluation.wrapper import check_log, check_wrapper, facts, model_arguments
from tpo_plugin.folders import adapter_base, checkpoint_digest, locked
from tpo_plugin.integrations.lmms_eval import MODEL_ID
from tpo_plugin.options import EvaluateRecipe
from tpo_plugin.records import stable_id, write_json, write_jsonl

logger = logging.getLogger(__name__)

PACKAGES = ("torch", "torchvision", "transformers", "lmms-eval", "peft", "av", "numpy")
LOG = "lmms_eval.log"
DONE = "done.json"
PROGRESS = re.compile(rb"(?:Answering|Model Responding): +\d+%\|[^|\r\n]*\| (\d+)/(\d+)")


def evaluate(recipe: EvaluateRecipe) -> Path:
    """Run every model of the recipe on every task; the output folder with `results.json` and `<label>/answers.jsonl`.

    A model that is finished under the same fingerprint is not run again. Raises EvaluationError for a run that failed
    or is incomplete (no `results.json` is left then), RecipeError and TPOError for what cannot be started.
    """
    _check(recipe)
    output = Path(recipe.output)
    versions = _versions("hf,lmms" if recipe.wrapper == MODEL_ID else "llava,lmms")
    with locked(output):
        (output / "results.json").unlink(missing_ok=True)
        recipes.save(recipe, output)
        benchmarks = _benchmarks(recipe)
        numbers = _numbers(recipe, benchmarks, versions)
        models = {}
        for label, checkpoint in recipe.models.items():
            digest = checkpoint_digest(checkpoint)
            fingerprint = stable_id(numbers, str(Path(checkpoint)), digest)
            tasks = _finished(output / label, fingerprint)
            if tasks is None:
                tasks = _evaluate_model(recipe, label, checkpoint, benchmarks)
                write_json(output / label / DONE, {"fingerprint": fingerprint, "tasks": tasks})
            else:
                logger.info("%s is evaluated already: %s", label, output / label)
            models[label] = {"checkpoint": checkpoint, "digest": digest, "tasks": tasks}
        write_json(output / "results.json", {"models": models, **numbers})
    return output


def _check(recipe: EvaluateRecipe) -> None:
    if not recipe.models or not recipe.tasks:
        raise RecipeError("an evaluation needs at least one entry in `models` and one in `tasks`")
    for label in recipe.models:
        if not re.fullmatch(r"[\w][\w.+-]*", label):
            raise RecipeError(f"`models`: the label {label!r} becomes a folder; use letters, digits, . + - and _")
    for label, checkpoint in recipe.models.items():
        checkpoint_named(f"models.{label}", checkpoint)
    check_frames(recipe.frames)
    at_least("batch_size", recipe.batch_size, 1)
    check_wrapper(recipe)
    if unknown := set(recipe.expect) - set(recipe.tasks):
        raise RecipeError(f"`expect` names {', '.join(sorted(unknown))}, which is not in `tasks`")
    checkpoints = [path for item in recipe.models.values() for path in (item, adapter_base(item)) if path]
    for path in (str(Path(item).absolute()) for item in (recipe.output, *checkpoints)):
        if set(path) & set(",\"'[]{}"):
            raise RecipeError(f"lmms-eval's arguments allow no comma, quote or bracket in a path: {path}")


def _versions(extras: str) -> dict[str, str]:
    found = {"tpo-plugin": tpo_plugin.__version__}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    missing = [name for name in ("lmms-eval", "torch", "transformers") if name not in found]
    if missing:
        raise TPOError(f"evaluation needs {', '.join(missing)}: pip install 'tpo-plugin[{extras}]'")
    return found


def _benchmarks(recipe: EvaluateRecipe) -> dict[str, Benchmark]:
    """The local questions of each task that has some, as many as the recipe expects."""
    if recipe.data is None:
        return {}
    found = {task: read_benchmark(Path(recipe.data), task) for task in recipe.tasks}
    benchmarks = {task: benchmark for task, benchmark in found.items() if benchmark is not None}
    for task, benchmark in benchmarks.items():
        expected = recipe.expect.get(task, len(benchmark.rows))
        if len(benchmark.rows) != expected:
            raise EvaluationError(f"{task}: {recipe.data} holds {len(benchmark.rows)} questions, {expected} expected")
    return benchmarks


def _numbers(recipe: EvaluateRecipe, benchmarks: Mapping[str, Benchmark], versions: dict[str, str]) -> dict[str, Any]:
    """Everything besides the checkpoint that can change a score."""
    plain = recipes.to_plain(recipe)
    return {
        **{key: plain[key] for key in ("tasks", "seed", "batch_size", "expect", "data")},
        **facts(recipe),
        "data_digest": {task: benchmark.digest for task, benchmark in benchmarks.items()},
        "versions": versions,
    }


def _finished(folder: Path, fingerprint: str) -> dict[str, Any] | None:
    """The task results of a finished evaluation with this fingerprint."""
    if not (folder / DONE).is_file() or not (folder / "answers.jsonl").is_file():
        return None
    done = json.loads((folder / DONE).read_text(encoding="utf-8"))
    return done["tasks"] if done["fingerprint"] == fingerprint else None


def _evaluate_model(
    recipe: EvaluateRecipe, label: str, checkpoint: str, benchmarks: Mapping[str, Benchmark]
) -> dict[str, Any]:
    """Run lmms-eval for one model, check what it wrote, write `answers.jsonl`; the results by task."""
    folder = Path(recipe.output) / label
    written, cache = folder / "lmms_eval", folder / "cache"
    for old in (written, cache):
        shutil.rmtree(old, ignore_errors=True)
    for name in (DONE, "answers.jsonl"):
        (folder / name).unlink(missing_ok=True)
    written.mkdir(parents=True, exist_ok=True)
    logger.info("%s: lmms-eval starts on %s; log: %s", label, ", ".join(recipe.tasks), folder / LOG)
    command = _command(recipe, checkpoint, written.absolute())
    status = _stream(command, _environment(recipe, checkpoint, cache), recipe.data, folder / LOG, label)
    shutil.rmtree(cache, ignore_errors=True)
    check_log(folder / LOG, recipe.wrapper)
    tasks, lines = {}, []
    for task in recipe.tasks:
        rows = benchmarks[task].rows if task in benchmarks else None
        expected = recipe.expect.get(task, len(rows) if rows else None)
        try:
            tasks[task], answers = read_task(written, task, expected, rows, recipe.seed)
        except EvaluationError as error:
            raise EvaluationError(
                f"{label} on {task}: {error} (lmms-eval ended with status {status}). "
                f"Its log is {folder / LOG}; the last lines:\n{last_lines(folder / LOG)}"
            ) from None
        lines += answers
        if empty := tasks[task]["empty_responses"]:
            logger.warning("%s on %s: %d of %d responses are empty", label, task, empty, tasks[task]["n"])
    write_jsonl(folder / "answers.jsonl", lines)
    return tasks


def _command(recipe: EvaluateRecipe, checkpoint: str, output: Path) -> list[str]:
    arguments = model_arguments(recipe, checkpoint)
    return [
        *(sys.executable, "-m", "tpo_plugin.evaluation.harness"),
        *(("--upstream", str(Path(recipe.upstream).expanduser().absolute())) if recipe.upstream else ()),
        *("--model", recipe.wrapper, "--model_args", ",".join(f"{key}={value}" for key, value in arguments.items())),
        *("--tasks", ",".join(recipe.tasks), "--batch_size", str(recipe.batch_size), "--seed", str(recipe.seed)),
        *("--log_samples", "--output_path", str(output)),
    ]


def _environment(recipe: EvaluateRecipe, checkpoint: str, cache: Path) -> dict[str, str]:
    """The child's variables: with local data its HF_HOME is the data folder, and nothing asks the network.

    What else Hugging Face keeps below HF_HOME (downloaded checkpoints, the token) stays where it was.
    """
    env = dict(os.environ) | {
        "PYTHONUNBUFFERED": "1",
        "PYTHONSAFEPATH": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "WANDB_MODE": "disabled",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    if recipe.data is None:
        return env
    home = Path(env.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    env |= {
        "HF_HUB_CACHE": env.get("HF_HUB_CACHE") or str(home / "hub"),
        "HF_TOKEN_PATH": env.get("HF_TOKEN_PATH") or str(home / "token"),
        "HF_MODULES_CACHE": env.get("HF_MODULES_CACHE") or str(home / "modules"),
        "HF_HOME": str(Path(recipe.data).absolute()),
        "HF_DATASETS_CACHE": str(cache.absolute()),
        "LMMS_EVAL_DATASETS_CACHE": str(cache.absolute()),
        "HF_DATASETS_OFFLINE": "1",
    }
    if Path(adapter_base(checkpoint) or checkpoint).is_dir():
        env["HF_HUB_OFFLINE"] = "1"
    return env


def _stream(command: list[str], env: dict[str, str], folder: str | None, log: Path, label: str) -> int:
    """Run the process with its output in `log` and its progress on a bar here; its exit status."""
    tail = b""
    with (
        log.open("wb") as file,
        tqdm(desc=label, unit="question") as bar,
        subprocess.Popen(
            command, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process,
    ):
        assert process.stdout is not None
        try:
            while chunk := process.stdout.read1(1 << 16):  # type: ignore[attr-defined]
                file.write(chunk)
                file.flush()
                tail = (tail + chunk)[-4096:]
                if seen := PROGRESS.findall(tail):
                    bar.total = int(seen[-1][1])
                    bar.update(int(seen[-1][0]) - bar.n)
        except BaseException:
            process.kill()
            raise
    return process.returncode
