"""A small tree with the structure of LLaVA-NeXT or LongVA, for tests that need no real checkout."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tpo_plugin.integrations import patching
from tpo_plugin.integrations.checkout import find_checkout
from tpo_plugin.integrations.doctor.report import Row

SCRIPT = '''\
# A stand-in for the training script.
"""With a docstring."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from PACKAGE.train.llava_trainer import LLaVADPOTrainer


@dataclass
class DataArguments:
    data_path: str = ""


@dataclass
class TrainingArguments:
    output_dir: str = ""


class DPODataCollator:
    pass


def make_dpo_data_module(*arguments):
    return {}


def get_model(*arguments):
    return None, None


def find_all_linear_names(model):
    return []


def safe_save_model_for_hf_trainer(trainer, output_dir):
    pass


def train():
    arguments = (DataArguments, TrainingArguments)
    model = get_model(None, arguments, {})
    find_all_linear_names(model)
    safe_save_model_for_hf_trainer(None, "")
    return LLaVADPOTrainer(model, make_dpo_data_module(None, None), DPODataCollator(), sys.argv)


if __name__ == "__main__":
    train()
'''
OURS = (
    b"from tpo_plugin.integrations import llava_family  # tpo-plugin",
    b"llava_family.prepare()  # tpo-plugin",
    b"llava_family.attach(globals())  # tpo-plugin",
)
PLACES = {"llava_next": "llava", "longva": "longva/longva"}


@pytest.fixture
def git() -> Callable[..., str]:
    """A function that runs git in a folder and returns what it says; what a git hook sets is kept from it."""
    outer = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}

    def run(folder: Path, *arguments: str, text: str | None = None) -> str:
        command = ["git", "-C", folder, "-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        return subprocess.run(command, input=text, capture_output=True, text=True, check=True, env=outer).stdout

    return run


@pytest.fixture
def upstream_tree(tmp_path: Path, git: Callable[..., str]) -> Callable[..., Path]:
    """A function that writes the tree of a code base and returns its root; `change` is made to the script's text."""

    def write(name: str, change: Callable[[str], str] = str, commit: bool = False) -> Path:
        root = tmp_path / name
        package = root / PLACES[name]
        for file in ("__init__.py", "train/train.py", "train/llava_trainer.py", "model/builder.py"):
            (package / file).parent.mkdir(parents=True, exist_ok=True)
            (package / file).write_text("class LLaVADPOTrainer: pass\n")
        script = package / "train" / "train_dpo.py"
        script.write_bytes(change(SCRIPT.replace("PACKAGE", package.name)).encode())
        script.chmod(0o755)
        if commit:
            git(root, "init", "-q")
            git(root, "add", ".")
            git(root, "commit", "-q", "-m", "one")
        return root

    return write


@pytest.fixture
def tree_hash() -> Callable[[Path], str]:
    """A function that gives one hash for all names, modes and bytes below a folder (git's own files aside)."""

    def total(root: Path) -> str:
        digest = hashlib.sha256()
        for path in sorted(root.rglob("*")):
            inside = path.relative_to(root)
            if inside.parts[0] != ".git":
                digest.update(f"{inside.as_posix()}\0{path.lstat().st_mode}\0".encode())
                digest.update(path.read_bytes() if path.is_file() else b"")
        return digest.hexdigest()

    return total


class Patcher:
    """Applies and reverts the patches of a tree, and says what is there."""

    ours = OURS
    readers = "llava/train/data_processing/utils.py"

    def apply(self, path: Path) -> None:
        patching.carry_out(patching.plan_apply(find_checkout(path)))

    def revert(self, path: Path) -> None:
        patching.carry_out(patching.plan_revert(find_checkout(path, strict=False)))

    def words(self, path: Path) -> dict[str, str]:
        return {state.patch.file: state.word for state in patching.states(find_checkout(path))}


@pytest.fixture
def patcher() -> Patcher:
    return Patcher()


@pytest.fixture
def package() -> Callable[..., Path]:
    """A function that writes an importable package with this code into a folder, and returns the folder."""

    def write(folder: Path, name: str, code: str = "") -> Path:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(code)
        return folder

    return write


@pytest.fixture
def distribution() -> Callable[[Path, str, str], None]:
    """A function that makes a distribution of this name and version look installed in a folder."""

    def write(folder: Path, name: str, number: str) -> None:
        info = folder / f"{name}-{number}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n")

    return write


@pytest.fixture
def cells() -> Callable[[Sequence[Row]], dict[str, tuple[str, str]]]:
    """A function that gives a doctor's rows by name: the level, and problem with cure or verdict."""

    def shown(rows: Sequence[Row]) -> dict[str, tuple[str, str]]:
        return {row.name: (row.level, f"{row.problem} -> {row.cure}" if row.problem else row.verdict) for row in rows}

    return shown
