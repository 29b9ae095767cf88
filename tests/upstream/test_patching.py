"""`tpo patch` on copies of the real checkouts: what it adds, and that nothing of it stays."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tpo_plugin.cli import main
from tpo_plugin.integrations import patching
from tpo_plugin.integrations.checkout import Checkout, find_checkout, patches_folder, script_problem

CHECKOUTS = {"llava_next": "TPO_LLAVA_NEXT", "longva": "TPO_LONGVA"}


def git(path: Path, *arguments: str) -> str:
    run = subprocess.run(["git", "-C", path, *arguments], capture_output=True, text=True, check=True)
    return run.stdout


@pytest.fixture(params=CHECKOUTS)
def copy(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Checkout]:
    """A clone of the checkout's head: the files at its root, the package's tree and LLaVA-NeXT's trl."""
    variable = CHECKOUTS[request.param]
    if variable not in os.environ:
        pytest.skip(f"{variable} names no checkout")
    source = find_checkout(os.environ[variable])
    clone = tmp_path / source.title
    subprocess.run(["git", "clone", "-q", "--shared", "--sparse", source.path, clone], check=True)
    git(clone, "sparse-checkout", "set", source.package, "trl")
    yield find_checkout(clone)
    shutil.rmtree(clone)


def contents(checkout: Checkout) -> dict[str, tuple[int, bytes]]:
    """Mode and bytes of every file, git's own aside; folders too."""
    found = {}
    for path in checkout.path.rglob("*"):
        inside = path.relative_to(checkout.path)
        if inside.parts[0] != ".git":
            found[inside.as_posix()] = (path.lstat().st_mode, path.read_bytes() if path.is_file() else b"")
    return found


def test_the_head_is_recognised(copy: Checkout) -> None:
    assert script_problem(copy.script.read_bytes()) is None
    assert copy.commit == git(copy.path, "rev-parse", "HEAD").strip()


def test_apply_and_revert_leave_no_trace(copy: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(copy)
    path = str(copy.path)
    assert main(["patch", "apply", "--dry-run", path]) == 0
    assert contents(copy) == before
    assert main(["patch", "apply", path]) == 0
    applied = contents(copy)
    added = (
        {"llava/train/data_processing", "llava/train/data_processing/utils.py"} if copy.package == "llava" else set()
    )
    script = copy.script.relative_to(copy.path).as_posix()
    assert set(applied) - set(before) == added
    assert [name for name in before if applied[name] != before[name]] == [script]
    assert git(copy.path, "diff", "--numstat").split() == ["3", "0", script]
    capsys.readouterr()
    assert main(["patch", "apply", path]) == 0
    assert capsys.readouterr().out == "already applied\n"
    assert contents(copy) == applied
    assert main(["patch", "status", path]) == 0
    assert all(line.split()[1] == "applied" for line in capsys.readouterr().out.splitlines()[1:])
    assert main(["patch", "revert", path]) == 0
    assert contents(copy) == before
    assert git(copy.path, "status", "--porcelain", "--ignored") == ""


def test_git_applies_the_patch_files_to_the_commit_tried(copy: Checkout) -> None:
    if not copy.tried:
        pytest.skip(f"{copy.commit} is not among the commits tried")
    patching.carry_out(patching.plan_apply(copy))
    ours = contents(copy)
    patching.carry_out(patching.plan_revert(copy))
    for file in sorted((patches_folder() / copy.name).glob("*.patch")):
        git(copy.path, "apply", "--unidiff-zero", str(file))
    assert contents(copy) == ours
    assert {state.word for state in patching.states(copy)} == {"applied"}


def test_the_lines_find_their_place_in_a_changed_script(copy: Checkout) -> None:
    source = copy.script.read_bytes()
    first, guard = b"import os\n", b'if __name__ == "__main__":'
    assert source.count(b"\n" + first) == source.count(guard) == 1
    changed = b"# mine\n\n" + source.replace(guard, b"MINE = 1\n\n\n" + guard)
    copy.script.write_bytes(changed)
    patching.carry_out(patching.plan_apply(copy))
    before, ours, after = copy.script.read_bytes().partition(b"llava_family.attach(globals())  # tpo-plugin\n")
    assert before.endswith(b"MINE = 1\n\n\n")
    assert ours
    assert after.startswith(guard)
    assert b"llava_family.prepare()  # tpo-plugin\n" + first in before
    patching.carry_out(patching.plan_revert(copy))
    assert copy.script.read_bytes() == changed


def test_the_patched_script_starts_and_knows_tpo(copy: Checkout) -> None:
    patching.carry_out(patching.plan_apply(copy))
    environment = os.environ | {"PYTHONPATH": str(copy.root), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, copy.script, "--tpo", "--help"], capture_output=True, text=True, check=False, env=environment
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert "--tpo" in run.stdout
    assert "--dpo_alpha" in run.stdout
