"""`tpo train RECIPE` for a recipe with `upstream`: the DPO script of a LLaVA-NeXT or LongVA checkout, with `--tpo` and the recipe's flags."""

from __future__ import annotations

import ast
import dataclasses
import difflib
import json
import logging
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tpo_plugin import recipe as recipes
from tpo_plugin.checks import at_least
from tpo_plugin.errors import RecipeError
from tpo_plugin.integrations.checkout import Checkout, find_checkout
from tpo_plugin.integrations.llava_family.arguments import TemporalArguments
from tpo_plugin.integrations.llava_family.repairs import check_transformers
from tpo_plugin.options import UpstreamRecipe

logger = logging.getLogger(__name__)

NEEDED = ("model_name_or_path", "data_path", "output_dir")
CLASSES = ("ModelArguments", "DataArguments", "TrainingArguments")  # of the script


def train_upstream(recipe: UpstreamRecipe) -> Path:
    """Train with the checkout's script; the folder in `flags.output_dir`, which also gets the resolved recipe.

    In this process, or, for several processes or DeepSpeed, as torchrun, which takes this process's place and its exit status.
    Raises RecipeError for flags that are missing or that the script does not know, TPOError for what `launch` refuses.
    """
    checkout = find_checkout(recipe.upstream)
    check_transformers()
    _check(recipe, known_flags(checkout))
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
