"""What an ablation will run for one seed: every stage with its whole recipe, checked before the first one starts."""

from __future__ import annotations

import copy
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from tpo_plugin import recipe as recipes
from tpo_plugin.errors import RecipeError
from tpo_plugin.evaluation.common import releases
from tpo_plugin.evaluation.layouts import with_members
from tpo_plugin.evaluation.run import check_recipe
from tpo_plugin.evaluation.wrapper import frame_counts, upstream_of
from tpo_plugin.folders import checkpoint_digest
from tpo_plugin.integrations.checkout import Checkout, code_digest, find_checkout
from tpo_plugin.options import (
    AblateRecipe,
    ChainRecipe,
    CurateRecipe,
    EvaluateRecipe,
    NeedleRecipe,
    TrainRecipe,
    UpstreamRecipe,
)
from tpo_plugin.records import stable_id
from tpo_plugin.training import chain
from tpo_plugin.training.chain import Step
from tpo_plugin.training.upstream import leaves_adapters

NAME = re.compile(r"[A-Za-z]\w*")
PLACE = re.compile(r"\{(\w+)\}")
RESERVED = ("seed", "output")
MODEL = "flags.model_name_or_path"  # of a script
KINDS: dict[str, type] = {"curate": CurateRecipe, "evaluate": EvaluateRecipe, "needle": NeedleRecipe}
Plain = dict[str, Any]


@dataclass(frozen=True)
class Stage:
    """One command to run: `recipe` is resolved, `folder` its output, `identity` what its result depends on, `after` the names that a
    training uses.

    `name` is the entry's; the steps of one training share it and run in their order.
    """

    command: str
    name: str
    folder: Path
    recipe: Plain
    identity: str
    after: tuple[str, ...] = ()


@dataclass
class Known:
    """What a `{name}` in a recipe stands for, and on what the results behind it depend; `adapters` are results that are no checkpoint."""

    values: dict[str, Any]
    identities: dict[str, str]
    adapters: set[str] = field(default_factory=set)

    def add(self, name: str, value: Any, identity: str) -> None:
        """RecipeError for a name that is taken, or is none."""
        if not NAME.fullmatch(name):
            raise RecipeError(f"`{name}` is no name: use letters, digits and _, a letter first")
        if name in self.values:
            raise RecipeError(
                f"the name `{name}` is used twice; models, curations, trainings and {', '.join(RESERVED)} share one space"
            )
        self.values[name], self.identities[name] = value, identity


def plan(recipe: AblateRecipe, folder: Path, seed: int, prepared: Mapping[str, Any]) -> list[Stage]:
    """The stages of one seed in their order, `folder` being the seed's; RecipeError for what could not be run."""
    known = Known({"seed": seed, "output": str(folder)}, {"seed": str(seed), "output": ""})
    for name, value in prepared.items():
        known.add(name, value, stable_id(recipe.prepare, recipe.prepare_with))
    for name, checkpoint in recipe.models.items():
        place = _filled(checkpoint, known, f"models.{name}", [])
        known.add(name, place, checkpoint_digest(place))
    stages = []
    for name, entry in recipe.curate.items():
        stages.append(_stage("curate", name, folder / "curate" / name, entry, known))
        known.add(name, str(stages[-1].folder), stages[-1].identity)
    for name, entry in recipe.train.items():
        steps = _training(name, folder / "train" / name, entry, known, next(iter(recipe.models)))
        known.add(name, result(steps[-1]), steps[-1].identity)
        stages += steps
    labels = [*recipe.models, *recipe.train]
    for command in ("evaluate", "needle"):
        for name, entry in getattr(recipe, command).items():
            stages.append(_measurement(command, name, folder / command / name, entry, known, labels))
    _check_cells([stage for stage in stages if stage.command == "evaluate"])
    return stages


