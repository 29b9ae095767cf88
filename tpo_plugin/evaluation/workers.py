"""Runs cells in children of one harness process: some at once, failed ones again, their progress on one bar."""

from __future__ import annotations

import json
import logging
import os
import re
import select
import signal
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tpo_plugin.errors import EvaluationError
from tpo_plugin.evaluation.cells import Cell
from tpo_plugin.evaluation.checkpoints import has_to_be_fetched
from tpo_plugin.evaluation.data import hf_home
from tpo_plugin.evaluation.layouts import with_members
from tpo_plugin.evaluation.results import last_lines
from tpo_plugin.evaluation.wrapper import harness_upstream
from tpo_plugin.options import EvaluateRecipe

logger = logging.getLogger(__name__)

PROGRESS = re.compile(rb"Questions: +\d+%\|[^|\r\n]*\| (\d+)/(\d+)")
POLL = 0.5  # seconds between two looks at the progress
LOG = "harness.log"


class FailedForGood(EvaluationError):
    """A cell that fails for a reason that the user has to mend: it is not run again."""


def run_cells(recipe: EvaluateRecipe, cells: Sequence[Cell], collect: Callable[[Cell, str], None]) -> dict[Cell, str]:
    """Run every cell, `recipe.workers` at once, up to `recipe.retries` times more where one fails; the failures with their reasons.

    `collect(cell, how it ended)` takes what a cell has left; it raises EvaluationError where that is not a result.
    """
    waiting, failures, tries = deque(cells), dict[Cell, str](), Counter[Cell]()
    with (
        Harness(recipe, Path(recipe.output) / LOG) as harness,
        tqdm(total=len(cells), desc="evaluate", unit="cell") as bar,
    ):
        while waiting or harness.running:
            while waiting and len(harness.running) < recipe.workers:
                harness.start(waiting.popleft())
            for cell, how in harness.ended():
                tries[cell] += 1
                try:
                    collect(cell, how)
                except EvaluationError as error:
                    if tries[cell] <= recipe.retries and not isinstance(error, FailedForGood):
                        logger.warning("%s is run again: %s", cell, str(error).partition("\n")[0])
                        waiting.append(cell)
                        continue
                    logger.error("%s failed: %s", cell, str(error).partition("\n")[0])
                    failures[cell] = str(error)
                bar.update()
            bar.set_postfix_str(", ".join(f"{cell}: {_progress(cell)}" for cell in harness.running.values()))
    return failures


