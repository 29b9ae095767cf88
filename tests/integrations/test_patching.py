"""`tpo patch` on a tree that only has the structure of the real ones; tests/upstream/test_patching.py has those."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tpo_plugin.cli import main
from tpo_plugin.errors import TPOError
from tpo_plugin.integrations import patching
from tpo_plugin.integrations.checkout import MARK, find_checkout, patches_folder, upstreams

NAMES = ("llava_next", "longva")


@pytest.fixture
def script(upstream_tree) -> Path:
    """The script of a LongVA tree: one patch, one file."""
    return find_checkout(upstream_tree("longva")).script


@pytest.mark.parametrize("name", NAMES)
def test_the_lines_go_before_the_first_import_and_the_main_guard(upstream_tree, patcher, name: str) -> None:
    path = upstream_tree(name)
    before = find_checkout(path).script.read_bytes().splitlines()
    patcher.apply(path)
    after = find_checkout(path).script.read_bytes().splitlines()
    first, guard = before.index(b"import sys"), before.index(b'if __name__ == "__main__":')
    assert after == [*before[:first], *patcher.ours[:2], *before[first:guard], patcher.ours[2], *before[guard:]]
    compile(b"\n".join(after), "train_dpo.py", "exec")  # also proves that `from __future__` still comes first


@pytest.mark.parametrize("commit", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_revert_leaves_the_tree_as_it_was(upstream_tree, patcher, tree_hash, name: str, commit: bool) -> None:
    path = upstream_tree(name, commit=commit)
    before = tree_hash(path)
    patcher.apply(path)
    applied = tree_hash(path)
    assert applied != before
    assert set(patcher.words(path).values()) == {"applied"}
    patcher.apply(path)
    assert tree_hash(path) == applied
    patcher.revert(path)
    assert tree_hash(path) == before
    patcher.revert(path)
    assert tree_hash(path) == before
    assert set(patcher.words(path).values()) == {"not applied"}


@pytest.mark.parametrize(
    "change",
    [
        lambda source: source.replace("\n", "\r\n"),
        lambda source: "\ufeff" + source.partition("annotations\n")[2],  # the first import is the file's first line
        lambda source: source.removesuffix("\n    train()\n") + " train()",
        lambda source: source.replace("# A stand-in", "# é, \x0c, \u2028"),
    ],
    ids=["CRLF", "byte order mark", "no newline at the end", "odd characters"],
)
def test_bytes_survive(upstream_tree, patcher, tree_hash, change) -> None:
    path = upstream_tree("longva", change)
    source, before = find_checkout(path).script.read_bytes(), tree_hash(path)
    patcher.apply(path)
    lines = find_checkout(path).script.read_bytes().splitlines(keepends=True)
    end = b"\r\n" if b"\r\n" in source else b"\n"
    assert [line for line in lines if MARK in line][1:] == [line + end for line in patcher.ours[1:]]
    assert patcher.words(path) == {"train_dpo.patch": "applied"}
    patcher.revert(path)
    assert tree_hash(path) == before


def test_a_latin_1_script_survives(upstream_tree, patcher, script: Path) -> None:
    source = b"# coding: latin-1\n# caf\xe9\n" + script.read_bytes()
    script.write_bytes(source)
    patcher.apply(script.parents[3])
    assert script.read_bytes().count(b"caf\xe9") == 1
    patcher.revert(script.parents[3])
    assert script.read_bytes() == source


def test_other_changes_in_a_dirty_checkout_stay(upstream_tree, patcher, tree_hash) -> None:
    path = upstream_tree("llava_next", commit=True)
    script = find_checkout(path).script
    script.write_text(script.read_text().replace("import sys\n", "import os, sys\nimport re\n") + "\n# mine\n")
    (path / "llava" / "train" / "notes.txt").write_text("mine")
    (path / "llava" / "train" / "train.py").unlink()
    before = tree_hash(path)
    patcher.apply(path)
    script.write_text(script.read_text().replace("class DataArguments:", "class DataArguments:\n    mine: int = 1"))
    (path / "llava" / "train" / "more.txt").write_text("mine")
    patcher.revert(path)
    assert "mine: int = 1" in script.read_text()
    script.write_text(script.read_text().replace("\n    mine: int = 1", ""))
    (path / "llava" / "train" / "more.txt").unlink()
    assert tree_hash(path) == before


def test_the_new_file_is_importable_beside_the_script(upstream_tree, patcher, tmp_path: Path) -> None:
    path = upstream_tree("llava_next")
    patcher.apply(path)
    (tmp_path / "rows.json").write_text('[{"a": "é"}]', encoding="utf-8")
    (tmp_path / "rows.jsonl").write_text('{"a": "é"}\n\n{"a": 2}\n', encoding="utf-8")
    probe = path / "llava" / "train" / "probe.py"  # as the script: its folder is first on sys.path
    probe.write_text(
        "from data_processing.utils import load_jsonl, load_json\n"
        "assert load_json('rows.json') == [{'a': '\\xe9'}]\n"
        "assert load_jsonl('rows.jsonl') == [{'a': '\\xe9'}, {'a': 2}]\n"
    )
    compiling = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run([sys.executable, probe], check=True, cwd=tmp_path, env=compiling)
    assert list((path / patcher.readers).parent.glob("__pycache__/*.pyc"))
    patcher.revert(path)
    assert not (path / patcher.readers).parent.exists()


def test_a_folder_that_holds_more_than_our_file_stays(upstream_tree, patcher) -> None:
    path = upstream_tree("llava_next")
    patcher.apply(path)
    mine = (path / patcher.readers).with_name("mine.py")
    mine.touch()
    patcher.revert(path)
    assert list(mine.parent.iterdir()) == [mine]


def test_an_apply_that_was_cut_short_is_completed(upstream_tree, patcher, tree_hash) -> None:
    path = upstream_tree("llava_next")
    changes = patching.plan_apply(find_checkout(path))
    patching.carry_out(changes)
    whole = tree_hash(path)
    patcher.revert(path)
    patching.carry_out(changes[:1])
    assert patcher.words(path) == {"data_processing.patch": "applied", "train_dpo.patch": "not applied"}
    patcher.apply(path)
    assert tree_hash(path) == whole


def test_revert_works_when_the_script_no_longer_does(upstream_tree, patcher, script: Path) -> None:
    patcher.apply(script.parents[3])
    script.write_bytes(script.read_bytes() + b"def broken(:\n")
    patcher.revert(script.parents[3])
    assert b"tpo" not in script.read_bytes()


def test_a_linked_script_stays_a_link(patcher, script: Path, tmp_path: Path) -> None:
    real = script.rename(tmp_path / "real.py")
    script.symlink_to(real)
    patcher.apply(script.parents[3])
    assert script.is_symlink()
    assert patcher.ours[2] in real.read_bytes()


def test_a_file_that_cannot_be_written_is_named_and_nothing_stays(
    upstream_tree, tree_hash, capsys: pytest.CaptureFixture[str]
) -> None:
    path = upstream_tree("llava_next")
    (path / "llava" / "train" / "train_dpo.py.partial").mkdir()  # in the way of the second of the two files
    before = tree_hash(path)
    assert main(["patch", "apply", str(path)]) == 1
    assert "llava/train/train_dpo.py: Is a directory" in capsys.readouterr().err
    assert tree_hash(path) == before


def test_the_patched_script_names_the_package_that_it_needs(patcher, script: Path) -> None:
    patcher.apply(script.parents[3])
    run = subprocess.run([sys.executable, "-S", "-I", script], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stderr.endswith("ModuleNotFoundError: No module named 'tpo_plugin'\n")


def test_the_command_line(upstream_tree, patcher, tree_hash, capsys: pytest.CaptureFixture[str]) -> None:
    def tpo(*arguments: str) -> str:
        assert main(["patch", *arguments, str(path)]) == 0
        return capsys.readouterr().out

    path = upstream_tree("llava_next", commit=True)
    before = tree_hash(path)
    planned = tpo("apply", "--dry-run")
    assert planned.endswith("\ndry run: nothing was changed\n")
    assert tree_hash(path) == before
    shown = tpo("apply")
    assert shown == planned.replace("dry run: nothing was changed", "applied")
    assert f"+++ b/{patcher.readers}\n" in shown
    assert "--- a/llava/train/train_dpo.py\n" in shown
    assert {f"+{line.decode()}" for line in patcher.ours} <= set(shown.splitlines())
    assert tpo("apply") == "already applied\n"
    status = tpo("status").splitlines()
    assert status[0].startswith(
        f"LLaVA-NeXT at {path}, commit {find_checkout(path).commit[:12]} (not tried; df179663ae8b"
    )
    assert [line.split() for line in status[1:]] == [
        ["data_processing.patch", "applied"],
        ["train_dpo.patch", "applied"],
    ]
    assert tpo("revert", "--dry-run").endswith("\ndry run: nothing was changed\n")
    assert tpo("revert").endswith("\nreverted\n")
    assert tree_hash(path) == before
    assert tpo("revert") == "nothing to revert\n"


def test_the_shown_diff_is_one_that_git_applies(
    upstream_tree, patcher, git, capsys: pytest.CaptureFixture[str]
) -> None:
    path = upstream_tree("llava_next", commit=True)
    main(["patch", "apply", "--dry-run", str(path)])
    diff = capsys.readouterr().out.rpartition("dry run")[0]
    git(path, "apply", text=diff)
    assert set(patcher.words(path).values()) == {"applied"}


def test_an_error_is_exit_status_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["patch", "apply", str(tmp_path / "nowhere")]) == 1
    assert "nowhere is not there. Expected:" in capsys.readouterr().err


@pytest.mark.parametrize("name", NAMES)
def test_the_patch_files_only_add_lines_and_say_why(name: str) -> None:
    files = sorted((patches_folder() / name).glob("*.patch"))
    assert files
    for file in files:
        header, _, body = file.read_text().partition("\n--- ")
        keys = [line.partition(": ")[0] for line in header.splitlines()]
        assert keys[:3] == ["Why", "Upstream", "Remove when"]
        assert {line[0] for line in body.splitlines()[2:]} == {"@", "+"}
        patch = patching.read_patch(file)
        if not patch.creates:
            assert {anchor for anchor, _ in patch.hunks} == {"first-import", "main-guard"}
            assert all(line.endswith(MARK) and patching.HOOK in line for line in patch.lines)
        else:
            assert patching.OURS in b"\n".join(patch.lines)
    assert [len(row["commit"]) for row in upstreams()[name]["tried"]] == [40]


def test_a_patch_that_removes_or_carries_lines_is_refused(tmp_path: Path) -> None:
    text = (patches_folder() / "longva" / "train_dpo.patch").read_text()
    for line in ("-import os", " import os"):
        (tmp_path / "x.patch").write_text(text + line + "\n")
        with pytest.raises(TPOError, match="not purely additive"):
            patching.read_patch(tmp_path / "x.patch")
