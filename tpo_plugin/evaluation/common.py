"""What `tpo evaluate` and `tpo needle` have in common."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import tpo_plugin
from tpo_plugin.checks import checkpoint_named
from tpo_plugin.errors import RecipeError, TPOError
from tpo_plugin.report import chains, sources

PACKAGES = ("torch", "torchvision", "transformers", "lmms-eval", "peft", "av", "numpy")


def check_models(models: Mapping[str, str]) -> None:
    """RecipeError for a label that is no folder's name, or a label without a checkpoint."""
    for label, checkpoint in models.items():
        if not re.fullmatch(r"\w[\w.+-]*", label):
            raise RecipeError(f"`models`: the label {label!r} becomes a folder; use letters, digits, . + - and _")
        checkpoint_named(f"models.{label}", checkpoint)


def releases(*more: str) -> dict[str, str]:
    """The releases of this package and of those that can change a score, `more` among them, as far as they are installed."""
    found = {"tpo-plugin": tpo_plugin.__version__}
    for name in (*PACKAGES, *more):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def chain_of(checkpoint: str) -> list[dict[str, Any]]:
    """The trainings that made a local checkpoint, the first one first, by the record of the chain or of the stages whose folder holds it.

    Each has `name`, `start` (a checkpoint), and as far as they are recorded `data`, `pairs`, `steps` and `stages` (their names). Empty for
    any other checkpoint. TPOError where a record is unreadable.
    """
    folder = Path(checkpoint).absolute()
    if not folder.is_dir():  # a name on the hub
        return []
    for output in folder.parents[:2]:
        file = output / "chain.json"
        steps = chains.steps_of(file) if file.is_file() else []
        inside = [place for place, step in enumerate(steps) if folder.is_relative_to(output / step["folder"])]
        if made := steps if folder == output / "model" else steps[: inside[0] + 1] if inside else []:
            return [_step(step, output / step["folder"]) for step in made]
    if stages := _stages(folder.parent):
        start = (sources.read_recipe(folder.parent) or {}).get("model")
        return [{"name": folder.parent.name, "start": start, "stages": stages}]
    return []


def _step(step: dict[str, Any], folder: Path) -> dict[str, Any]:
    told = {name: step[name] for name in ("name", "data", "pairs", "steps") if step.get(name) is not None}
    stages = _stages(folder)
    return {**told, "start": chains.look(step, "start.checkpoint"), **({"stages": stages} if stages else {})}


def _stages(folder: Path) -> list[str]:
    """The names of a curriculum's stages; none for a training without."""
    file = folder / "done.json"
    stages = sources.read_json(file, dict, chains.COMMAND).get("stages", []) if file.is_file() else []
    if not isinstance(stages, list) or not all(isinstance(chains.look(stage, "name"), str) for stage in stages):
        raise TPOError(f"{file} must list `stages` with their `name`; run `{chains.COMMAND}` again")
    return [stage["name"] for stage in stages]
