"""`tpo train RECIPE` for a recipe with `upstream`: the DPO script of a LLaVA-NeXT or LongVA checkout, with `--tpo` and the recipe's flags; and
the same as a step of a chain, from which the next one can start."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import json
import logging
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from tpo_plugin import recipe as recipes
from tpo_plugin.checks import at_least
from tpo_plugin.errors import RecipeError, TPOError
from tpo_plugin.folders import adapter_base, checkpoint_digest, differences
from tpo_plugin.integrations.checkout import Checkout, find_checkout
from tpo_plugin.integrations.llava_family.arguments import PRESETS, TRUE, TemporalArguments
from tpo_plugin.integrations.llava_family.claim import ACCUMULATED
from tpo_plugin.integrations.llava_family.claim import FILE as RUN
from tpo_plugin.integrations.llava_family.repairs import check_transformers
from tpo_plugin.options import UpstreamRecipe
from tpo_plugin.records import write_json, write_text
from tpo_plugin.training.claims import writing
from tpo_plugin.training.upstream_data import data_digest, flag

logger = logging.getLogger(__name__)

NEEDED = ("model_name_or_path", "data_path", "output_dir")
CLASSES = ("ModelArguments", "DataArguments", "TrainingArguments")  # of the script
STEP, GIVEN = "step.json", "given.yaml"  # in the folder of a chain's step
PLACES = ("model_name_or_path", "output_dir")  # the flags that a chain sets
PACKAGES = ("tpo-plugin", "torch", "transformers", "peft")


def train_upstream(recipe: UpstreamRecipe) -> Path:
    """Train with the checkout's script; the folder in `flags.output_dir`, which also gets the resolved recipe.

    In this process, or, for several processes or DeepSpeed, as torchrun, which takes this process's place and its exit status.
    Raises RecipeError for flags that are missing or that the script does not know, TPOError for what `launch` refuses.
    """
    checkout = check_upstream(recipe)
    flags = words(recipe.flags, checkout.root)
    command = _command(recipe, flags)
    output = Path(recipe.flags["output_dir"])
    recipes.save(recipe, output)
    logger.info("%s", shlex.join(command))
    if command[2] == "torch.distributed.run":
        sys.stdout.flush()
        os.execv(command[0], command)
    from tpo_plugin.integrations.llava_family.launcher import launch

    launch(str(checkout.path), flags)
    return output


def check_upstream(recipe: UpstreamRecipe) -> Checkout:
    """The recipe's checkout; TPOError for a recipe that the script there would not take, or not in this environment."""
    checkout = find_checkout(recipe.upstream)
    check_transformers()
    _check(recipe, known_flags(checkout))
    start = str(recipe.flags["model_name_or_path"])
    if adapter_base(start) is not None:
        raise TPOError(
            f"{start} holds an adapter, which the script cannot start from: make a checkpoint of it with "
            f"`tpo merge --upstream {recipe.upstream} {start} FOLDER`"
        )
    return checkout


def run_step(recipe: UpstreamRecipe, start: str, folder: Path) -> Path:
    """Train from the checkpoint `start` into `folder`, and return the checkpoint to go on from.

    The script's output lies there under the last part of `flags.output_dir`, since upstream's loaders choose a class by that name. If it
    holds adapters, they are merged into a checkpoint beside it, with `-merged` after the name. `step.json` says what the step is made of
    and, when it has ended well, its seconds, optimiser steps, pairs and versions: such a step is reused. An unfinished one goes on from the
    script's own last checkpoint. TPOError for a script that fails, for a folder with a step of another recipe, start or data, and where the
    result of a finished one is gone.
    """
    output, found = _output(recipe.flags, folder), step_result(recipe.flags, folder)
    adapters = leaves_adapters(recipe.flags)
    flags = {**recipe.flags, "model_name_or_path": start, "output_dir": str(output)}
    whole = dataclasses.replace(recipe, flags=flags)
    commit = check_upstream(whole).commit
    made_of = {"start": checkpoint_digest(start), **_inputs(recipe)}
    record = _record(folder, made_of)
    if "seconds" not in record:
        with writing(folder):
            write_json(folder / STEP, made_of)
            write_text(folder / GIVEN, yaml.safe_dump(recipes.to_plain(whole), sort_keys=False, allow_unicode=True))
        begun = time.monotonic()
        _tpo(["train", str(folder / GIVEN)])
        state = json.loads((output / "trainer_state.json").read_text(encoding="utf-8"))
        took = {
            "seconds": round(time.monotonic() - begun, 1),
            "steps": state["global_step"],
            "pairs": json.loads((output / RUN).read_text(encoding="utf-8"))["pairs"],
            "versions": {**{name: version(name) for name in PACKAGES}, "upstream": commit},
        }
        with writing(folder):
            write_json(folder / STEP, made_of | took)
    elif found.is_dir() or (adapters and output.is_dir()):
        logger.info("%s is finished: reusing it", folder)
    else:
        raise TPOError(
            f"{folder} is finished, but its result {found} is gone: remove {folder}, and the step runs again"
        )
    if adapters and not found.is_dir():
        _merge(recipe.upstream, output, found)
    return found


