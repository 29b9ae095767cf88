"""Whose an output folder is: held by one process, of one recipe on the same inputs, and what cannot be written there.

Nothing here needs transformers, so that a chain of upstream scripts can use it beside any release.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError

from tpo_plugin import recipe as recipes
from tpo_plugin.errors import RecipeError, TPOError
from tpo_plugin.folders import checkpoint_digest, differences, locked
from tpo_plugin.options import ChainRecipe
from tpo_plugin.records import write_json

INPUTS = "inputs.json"
BEGUN = (
    "done.json",
    "chain.json",
    "checkpoint-*",
    "stage-*/done.json",
    "stage-*/checkpoint-*",
)  # what a run leaves that has saved something
CHECKPOINTS = {
    "model": "model",
    "reference_model": "reference model",
}  # keys that name one, and its name in inputs.json
PLACES = ("output", "reference")  # keys that say where a run's own files lie
# torch.save has no exception of its own for a file that cannot be written.
TORCH_SAVE_FAILED = ("PytorchStreamWriter", "inline_container", "iostream error")


def is_main() -> bool:
    """Whether this is the first of the processes that a launcher (torchrun, accelerate) started."""
    return os.environ.get("RANK", "0") == "0"


def held(output: Path) -> AbstractContextManager[None]:
    """The folder, held by the first process alone (folders.locked)."""
    return locked(output) if is_main() else nullcontext()


def changes(output: Path, recipe: Any, moved: bool = False) -> list[str]:
    """What is another in `recipe` than in that of the run in `output`; nothing where that has saved nothing yet.

    `moved`: the run, a chain's step, may have been made in another folder. Where its files lie does not count then, and a checkpoint counts by
    its content, or, while it is not there yet, by its folder's name and that of the step.
    """
    saved = _saved(output) if _begun(output) else None
    if saved is None:
        return []
    now = recipes.to_plain(recipe)
    if moved:
        inputs = _inputs(output)
        same = [key for key, name in CHECKPOINTS.items() if _same(saved.get(key), now[key], inputs.get(name))]
        saved |= {key: now[key] for key in (*PLACES, *same)}
    return differences(saved, now)


def _same(before: str | None, now: str | None, digest: str | None) -> bool:
    """Whether `now` is the checkpoint that was `before`, which had this digest if it is known; what a path holds by now is `claim`'s to tell."""
    if before is None or now is None or before == now:
        return before == now
    if digest is not None and Path(now).is_dir():
        return checkpoint_digest(now) == digest
    return Path(before).parts[-2:] == Path(now).parts[-2:]


def _begun(output: Path) -> bool:
    """Whether a run has saved something there."""
    return any(any(output.glob(pattern)) for pattern in BEGUN)


def _saved(output: Path) -> dict[str, Any] | None:
    """The plain values of the folder's recipe, None where it has none."""
    file = output / "recipe.yaml"
    return (yaml.safe_load(file.read_text(encoding="utf-8")) or {}) if file.is_file() else None


def _inputs(output: Path) -> dict[str, str]:
    """The digests that the folder's run noted of its inputs, {} where it has none."""
    file = output / INPUTS
    found: dict[str, str] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return found


def claim(output: Path, recipe: Any, inputs: dict[str, str], moved: bool = False) -> bool:
    """Whether `output` holds a finished run of this recipe on these inputs; else it becomes, or stays, a run of it.

    `moved` as `changes` has it. RecipeError if it holds a run of another recipe or on other inputs that has saved something.
    """
    differing, old = changes(output, recipe, moved), _inputs(output)
    if old and _begun(output):
        differing += [f"the {key} changed since" for key in inputs if old.get(key) != inputs[key]]
    if differing:
        raise RecipeError(
            f"{output} holds a run of another recipe ({'; '.join(differing)}); choose another `output`, or remove the folder"
        )
    if (output / "done.json").is_file():
        return True
    if is_main():
        write_json(output / INPUTS, inputs)
        recipes.save(recipe, output)
    return False


def check_chain(recipe: ChainRecipe) -> None:
    """RecipeError where the chain's `output` is another run's, or its `output`/model a checkpoint that no chain has put there."""
    output = Path(recipe.output)
    model = output / "model"
    if "steps" not in (_saved(output) or {}) and (_begun(output) or os.path.lexists(model)):
        raise RecipeError(f"{output} holds a run or a model that is no chain's: choose another `output`")
    if model.resolve() == Path(recipe.model).resolve():
        raise RecipeError(f"`model` is {model}, which the chain replaces by its result: choose another `output`")


@contextmanager
def writing(output: Path) -> Iterator[None]:
    """TPOError where a file cannot be written (a full disk, mostly), in whichever library's words that comes."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(words in str(error) for words in TORCH_SAVE_FAILED):
            raise
        raise TPOError(
            f"cannot write to {output}: {error}. Free some space and run the same command again: it continues from the last "
            "complete checkpoint."
        ) from error


def share_model(source: Path, target: Path) -> None:
    """Make `target` a folder with the checkpoint in `source`; its files are the same ones on the disk, where that knows hard links.

    A folder with that checkpoint stays as it is.
    """
    there = not target.is_symlink() and (target / "config.json").is_file()
    if there and checkpoint_digest(str(target)) == checkpoint_digest(str(source)):
        return
    partial = target.with_name(target.name + ".partial")
    _remove(partial)
    shutil.copytree(source, partial, copy_function=_link)
    _remove(target)
    partial.rename(target)


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)
