"""What `tpo evaluate` and `tpo needle` have in common."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

import tpo_plugin
from tpo_plugin.checks import checkpoint_named
from tpo_plugin.errors import RecipeError

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
    any other checkpoint.
    """
    folder = Path(checkpoint).absolute()
    for output in folder.parents[:2]:
        if (output / "chain.json").is_file():
            steps = _read(output / "chain.json")["steps"]
            inside = [place for place, step in enumerate(steps) if folder.is_relative_to(output / step["folder"])]
            made = steps[: inside[0] + 1] if inside else steps
            return [_step(step, output / step["folder"], step["start"]["checkpoint"]) for step in made]
    saved = folder.parent / "recipe.yaml"
    if stages := _stages(folder.parent):
        start = yaml.safe_load(saved.read_text(encoding="utf-8"))["model"] if saved.is_file() else None
        return [{"name": folder.parent.name, "start": start, "stages": stages}]
    return []


def _step(step: dict[str, Any], folder: Path, start: str) -> dict[str, Any]:
    told = {name: step[name] for name in ("name", "data", "pairs", "steps") if step.get(name) is not None}
    stages = _stages(folder)
    return {**told, "start": start, **({"stages": stages} if stages else {})}


def _stages(folder: Path) -> list[str]:
    done = folder / "done.json"
    return [stage["name"] for stage in _read(done).get("stages", [])] if done.is_file() else []


def _read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))