class Harness:
    """The process that forks the cells; it is started by the first cell, and again by the next one if it was killed."""

    def __init__(self, recipe: EvaluateRecipe, log: Path) -> None:
        self.recipe, self.log = recipe, log
        self.running: dict[int, Cell] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._unread = b""
        self._started = 0

    def __enter__(self) -> Harness:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def start(self, cell: Cell) -> None:
        """Hand over one cell. EvaluationError if lmms-eval cannot be started at all."""
        process = self._process or self._launch()
        self._started += 1
        self.running[self._started] = cell
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps({"cell": self._started, **cell.order()}).encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            return  # its end is found by `ended`

    def check(self) -> None:
        """EvaluationError if lmms-eval, the wrapper or a task cannot be imported."""
        self._launch()

    def ended(self) -> Iterator[tuple[Cell, str]]:
        """The cells that have ended since, after at most `POLL` seconds, and how."""
        assert self._process is not None
        reports = self._reports(POLL)
        if reports is None:
            killed = list(self.running.values())
            self.running.clear()
            self._stop()
            yield from ((cell, "lmms-eval's process was killed") for cell in killed)
            return
        for report in reports:
            yield self.running.pop(report["cell"]), _how(report["status"])

    def _launch(self) -> subprocess.Popen[bytes]:
        recipe, upstream = self.recipe, harness_upstream(self.recipe)
        command = [
            sys.executable,
            "-m",
            "tpo_plugin.evaluation.harness",
            recipe.wrapper,
            ",".join(with_members(recipe.tasks)),
        ]
        command += ["--upstream", upstream] if upstream else []
        command += ["--prompt-as", recipe.prompt_as] if recipe.prompt_as else []
        logger.info("lmms-eval is imported; log: %s", self.log)
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=recipe.data,
                env=environment(recipe),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches this process, which ends that one
            )
        self._process, self._unread = process, b""
        while (reports := self._reports(None)) == []:
            pass
        if reports and (unknown := reports[0]["unknown"]):
            raise EvaluationError(f"lmms-eval knows no task {', '.join(unknown)}; `lmms-eval tasks list` shows all")
        if reports and recipe.prompt_as and not reports[0]["prompted"]:
            raise EvaluationError(
                f"none of the tasks has prompts for a model `prompt_as: {recipe.prompt_as}`, so lmms-eval would ask with their "
                "`default`: correct the name, or leave it out"
            )
        if reports is None:
            status = process.wait()
            self._stop()
            raise EvaluationError(
                f"lmms-eval does not start ({_how(status)}). Its log is {self.log}; the last lines:\n{last_lines(self.log)}"
            )
        return process

    def _reports(self, timeout: float | None) -> list[dict[str, Any]] | None:
        """What the process has reported; None when it has ended."""
        assert self._process is not None
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], timeout)
        if not ready:
            return []
        read = os.read(self._process.stdout.fileno(), 1 << 16)
        if not read:
            return None
        *lines, self._unread = (self._unread + read).split(b"\n")
        return [json.loads(line) for line in lines]

    def _stop(self) -> None:
        if self._process is None:
            return
        process, self._process = self._process, None
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError):
            process.stdin.close()  # it ends its children, then itself
        process.stdout.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()  # its children notice within a second
            process.wait()


def environment(recipe: EvaluateRecipe) -> dict[str, str]:
    """The variables of the process: with local data its HF_HOME is the data folder, and nothing asks the network.

    What else Hugging Face keeps below HF_HOME (downloaded checkpoints, the token) stays where it was.
    """
    home = hf_home()
    env = dict(os.environ) | {
        "PYTHONUNBUFFERED": "1",
        "PYTHONSAFEPATH": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "WANDB_MODE": "disabled",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HOME": str(home),  # some tasks have a default of their own, some none
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",  # asking for GPUs the other way spoils them for a child
    }
    if recipe.workers > 1:
        env.setdefault("OMP_NUM_THREADS", str(max(1, _cores() // recipe.workers)))
    if recipe.data is None:
        return env
    cache = str(cache_folder(recipe).absolute())
    env |= {
        "HF_HUB_CACHE": env.get("HF_HUB_CACHE") or str(home / "hub"),
        "HF_TOKEN_PATH": env.get("HF_TOKEN_PATH") or str(home / "token"),
        "HF_MODULES_CACHE": env.get("HF_MODULES_CACHE") or str(home / "modules"),
        "HF_HOME": str(Path(recipe.data).absolute()),
        "HF_DATASETS_CACHE": cache,
        "LMMS_EVAL_DATASETS_CACHE": cache,
        "HF_DATASETS_OFFLINE": "1",
    }
    if not any(map(has_to_be_fetched, recipe.models.values())):
        env["HF_HUB_OFFLINE"] = "1"
    return env


def _cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cache_folder(recipe: EvaluateRecipe) -> Path:
    """Where `datasets` keeps the questions while a run with local data goes on."""
    return Path(recipe.output) / "cache"


def _how(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    memory = "; the system does that when memory runs out" if status == -signal.SIGKILL else ""
    return f"was killed by signal {-status}{memory}"


def _progress(cell: Cell) -> str:
    if not cell.log.is_file():
        return "starting"
    with cell.log.open("rb") as log:
        log.seek(max(0, cell.log.stat().st_size - 4096))
        seen = PROGRESS.findall(log.read())
    return b"/".join(seen[-1]).decode() if seen else "loading"