def changed(recipe: UpstreamRecipe, start: str, folder: Path) -> list[str]:
    """What the folder's step is made of otherwise, as far as it is known before the steps before it have run: its start may not be there yet."""
    record = _begun(folder)
    if not record:
        return []
    made_of = _inputs(recipe)
    if Path(start).is_dir():
        made_of["start"] = checkpoint_digest(start)
    found = _changes(record, made_of)
    given = yaml.safe_load((folder / GIVEN).read_text(encoding="utf-8"))
    before = Path(given["flags"]["model_name_or_path"])
    if not Path(start).exists() and before.parts[-2:] != Path(start).parts[-2:]:  # a moved `output` is still the same
        found.append(f"start: {before} -> {start}")
    return found


def _inputs(recipe: UpstreamRecipe) -> dict[str, Any]:
    """What a step is made of beside its start."""
    made_of = {
        "recipe": _comparable(recipe),
        "output": _output(recipe.flags, Path()).name,
        "data": data_digest(recipe.flags),
        "batch": _batch(recipe),
    }
    reference = recipe.flags.get("tpo_reference_model")
    return made_of if reference is None else {**made_of, "reference model": checkpoint_digest(str(reference))}


def _batch(recipe: UpstreamRecipe) -> int:
    """The pairs behind an optimiser step."""
    preset = PRESETS.get(str(recipe.flags.get("tpo_preset")), {})
    each = flag(recipe.flags, "per_device_train_batch_size", int, preset.get("per_device_train_batch_size", 8))
    return recipe.processes * each * flag(recipe.flags, ACCUMULATED, int, 1)


def _comparable(recipe: UpstreamRecipe) -> dict[str, Any]:
    """The recipe without what a chain sets and the number of processes, of which the batch counts; a moved folder is still the same step."""
    plain = recipes.to_plain(recipe)
    flags = {name: value for name, value in plain["flags"].items() if name not in PLACES}
    return {"upstream": plain["upstream"], "flags": flags}


def _record(folder: Path, made_of: dict[str, Any]) -> dict[str, Any]:
    """What the folder says of its step, {} if it holds none; TPOError if that is made of something else."""
    record = _begun(folder)
    differing = _changes(record, made_of)
    if differing:
        raise TPOError(
            f"{folder} holds a step of another recipe or another start ({'; '.join(differing)}): remove that folder and those of the "
            "steps after it, or choose another `output`"
        )
    return record


def finished(folder: Path) -> bool:
    """Whether the folder holds a step that has ended well."""
    return "seconds" in _begun(folder)


def _begun(folder: Path) -> dict[str, Any]:
    """The folder's step.json; {} where there is none, or nothing of the step has been saved."""
    file = folder / STEP
    record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return record if "seconds" in record or any(folder.glob("*/checkpoint-*")) else {}