def result(stage: Stage) -> str:
    """The checkpoint that a training leaves."""
    if "flags" in stage.recipe:
        return str(stage.recipe["flags"]["output_dir"])
    last = _chain(stage.recipe)[-1] if "steps" in stage.recipe else None
    if last is None or isinstance(last.recipe, TrainRecipe):
        return str(stage.folder / "model")
    return str(last.result())  # under its own name, which upstream's loaders go by


def _chain(recipe: Plain) -> list[Step]:
    return chain.plan(recipes.parse(ChainRecipe, recipe))


def _check_cells(stages: Sequence[Stage]) -> None:
    """RecipeError or TPOError for evaluations that cannot be run, or would not fill one table."""
    places: dict[Hashable, str] = {}
    for stage in stages:
        recipe = recipes.parse(EvaluateRecipe, stage.recipe)
        check_recipe(recipe)
        for label, task in product(recipe.models, with_members(recipe.tasks)):
            for frames in frame_counts(recipe):
                other = places.setdefault((label, task, frames), stage.name)
                if other != stage.name:
                    raise RecipeError(
                        f"`evaluate.{other}` and `evaluate.{stage.name}` both measure {label} on {task} with {frames} frames: take it "
                        "out of one of them"
                    )
            main = stage.name if recipe.sweep else places.setdefault((label, task), stage.name)
            if main != stage.name:
                raise RecipeError(
                    f"`evaluate.{main}` and `evaluate.{stage.name}` both measure {label} on {task} for the main table: give one of them "
                    "a `sweep`"
                )
    if all(stage.recipe["sweep"] for stage in stages):
        raise RecipeError("`evaluate` needs an entry without a `sweep`: the main table is made of it")


def _training(name: str, folder: Path, entry: Any, known: Known, base: str) -> list[Stage]:
    steps: list[Stage] = []
    entries = entry if isinstance(entry, list) else [entry]
    if not entries:
        raise RecipeError(f"`train.{name}` is an empty list: it needs a step at least")
    for number, one in enumerate(entries):
        place = folder if len(entries) == 1 else folder / f"step-{number + 1}"
        before = (known.values[base], known.identities[base])
        if steps:
            before = (result(steps[-1]), steps[-1].identity)
        step = _stage("train", name, place, one, known, before)
        if _adapts(step):
            known.adapters.add(result(step))
        steps.append(step)
    return steps


def _adapts(stage: Stage) -> bool:
    """Whether the stage's script leaves adapters (a recipe without a script merges its own)."""
    return "flags" in stage.recipe and leaves_adapters(stage.recipe["flags"])


def _measurement(command: str, name: str, folder: Path, entry: Any, known: Known, labels: list[str]) -> Stage:
    asked = labels
    if isinstance(entry, dict) and "models" in entry:
        asked = entry["models"]
        unknown = [str(label) for label in asked if label not in labels] if isinstance(asked, list) else [str(asked)]
        if unknown:
            raise RecipeError(f"`{command}.{name}.models` lists names of {', '.join(labels)}, not {', '.join(unknown)}")
        entry = {key: value for key, value in entry.items() if key != "models"}
    models = {label: known.values[label] for label in asked}
    depends = stable_id([known.identities[label] for label in asked])
    return _stage(command, name, folder, entry, known, models=(models, depends))


