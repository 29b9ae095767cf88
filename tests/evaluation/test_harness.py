from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-m", "tpo_plugin.evaluation.harness", "--model", "tpo_hf", "--tasks", "list"],
                         stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
sys.stdout.write(str(child.pid)); sys.stdout.flush()
time.sleep(1.5)
"""


def test_lmms_eval_ends_with_the_run_that_started_it():
    # Reading all tasks takes lmms-eval some 10 s; its parent is gone after 1.5 s.
    started = subprocess.run([sys.executable, "-c", PARENT], capture_output=True, text=True, check=True)
    child = int(started.stdout)
    time.sleep(2.5)
    assert not _running(child)


def _running(process: int) -> bool:
    status = Path(f"/proc/{process}/status")
    return status.exists() and "State:\tZ" not in status.read_text()  # dead, but not yet collected by init
