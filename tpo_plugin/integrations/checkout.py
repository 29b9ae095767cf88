"""Recognises a checkout of LLaVA-NeXT or LongVA, by its structure and not by its name or commit.

What counts is that replacing the training script's globals has an effect: its `train()` must look them up when called.
"""

from __future__ import annotations

import ast
import hashlib
import logging
import os
import subprocess
import symtable
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tpo_plugin.errors import TPOError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFINED = (
    "TrainingArguments",
    "DataArguments",
    "get_model",
    "make_dpo_data_module",
    "DPODataCollator",
    "find_all_linear_names",
    "safe_save_model_for_hf_trainer",
)
IMPORTED = "LLaVADPOTrainer"
LOOKED_UP = (*DEFINED, IMPORTED)  # by `train`, in the script's globals
FILES = ("__init__.py", "train/train_dpo.py", "train/llava_trainer.py", "model/builder.py")
MARK = b"# tpo-plugin"  # ends every line that `tpo patch` inserts
EXPECTED = "Expected: the root folder of LLaVA-NeXT (with llava/train/train_dpo.py) or LongVA (with longva/longva/train/train_dpo.py); README says where to clone them from"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkout:
    """A folder recognised as one of the two code bases."""

    path: Path  # the repository's root, resolved
    name: str  # llava_next or longva: the key in patches/upstreams.toml
    title: str
    package: str  # llava or longva
    root: Path  # the folder to put on sys.path
    script: Path  # its train_dpo.py
    commit: str | None  # None: not in a git checkout
    tried: bool  # upstreams.toml has the commit or, without git, the script's hash

    def notice(self) -> str | None:
        """One sentence for a user whose checkout is none of those tried; None for one that was."""
        if self.tried:
            return None
        which = f"commit {self.commit[:12]}" if self.commit else "a copy without a git commit"
        tried = ", ".join(f"{row['commit'][:12]} ({row['date']})" for row in upstreams()[self.name]["tried"])
        return (
            f"{self.title} at {self.path} is {which}; tpo-plugin was tried with {tried}. Its structure is as expected."
        )


def find_checkout(path: str | Path, strict: bool = True) -> Checkout:
    """The checkout at `path`: the repository's root or, for LongVA, also its inner `longva` folder.

    An unknown commit with the right structure is accepted, with a notice in the log. TPOError says why a folder is not recognised.
    Not strict: whatever the script holds, as long as it is there.
    """
    given = Path(path).expanduser()
    if not given.is_dir():
        raise TPOError(f"{given} is {'a file' if given.exists() else 'not there'}. {EXPECTED}")
    given = given.resolve()
    near = [found for found in _layouts(given) if found[2].is_dir()]
    whole = [found for found in near if not _missing(found[2])]
    if not whole:
        raise TPOError(f"{given} is not a checkout to use: {_why_not(given, near)}. {EXPECTED}")
    name, repository, package = whole[0]
    script = package / "train" / "train_dpo.py"
    source = script.read_bytes()
    if strict and (reason := script_problem(source, str(script))):
        raise TPOError(f"{script} is not the DPO script that tpo-plugin knows: {reason}. {EXPECTED}")
    known, commit = upstreams()[name], _commit(script)
    tried = any(row["commit"] == commit if commit else row["script"] == _digest(source) for row in known["tried"])
    found = Checkout(repository, name, known["title"], known["package"], package.parent, script, commit, tried)
    if strict and (notice := found.notice()):
        log.info(notice)
    return found


@cache
def upstreams() -> dict[str, Any]:
    """patches/upstreams.toml: the code bases by name, with the commits tried."""
    return tomllib.loads((patches_folder() / "upstreams.toml").read_text(encoding="utf-8"))


def patches_folder() -> Path:
    """The folder of upstreams.toml and the patch files, in a wheel or in the source tree."""
    installed = Path(__file__).parents[1] / "patches"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "patches"


def script_problem(source: bytes, name: str = "train_dpo.py") -> str | None:
    """Why replacing the globals of this training script would not work; None if it does."""
    try:
        tree = ast.parse(source, name)
        table = symtable.symtable(ast.unparse(tree), name, "exec")
    except (SyntaxError, ValueError) as error:
        return f"it is not valid Python: {error}"
    defined = {node.name for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
    for needed in (*DEFINED, "train"):
        if needed not in defined:
            return f"it does not define {needed} at its top level"
    imported = {
        alias.asname or alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    if IMPORTED not in imported:
        return f"it does not import {IMPORTED}"
    train = next(child for child in table.get_children() if child.get_name() == "train")
    for needed in LOOKED_UP:
        if needed not in train.get_identifiers() or not train.lookup(needed).is_global():
            return f"its train() does not look up {needed}, so replacing it would have no effect"
    guards = sum(map(is_main_guard, tree.body))
    if guards != 1:
        return f'it has {guards} top-level `if __name__ == "__main__":`, not 1'
    return None


def is_main_guard(node: ast.stmt) -> bool:
    """Whether this statement is `if __name__ == "__main__":`."""
    return isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'"


def _layouts(given: Path) -> Iterator[tuple[str, Path, Path]]:
    """What `given` may be: the code base, the repository's root and the package's folder."""
    for name, known in upstreams().items():
        root = given / known["root"]
        yield name, given, root / known["package"]
        if root != given and given.name == known["root"]:
            yield name, given.parent, given / known["package"]


def _missing(package: Path) -> list[str]:
    return [file for file in FILES if not (package / file).is_file()]


def _why_not(given: Path, near: list[tuple[str, Path, Path]]) -> str:
    if not near:
        return "it has none of the folders " + ", ".join(
            f"{Path(known['root'], known['package']).as_posix()}/" for known in upstreams().values()
        )
    name, _, package = min(near, key=lambda found: len(_missing(found[2])))
    if (
        name == "llava_next"
        and (package / "train" / "train.py").is_file()
        and "train/train_dpo.py" in _missing(package)
    ):
        return "it looks like LLaVA (haotian-liu) or an old LLaVA-NeXT: llava/train/train.py is there, llava/train/train_dpo.py is not"
    return f"{package.relative_to(given).as_posix()} has no {', no '.join(_missing(package))}"


def _commit(script: Path) -> str | None:
    """The commit that git has checked out, if it holds this script."""
    command = ["git", "-C", str(script.parent), "rev-parse", "HEAD", f"HEAD:./{script.name}"]
    outer = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}  # as a git hook sets them
    try:
        run = subprocess.run(command, capture_output=True, text=True, check=False, env=outer)
    except FileNotFoundError:  # no git
        return None
    return run.stdout.split()[0] if run.returncode == 0 else None


def code_digest(checkout: Checkout) -> str:
    """A hash of the package's Python files: a commit alone does not show local edits."""
    package, digest = checkout.root / checkout.package, hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        digest.update(f"{file.relative_to(package).as_posix()}\n".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def _digest(source: bytes) -> str:
    """sha256 of the script as upstream has it: without our lines, with LF line ends."""
    lines = (line.rstrip(b"\r\n") + b"\n" for line in source.splitlines(keepends=True))
    return hashlib.sha256(b"".join(line for line in lines if not line.rstrip().endswith(MARK))).hexdigest()
