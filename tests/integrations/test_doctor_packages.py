"""The doctor's rows about packages: versions, imports that break or crash in the child process."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from tpo_plugin.integrations.doctor import machine, packages, probe
from tpo_plugin.integrations.doctor.probe import Answer, ask
from tpo_plugin.integrations.doctor.report import Row
from tpo_plugin.integrations.llava_family.repairs import NEWEST, OLDEST


def test_the_extra_asks_for_what_is_supported() -> None:
    asked = packages.requirements("llava")["transformers"].specifier
    assert all(asked.contains(f"{major}.{minor}.0") for major, minor in (OLDEST, NEWEST))
    assert not asked.contains(f"{OLDEST[0]}.{OLDEST[1] - 1}.9")
    assert not asked.contains(f"{NEWEST[0]}.{NEWEST[1] + 1}.0")


def test_requirements_of_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = packages.requirements("hf")
    monkeypatch.setattr(packages, "__file__", str(tmp_path / "a" / "b" / "c" / "packages.py"))
    installed = packages.requirements("hf")
    assert {"av", "torch", "transformers", "trl"} <= installed.keys() & here.keys()
    assert "lmms-eval" not in installed.keys() | here.keys()


@pytest.mark.parametrize(
    ("number", "verdict"), [("0.3.0", "too old"), ("99.0", "ok"), ("0.4.0", "ok"), (None, "missing")]
)
def test_a_version_is_judged_by_what_setup_cfg_asks(
    number: str | None, verdict: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, distribution: Any
) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    if number:
        distribution(tmp_path, "peft", number)
    (row,) = [row for row in packages.rows(packages.requirements("llava"), True, {}) if row.name == "peft"]
    assert (row.verdict or row.level) == verdict
    assert row.level == ("ok" if verdict == "ok" else "error")
    assert row.cure == ("" if verdict == "ok" else "pip install 'peft>=0.4'")


def test_a_package_that_is_too_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, distribution: Any, cells: Any
) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    distribution(tmp_path, "transformers", "5.0.0")
    needed = packages.requirements("llava")
    row = cells(packages.rows(needed, True, {}))["transformers"]
    assert row[1].startswith("transformers 5.0.0: supported are 4.40 - 4.57 -> pip install 'transformers<4.58,>=4.40'")
    old = tmp_path / "old"
    monkeypatch.setattr(sys, "path", [str(old)])
    distribution(old, "transformers", "4.45.2")
    assert cells(packages.rows(packages.requirements("hf"), False, {}))["transformers"][1].endswith(
        "in an environment of its own; or name the checkout to train with: tpo doctor PATH"
    )
    assert "import peft" not in packages.items(needed, True), "its errors would only follow from transformers'"


def test_packages_that_break_or_crash_are_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: Any) -> None:
    root = tmp_path / "root"
    package(root, "raises", "raise RuntimeError('no such symbol\\nsecond line')")
    package(root, "crashes", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    package(root, "leaves", "import sys; sys.exit(3)")
    package(root, "silent", "raise KeyError")
    package(root, "hangs", "import time; time.sleep(60)")
    package(root, "works", "print('chatter')")
    monkeypatch.setattr(probe, "SECONDS", 5)
    names = ("raises", "crashes", "leaves", "silent", "hangs", "works", "missing_one")
    found = ask(["find works", *(f"import {name}" for name in names)], root, tmp_path)
    assert {name: found[f"import {name}"].error for name in names} == {
        "raises": "RuntimeError: no such symbol",
        "crashes": f"crashed (signal {int(signal.SIGSEGV)})",
        "leaves": "ended Python (exit status 3)",
        "silent": "KeyError",
        "hangs": "did not end within 5 s",
        "works": None,
        "missing_one": "ModuleNotFoundError: No module named 'missing_one'",
    }
    assert found["find works"].value is None, "found only where `root` is on the path"


def test_a_broken_package_is_an_error_with_its_first_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, distribution: Any, cells: Any
) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    for name in ("peft", "torchvision", "accelerate"):
        distribution(tmp_path, name, "1.0")
    broken = Answer(error="RuntimeError: operator torchvision::nms does not exist")
    found = {"torchvision": broken, "import accelerate": broken, "import peft": Answer(error="OSError: x.so")}
    rows = cells(packages.rows(packages.requirements("llava"), True, found))
    assert rows["peft"] == (
        "error",
        "peft 1.0 does not import: OSError: x.so -> pip install --force-reinstall --no-deps 'peft>=0.4'",
    )
    assert rows["accelerate"][1].endswith("-> mend torchvision first")
    assert "install the torchvision that belongs to torch" in rows["torchvision"][1]


def test_flash_attention_that_does_not_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, distribution: Any
) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    distribution(tmp_path, "flash_attn", "2.7.0")
    broken = {"gpu": Answer([]), "import flash_attn": Answer(error="ImportError: undefined symbol")}
    row = machine.device_rows(broken, llava=True)[-1]
    assert "flash-attn 2.7.0 does not import: ImportError: undefined symbol" in row.problem
    assert machine.device_rows(broken | {"import flash_attn": Answer(True)}, llava=True)[-1] == Row(
        "flash-attn", "2.7.0"
    )
    assert "import flash_attn" in packages.items(packages.requirements("llava"), llava=True)
