"""`tpo bench`: what a pair costs on each path, measured side by side: `summary.json`, a table, a plot."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from tpo_plugin import recipe as recipes
from tpo_plugin.bench import summary
from tpo_plugin.bench.job import PATHS
from tpo_plugin.bench.rounds import measure_paths
from tpo_plugin.checks import at_least
from tpo_plugin.errors import RecipeError
from tpo_plugin.folders import locked
from tpo_plugin.options import BenchRecipe
from tpo_plugin.records import write_json, write_text

FIGURES = (("small", 64, 1), ("small", 64, 4), ("7b", 64, 1), ("7b", 64, 4))  # counted in every run: they cost nothing
COUNTED = ("7b",)  # what a tree of several rejected responses costs is counted for these sizes too


def bench(recipe: BenchRecipe) -> str:
    """Measure and count; returns the table that is also in `output`/table.md. TPOError if a path cannot run."""
    _check(recipe)
    output = Path(recipe.output)
    with locked(output):
        device = recipe.device if recipe.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
        measured = measure_paths(recipe, device) if recipe.size != "7b" else {}
        rejected, answer = recipe.rejected_per_chosen, recipe.answer_tokens
        case = (recipe.size, recipe.frames, recipe.pairs_per_video * rejected)
        rows = [summary.row(*case, path, measured.get(path), rejected, answer) for path in recipe.paths]
        if recipe.upstream is None:  # the scripts' own model cannot run on the meta device
            rows += [summary.row(*figure, path) for figure in FIGURES if figure != case for path in recipe.paths]
            if recipe.sweep:
                points = summary.sweep(recipe.size, recipe.paths)
                write_json(output / "sweep.json", points)
                write_text(output / "sweep.svg", summary.plot(recipe.size, points))
        text = summary.table(rows)
        if rejected > 1:
            costs = [
                summary.tree_costs(size, recipe.frames, rejected, answer)
                for size in dict.fromkeys((recipe.size, *COUNTED))
            ]
            write_json(output / "tree.json", costs)
            text += "\n\n" + summary.tree_text(costs)
        recipes.save(recipe, output)
        write_json(output / "environment.json", _environment(recipe, device))
        write_text(output / "table.md", text + "\n")
        write_json(output / "summary.json", rows)
    return text


def _check(recipe: BenchRecipe) -> None:
    """RecipeError for values that do not fit together."""
    for name in ("frames", "pairs_per_video", "rejected_per_chosen", "answer_tokens", "repeats"):
        at_least(name, getattr(recipe, name), 1)
    unknown = [path for path in recipe.paths if path not in PATHS]
    if unknown or not recipe.paths:
        raise RecipeError(f"`paths` names {list(recipe.paths)}; choose from {', '.join(PATHS)}")
    if recipe.device == "cuda" and not torch.cuda.is_available():
        raise RecipeError("`device` is cuda, and there is none: leave it out, or say cpu")
    if recipe.size == "7b-random" and not torch.cuda.is_available():
        raise RecipeError("`size` 7b-random needs a GPU; `7b` counts the operations of the same shape without one")
    if recipe.upstream is not None and (recipe.size not in ("tiny", "small") or recipe.device == "cuda"):
        raise RecipeError("with `upstream` the sizes are tiny and small, on the CPU")
    if recipe.upstream is not None and (recipe.rejected_per_chosen > 1 or recipe.answer_tokens is not None):
        raise RecipeError(
            "with `upstream` answers are as they come: take `rejected_per_chosen` and `answer_tokens` out"
        )


def _environment(recipe: BenchRecipe, device: str) -> dict[str, Any]:
    """What the numbers depend on besides the recipe, and whose scheme the `upstream` path is."""
    versions = {}
    for name in ("tpo-plugin", "torch", "transformers", "flash-attn"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    processor = torch.cuda.get_device_name() if device == "cuda" else _processor()
    scheme = "upstream's own trainer" if recipe.upstream else "upstream's scheme, on Hugging Face modules"
    about = {"device": device, "processor": processor, "threads": torch.get_num_threads(), "upstream": scheme}
    return about | {"versions": versions}


def _processor() -> str:
    """The CPU's name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
