"""Trainings made of several: a chain (`chain.json`), the stages of a curriculum, or both. Each part with where it started and what it took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tpo_plugin.errors import TPOError
from tpo_plugin.report import sources

COMMAND = "tpo train"


@dataclass(frozen=True)
class Part:
    """One training on the way to a checkpoint: a step of a chain, or a stage of one. `history` counts its own steps.

    `facts` are trainer, start (checkpoint and digest), data, pairs, steps, seconds and versions, as far as they were recorded.
    """

    name: str
    recipe: dict[str, Any] | None
    history: list[dict[str, Any]]
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def is_sft(self) -> bool:
        """Whether it has no preference term."""
        return setting(self.recipe, "objective.dpo_alpha") == 0


# What an upstream script calls a recipe's setting.
FLAGS = {
    "model": "model_name_or_path",
    "data": "data_path",
    "objective.beta": "beta",
    "objective.dpo_alpha": "dpo_alpha",
    "objective.gamma": "gamma",
    "arguments.learning_rate": "learning_rate",
    "arguments.num_train_epochs": "num_train_epochs",
    "arguments.per_device_train_batch_size": "per_device_train_batch_size",
    "arguments.gradient_accumulation_steps": "gradient_accumulation_steps",
    "trainable": "mm_tunable_parts",
    "frames.max": "frames_upbound",
    "difficulty": "tpo_difficulty",
    "reference_model": "tpo_reference_model",
    "seed": "seed",
}


def setting(recipe: dict[str, Any] | None, path: str) -> Any:
    """The value at a dotted path of a recipe, or of the flag that means it; None where there is none."""
    found = look(recipe, path)
    return look(recipe, f"flags.{FLAGS[path]}") if found is None and path in FLAGS else found


def look(recipe: dict[str, Any] | None, path: str) -> Any:
    """The value at a dotted path of a recipe; None where there is none."""
    value: Any = recipe
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def of_chain(run: Path) -> tuple[list[Part], bool]:
    """The parts of a chain's folder in the order in which they were run, also of the step that is under way, and whether all have ended."""
    ended = steps_of(run / "chain.json") if (run / "chain.json").is_file() else []
    planned = [str(step["name"]) for step in (sources.read_recipe(run) or {}).get("steps") or []]
    begun = [{"name": name, "folder": name} for name in planned[len(ended) :] if history_of(run / name)]
    parts = [part for row in (*ended, *begun) for part in of_folder(run / str(row["folder"]), str(row["name"]), row)]
    return parts, len(ended) >= len(planned)


def steps_of(file: Path) -> list[dict[str, Any]]:
    """The rows of a `chain.json`, one for each step that has ended; TPOError where it is none."""
    ended = sources.read_json(file, dict, COMMAND).get("steps")
    if not isinstance(ended, list) or not all(
        isinstance(row, dict) and all(isinstance(row.get(key), str) for key in ("name", "folder")) for row in ended
    ):
        raise TPOError(f"{file} must list `steps` with `name` and `folder`; run `{COMMAND}` again")
    return ended


def of_folder(folder: Path, name: str = "", row: dict[str, Any] | None = None) -> list[Part]:
    """A training's stages, or itself alone. `row` is what a chain says of it."""
    history = history_of(folder)
    stages = list(dict.fromkeys(str(entry["stage"]) for entry in history if "stage" in entry))
    if stages:
        parts = [_part(folder / stage, f"{name}: {stage}" if name else stage, {}) for stage in stages]
        trainer = {key: row[key] for key in ("trainer",) if row and key in row}
        return [Part(part.name, part.recipe, part.history, trainer | part.facts) for part in parts]
    return [_part(folder, name, row or {})]


def joined(parts: Sequence[Part]) -> list[dict[str, Any]]:
    """One history of all parts: each entry with its part's name under `stage`, the steps counted on."""
    entries: list[dict[str, Any]] = []
    before = 0
    for part in parts:
        entries += [
            {**entry, "stage": part.name, "step": before + entry["step"]} for entry in part.history if "step" in entry
        ]
        before += int(part.facts.get("steps") or max((entry.get("step", 0) for entry in part.history), default=0))
    return entries


def history_of(folder: Path) -> list[dict[str, Any]]:
    """What a training logged: in `history.json`, or in the state that an upstream script saves at its end. Nothing where neither is there."""
    if (folder / "history.json").is_file():
        logged = sources.read_json(folder / "history.json", list, COMMAND)
    elif state := state_of(folder):
        logged = sources.read_json(state, dict, COMMAND).get("log_history") or []
    else:
        return []
    return [entry for entry in logged if isinstance(entry, dict)]


def state_of(folder: Path) -> Path | None:
    """Where an upstream script that has ended says what it logged: in its output folder, or in that of a chain's step, which holds it."""
    places = [folder, *sorted(path for path in folder.glob("*") if not path.name.startswith("checkpoint-"))]
    return next((file for place in places if (file := place / "trainer_state.json").is_file()), None)


def _part(folder: Path, name: str, row: dict[str, Any]) -> Part:
    """What a training's own folder says of it, and over that what a chain does."""
    recipe = sources.read_recipe(folder)
    if recipe is None and isinstance(row.get("recipe"), dict):
        recipe = sources.without_secrets(row["recipe"])
    done = sources.read_json(folder / "done.json", dict, COMMAND) if (folder / "done.json").is_file() else {}
    facts = {key: done[key] for key in ("pairs", "steps", "seconds", "versions") if key in done}
    facts["data"] = setting(recipe, "data")
    facts["start"] = {"checkpoint": setting(recipe, "model"), "digest": look(done, "inputs.model")}
    facts |= {key: value for key, value in row.items() if key not in ("name", "folder", "recipe") and value is not None}
    return Part(name, recipe, history_of(folder), facts)