def _changes(record: dict[str, Any], made_of: dict[str, Any]) -> list[str]:
    """The differences in what both say: earlier releases noted less. More processes may gather fewer steps for the same batch."""
    known = [name for name in made_of if name in record]
    old, new = ({name: one[name] for name in known} for one in (record, made_of))
    if "batch" in known:
        for one in (old, new):
            flags = {name: value for name, value in one["recipe"]["flags"].items() if name != ACCUMULATED}
            one["recipe"] = {**one["recipe"], "flags": flags}
    return differences(old, new)


def leaves_adapters(flags: Mapping[str, Any]) -> bool:
    """Whether a script with these flags saves adapters and no checkpoint."""
    return str(flags.get("lora_enable")).lower() in TRUE


def step_result(flags: Mapping[str, Any], folder: Path) -> Path:
    """The checkpoint that `run_step` leaves in `folder` for a recipe with these flags."""
    output = _output(flags, folder)
    return output.with_name(f"{output.name}-merged") if leaves_adapters(flags) else output


def _output(flags: Mapping[str, Any], folder: Path) -> Path:
    return folder / Path(str(flags.get("output_dir") or "model")).name


def _merge(upstream: str, adapter: Path, merged: Path) -> None:
    """Make the checkpoint `merged` of an adapter; it has another name until it is whole."""
    part = merged.with_name(f"{adapter.name}-merging")
    shutil.rmtree(part, ignore_errors=True)
    _tpo(["merge", "--upstream", upstream, str(adapter), str(part)])
    part.rename(merged)


def _tpo(arguments: list[str]) -> None:
    """`tpo` with these arguments, in a process that shows what it says here; TPOError if it fails."""
    command = [sys.executable, "-m", "tpo_plugin", *arguments]
    logger.info("%s", shlex.join(command))
    status = subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode
    if status:
        raise TPOError(
            f"`tpo {shlex.join(arguments)}` ended with status {status}; its last lines are above. Mend this and run the same command "
            "again: what is finished is kept."
        )


def known_flags(checkout: Checkout) -> set[str]:
    """The names of the script's flags: the fields of its argument classes, of transformers' and of ours."""
    from transformers import TrainingArguments

    tree = ast.parse(checkout.script.read_bytes())
    bodies = [node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name in CLASSES]
    own = {line.target.id for body in bodies for line in body if _is_field(line)}  # type: ignore[attr-defined]
    return own | {field.name for kind in (TrainingArguments, TemporalArguments) for field in dataclasses.fields(kind)}


def words(flags: Mapping[str, Any], root: Path) -> list[str]:
    """The flags as a command line: True and False by their names, a mapping as JSON, a list as several words, None left out.

    A DeepSpeed configuration that is no path from here is looked up below `root`.
    """
    line = []
    for name, value in flags.items():
        if name == "deepspeed" and isinstance(value, str) and not Path(value).exists() and (root / value).is_file():
            value = root / value
        if value is not None:
            line += [f"--{name}", *map(_word, value if isinstance(value, list) else [value])]
    return line


def _word(value: Any) -> str:
    return json.dumps(value) if isinstance(value, dict) else str(value)


def _check(recipe: UpstreamRecipe, known: set[str]) -> None:
    for name in NEEDED:
        if not str(recipe.flags.get(name) or "").strip():
            raise RecipeError(f"`flags.{name}` is missing: the script needs it")
    at_least("processes", recipe.processes, 1)
    for name in recipe.flags:
        if name not in known:
            near = difflib.get_close_matches(str(name), sorted(known), n=1, cutoff=0.0)
            raise RecipeError(f"the script of {recipe.upstream} has no flag `{name}`; did you mean `{near[0]}`?")


def _command(recipe: UpstreamRecipe, flags: Sequence[str]) -> list[str]:
    """DeepSpeed needs torchrun's variables also for one process."""
    torchrun = recipe.processes > 1 or recipe.flags.get("deepspeed") is not None
    start = (
        ["torch.distributed.run", "--standalone", "--nproc_per_node", str(recipe.processes), "-m"] if torchrun else []
    )
    return [sys.executable, "-m", *start, "tpo_plugin", "train", "--upstream", recipe.upstream, "--", *flags]


def _is_field(line: ast.stmt) -> bool:
    return isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
