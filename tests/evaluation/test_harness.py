"""The process that forks cells."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from tpo_plugin.errors import EvaluationError
from tpo_plugin.evaluation.workers import Harness
from tpo_plugin.options import EvaluateRecipe

PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-m", "tpo_plugin.evaluation.harness", "tpo_hf", "mlvu_dev"],
                         stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
sys.stdout.write(str(child.pid)); sys.stdout.flush()
time.sleep(1.5)
"""


def test_it_ends_with_the_run_that_started_it():
    # Importing lmms-eval takes some 10 s; its parent is gone after 1.5 s.
    started = subprocess.run([sys.executable, "-c", PARENT], capture_output=True, text=True, check=True)
    child = int(started.stdout)
    time.sleep(2.5)
    assert not _running(child)


def test_it_says_which_tasks_lmms_eval_does_not_know():
    command = [sys.executable, "-m", "tpo_plugin.evaluation.harness", "tpo_hf"]
    asked = "videomme_prompt_llava_vid,no_such_task,mlvu_dev"
    done = subprocess.run([*command, asked], input="", capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"unknown": ["no_such_task"], "prompted": False}


@pytest.mark.parametrize(("name", "prompted"), [("llava_vid", True), ("lava_vid", False)])
def test_a_name_that_no_task_has_prompts_for_is_refused(name: str, prompted: bool, tmp_path: Path) -> None:
    given = EvaluateRecipe(models={"a": "a/b"}, output=str(tmp_path), tasks=("mlvu", "videomme"), prompt_as=name)
    with Harness(given, tmp_path / "log") as harness, nullcontext() if prompted else _refused(name):
        harness.check()


def _refused(name: str) -> Any:
    return pytest.raises(EvaluationError, match=f"none of the tasks has prompts for a model `prompt_as: {name}`")


BY_ITSELF = """
import os, sys
from tpo_plugin.evaluation import harness
sys.executable, sys.argv = sys.argv[1], ["harness"]
harness._cell_by_itself({}, None, os.getppid())
"""
STARTER = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[2]])
time.sleep(120)
"""


def test_a_cell_in_a_process_of_its_own_ends_with_the_harness(tmp_path: Path) -> None:
    """The harness is killed; the child that waits for that process ends both."""
    file, long = tmp_path / "process", tmp_path / "long"
    long.write_text(f"#!/bin/sh\necho $$ > {file}\nexec sleep 120\n")
    long.chmod(0o755)
    harness = subprocess.Popen([sys.executable, "-c", STARTER, BY_ITSELF, str(long)])
    while not file.is_file() or not file.read_text():
        time.sleep(0.1)
    cell = int(file.read_text())
    harness.kill()
    harness.wait()
    time.sleep(2.5)
    assert not _running(cell)


def _running(process: int) -> bool:
    status = Path(f"/proc/{process}/status")
    return status.exists() and "State:\tZ" not in status.read_text()  # dead, but not yet collected by init
