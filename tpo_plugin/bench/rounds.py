"""Rounds in which each path runs once, in a process of its own, on the same model, data and seed."""

from __future__ import annotations

import json
import logging
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from tpo_plugin.bench.job import Job, Result, gradient_difference
from tpo_plugin.errors import TPOError
from tpo_plugin.options import BenchRecipe

logger = logging.getLogger(__name__)


def measure_paths(recipe: BenchRecipe, device: str) -> dict[str, dict[str, Any]]:
    """Each path's medians, and what its gradients differ by from the plain path's.

    Paths take turns, so that a machine that slows down slows all of them down. A round that would end after `minutes` does not begin.
    """
    results: dict[str, list[Result]] = {path: [] for path in recipe.paths}
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        script = _script(recipe, folder / "world")
        for number in range(recipe.repeats):
            for path in recipe.paths:
                job = Job(
                    recipe.size, recipe.frames, recipe.pairs_per_video * recipe.rejected_per_chosen, path, device, recipe.seed,
                    recipe.checkpointing, str(folder / f"{path}.pt") if number == 0 else None,
                    rejected_per_chosen=recipe.rejected_per_chosen, answer_tokens=recipe.answer_tokens,
                )  # fmt: skip
                found = in_a_process(job, folder / "result.json", *script)
                results[path].append(found)
                logger.info("round %d, %s: %.3g s a step", number + 1, path, found.seconds)
            spent = time.monotonic() - started
            if spent + spent / (number + 1) > 60 * recipe.minutes:
                break
        gradients = {path: torch.load(folder / f"{path}.pt") for path in recipe.paths}
    measure = gradients.get("plain", gradients[recipe.paths[0]])
    return {
        path: medians(found) | {"max_grad_rel_diff": gradient_difference(measure, gradients[path])}
        for path, found in results.items()
    }


def _script(recipe: BenchRecipe, world: Path) -> list[str]:
    """The checkout and the world that its script runs in; nothing without a checkout."""
    if recipe.upstream is None:
        return []
    from tpo_plugin.bench.sizes import SIZES
    from tpo_plugin.bench.upstream_world import make_world
    from tpo_plugin.integrations.checkout import find_checkout

    checkout = find_checkout(recipe.upstream)
    make_world(world, SIZES[recipe.size], checkout.name, recipe.frames, recipe.pairs_per_video, recipe.seed)
    return [str(checkout.path), str(world)]


def in_a_process(job: Job, file: Path, *script: str) -> Result:
    """What the job's process writes into `file`; TPOError with its last words if it fails."""
    command = [sys.executable, "-m", "tpo_plugin.bench.worker", json.dumps(asdict(job)), str(file), *script]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        words = done.stderr.strip().splitlines() or ["no memory left?"]
        raise TPOError(
            f"the {job.path} path ended with status {done.returncode}: {words[-1]}; with fewer `frames` it needs less memory"
        )
    return Result(**json.loads(file.read_text(encoding="utf-8")))


def medians(results: Sequence[Result]) -> dict[str, Any]:
    """The medians of a path's runs; loss and operations of the first, which are all the same."""
    found: dict[str, Any] = asdict(results[0])
    for name in ("seconds", "cpu_seconds", "reference_seconds", "reference_cpu_seconds", "ready_seconds", "peak_bytes"):
        values = [getattr(one, name) for one in results]
        found[name] = None if None in values else statistics.median(values)
    return found | {"runs": len(results), "seconds_of_runs": [one.seconds for one in results]}