def _stage(
    command: str,
    name: str,
    folder: Path,
    entry: Any,
    known: Known,
    start: tuple[str, str] | None = None,
    models: tuple[dict[str, str], str] | None = None,
) -> Stage:
    """The stage of an entry. `start`: the checkpoint that a training starts from; `models`: those that are measured; with what they depend on."""
    where = f"{command}.{name}"
    if not isinstance(entry, dict) or not isinstance(entry.get("recipe"), str):
        raise RecipeError(f"`{where}` must be {{recipe: NAME OR PATH, key: value, ...}}, it is {entry!r:.80}")
    changes = {key: value for key, value in entry.items() if key != "recipe"}
    used: list[str] = []
    data = recipes.read(entry["recipe"])
    kind = KINDS.get(command) or _training_kind(data)
    model = MODEL if kind is UpstreamRecipe else "model"
    for key, value in {
        **_defaults(kind, folder, data, known.values["seed"]),
        **({model: start[0]} if start else {}),
        **({"models": models[0]} if models else {}),
        **{model if key == "model" else key: value for key, value in _filled(changes, known, where, used).items()},
    }.items():
        try:
            recipes.change(data, key, value)
        except RecipeError as error:
            raise RecipeError(f"`{where}`: {error}") from None
    parsed: Any = recipes.parse(kind, data, f"{where} ({entry['recipe']})")
    resolved = recipes.to_plain(parsed)
    begun = resolved["flags"].get("model_name_or_path") if kind is UpstreamRecipe else resolved.get("model")
    if command == "train" and begun in known.adapters:
        raise RecipeError(
            f"`{where}` starts from {begun}, which holds adapters alone: train that one in a recipe with `steps`, which merges them"
        )
    depends = [part[1] for part in (start, models) if part]
    read: Any = recipes.read(entry["recipe"])
    parts = [resolved]
    if kind is ChainRecipe:
        parts = [recipes.to_plain(step.recipe) for step in _chain(resolved)]
        read = [read, *(recipes.read(step["recipe"]) for step in resolved["steps"])]
    of = stable_id(command, read, changes, known.values["seed"], depends)
    names = sorted(set(used))
    identity = stable_id(of, {name: known.identities[name] for name in names}, _code(parsed, parts))
    return Stage(command, name, folder, resolved, identity, tuple(names) if command == "train" else ())


def _training_kind(data: Plain) -> type:
    return UpstreamRecipe if "upstream" in data else ChainRecipe if "steps" in data else TrainRecipe


def _defaults(kind: type, folder: Path, data: Plain, seed: int) -> Plain:
    """What an ablation sets in a recipe."""
    if kind is UpstreamRecipe:
        last = Path(str((data.get("flags") or {}).get("output_dir") or "model")).name  # upstream's loaders choose by it
        return {"flags.seed": seed, "flags.output_dir": str(folder / last)}
    return {"output": str(folder), **({} if kind is NeedleRecipe else {"seed": seed})}


def _code(recipe: Any, parts: Sequence[Plain]) -> dict[str, Any]:
    """The releases of the packages that a result depends on, and commit and code of the checkouts that its recipes name.

    Of a measurement that names none, of the one that its wrapper finds.
    """
    places = {place for part in parts for place in _checkouts(part)}
    found: dict[str, Checkout | None] = {place: find_checkout(place, strict=False) for place in sorted(places)}
    if isinstance(recipe, (EvaluateRecipe, NeedleRecipe)) and not found:
        found["upstream"] = upstream_of(recipe)
    code = {place: (one.commit, code_digest(one)) for place, one in found.items() if one is not None}
    return {**releases("trl", "accelerate", "decord"), **code}


def _checkouts(recipe: Plain) -> Iterator[str]:
    for key, value in recipe.items():
        if isinstance(value, dict):
            yield from _checkouts(value)
        elif key == "upstream" and value:
            yield value


def _filled(value: Any, known: Known, where: str, used: list[str]) -> Any:
    """`value` with its `{name}`s replaced; their names are added to `used`. RecipeError for an unknown one."""
    if isinstance(value, dict):
        return {key: _filled(item, known, where, used) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, known, where, used) for item in value]
    if not isinstance(value, str):
        return copy.deepcopy(value)
    names = PLACE.findall(value)
    for name in names:
        if name not in known.values:
            raise RecipeError(f"`{where}`: nothing is called {{{name}}} there; known are {', '.join(known.values)}")
    used += names
    if PLACE.fullmatch(value):
        return known.values[names[0]]
    return PLACE.sub(lambda match: str(known.values[match[1]]), value)
