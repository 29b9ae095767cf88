"""`tpo report` as a user runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tpo_plugin.cli import main


def test_all_parts_in_one_page(
    curation: Path, trainings: dict[str, Path], evaluation: Path, swept: Path, needle: Path, tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    command = [
        sys.executable,
        "-m",
        "tpo_plugin",
        "report",
        str(page),
        "--pairs",
        str(curation),
        "--needle",
        str(needle),
    ]
    command += ["--train", *(f"{label}={path}" for label, path in trainings.items())]
    command += ["--evaluation", f"one={evaluation}", f"two={swept}"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == str(page)
    html = page.read_text(encoding="utf-8")
    # Both folders evaluate a base and a tpo, each its own; sft_self is in one of them.
    for label in ("one: base", "sft_self", "one: tpo", "two: base", "two: tpo"):
        assert f"<bdi>{label}</bdi>" in html
    assert "videomme: 100 of 200 questions are compared; " in html
    assert "By number of frames" in html
    assert "<title>base, teacher-forced</title>" in html


def test_two_folders_with_one_label(evaluation: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / evaluation.name
    assert main(["report", str(tmp_path / "x.html"), "--evaluation", str(evaluation), str(other)]) == 1
    error = capsys.readouterr().err
    assert f"{evaluation} and {other} are both called {evaluation.name!r}: write LABEL={other}" in error
