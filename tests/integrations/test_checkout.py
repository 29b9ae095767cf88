"""Which folders are recognised as LLaVA-NeXT or LongVA, and what is said of the others."""

from __future__ import annotations

import hashlib
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tpo_plugin.errors import TPOError
from tpo_plugin.integrations.checkout import find_checkout, patches_folder, script_problem, upstreams


@pytest.mark.parametrize(("name", "root"), [("llava_next", "."), ("longva", "longva")])
def test_a_checkout_is_recognised_by_its_structure(upstream_tree, name: str, root: str) -> None:
    path = upstream_tree(name)
    found = find_checkout(path)
    assert (found.path, found.name, found.root) == (path, name, path / root)
    assert found.title == {"llava_next": "LLaVA-NeXT", "longva": "LongVA"}[name]
    assert found.package == {"llava_next": "llava", "longva": "longva"}[name]
    assert found.script == path / root / found.package / "train" / "train_dpo.py"
    assert found.commit is None


def test_longva_is_found_from_its_inner_folder(upstream_tree) -> None:
    path = upstream_tree("longva")
    assert find_checkout(path / "longva") == find_checkout(path)


def test_an_unknown_commit_is_accepted_with_a_notice(upstream_tree, git, caplog: pytest.LogCaptureFixture) -> None:
    path = upstream_tree("llava_next", commit=True)
    head = git(path, "rev-parse", "HEAD").strip()
    with caplog.at_level(logging.INFO):
        found = find_checkout(path)
    assert (found.commit, found.tried) == (head, False)
    assert f"commit {head[:12]}; tpo-plugin was tried with df179663ae8b (2026-04)" in caplog.text


def test_a_commit_tried_gives_no_notice(
    upstream_tree, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    path = upstream_tree("longva", commit=True)
    head = find_checkout(path).commit
    monkeypatch.setitem(upstreams()["longva"]["tried"][0], "commit", head)
    caplog.clear()
    with caplog.at_level(logging.INFO):
        assert find_checkout(path).tried
    assert not caplog.text


def test_without_git_the_script_tells_whether_it_was_tried(upstream_tree, monkeypatch: pytest.MonkeyPatch) -> None:
    path = upstream_tree("longva")
    script = find_checkout(path).script
    plain = script.read_bytes()
    monkeypatch.setitem(upstreams()["longva"]["tried"][0], "script", hashlib.sha256(plain).hexdigest())
    assert find_checkout(path).tried
    script.write_bytes(plain.replace(b"\n", b"\r\n"))
    assert find_checkout(path).tried
    script.write_bytes(b"x = 1  # tpo-plugin\n" + plain)
    assert find_checkout(path).tried
    script.write_bytes(b"x = 1\n" + plain)
    assert not find_checkout(path).tried


def test_a_copy_inside_another_repository_has_no_commit(upstream_tree, git) -> None:
    path = upstream_tree("llava_next")
    git(path.parent, "init", "-q")
    git(path.parent, "commit", "-q", "--allow-empty", "-m", "x")
    assert find_checkout(path).commit is None


def test_what_is_not_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TPOError, match=r"missing is not there. Expected: the root folder of LLaVA-NeXT"):
        find_checkout(tmp_path / "missing")
    with pytest.raises(TPOError, match="file is a file"):
        find_checkout(tmp_path / "file")


def test_a_folder_with_neither_package(tmp_path: Path) -> None:
    with pytest.raises(TPOError, match="none of the folders llava/, longva/longva/"):
        find_checkout(tmp_path)


def test_a_missing_file_is_named(upstream_tree) -> None:
    path = upstream_tree("longva")
    (path / "longva" / "longva" / "model" / "builder.py").unlink()
    with pytest.raises(TPOError, match=r"longva/longva has no model/builder.py"):
        find_checkout(path)


def test_the_first_llava_is_told_apart(upstream_tree) -> None:
    path = upstream_tree("llava_next")
    (path / "llava" / "train" / "train_dpo.py").unlink()
    with pytest.raises(TPOError, match=r"looks like LLaVA \(haotian-liu\)"):
        find_checkout(path)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("class DPODataCollator:", "class Collator:", "does not define DPODataCollator at its top level"),
        ("def train():", "def main():", "does not define train at its top level"),
        ("import LLaVADPOTrainer", "import Trainer", "does not import LLaVADPOTrainer"),
        ("return LLaVADPOTrainer(", "return Trainer(", r"train\(\) does not look up LLaVADPOTrainer"),
        (
            "get_model(None",
            "model.get_model(None",
            r"train\(\) does not look up get_model, so replacing it would have no",
        ),
        ("model = get_model", "get_model = sys.f; model = get_model", r"train\(\) does not look up get_model"),
        ("if __name__ ==", "if __name__ !=", "has 0 top-level"),
        ("def train():", "def train(:", "not valid Python"),
    ],
)
def test_a_script_of_another_kind_is_refused(upstream_tree, old: str, new: str, says: str) -> None:
    path = upstream_tree("llava_next")
    script = find_checkout(path).script
    text = script.read_text()
    assert script_problem(text.encode()) is None
    assert text.count(old) == 1
    script.write_text(text.replace(old, new))
    with pytest.raises(TPOError, match=f"not the DPO script that tpo-plugin knows: .*{says}"):
        find_checkout(path)
    assert find_checkout(path, strict=False).script == script


def test_the_patches_are_found_in_an_installed_package(tmp_path: Path) -> None:
    """In a wheel the folder is inside the package, beside integrations/."""
    package = tmp_path / "tpo_plugin"
    shutil.copytree(
        Path(sys.modules["tpo_plugin"].__file__ or "").parent, package, ignore=shutil.ignore_patterns("tiny")
    )
    shutil.copytree(patches_folder(), package / "patches")
    code = (
        "from tpo_plugin.integrations.checkout import patches_folder, upstreams; upstreams(); print(patches_folder())"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert run.stdout.strip() == str(package / "patches")
