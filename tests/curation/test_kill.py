"""`tpo curate` as a user runs it: killed anywhere and started again, on full disks, twice at once, with a secret key."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from tpo_plugin.cli import main

KEY = "sk-very-secret-0123456789"


def start(recipe: Path, *overrides: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tpo_plugin.cli", "curate", str(recipe), *overrides],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
        # A background shell starts its children deaf to SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def here(recipe: Path) -> int:
    """The same command in this process, where it starts sooner; its exit status."""
    return main(["curate", str(recipe)])


@pytest.fixture
def recipe(tmp_path: Path, tiny_videos: Path, faults, yaml_recipe: Callable[[Path, Path, str], str]) -> Path:
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml_recipe(tmp_path / "out", tiny_videos, faults.base_url))
    return file


def slowly(handler: BaseHTTPRequestHandler, number: int) -> bool:
    """Leaves a killer the time to aim."""
    time.sleep(0.02)
    return False


def lines(journal: Path) -> int:
    return journal.read_bytes().count(b"\n") if journal.is_file() else 0


def descendants(process: int) -> list[int]:
    children = [int(name) for name in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    return children + [other for child in children for other in descendants(child)]


def test_killed_again_and_again(
    faults,
    recipe: Path,
    tmp_path: Path,
    undisturbed: Path,
    same_data,
    finished,
    caplog: pytest.LogCaptureFixture,
) -> None:
    output, journal = tmp_path / "out", tmp_path / "out" / "journal.jsonl"
    faults.fault = slowly
    workers: list[int] = []
    for stop in (1, 8, 16):
        run = start(recipe)
        while lines(journal) < stop:
            assert run.poll() is None, run.communicate()
            time.sleep(0.005)
        workers += descendants(run.pid)
        os.kill(run.pid, signal.SIGKILL)
        run.communicate()
        assert not (output / "dataset.json").exists()
    with journal.open("ab") as torn:
        torn.write(b'{"stage": "respond", "id": "0123')
    done = lines(journal)
    assert here(recipe) == 0
    assert "ends in a torn line" in caplog.text
    same_data(output, undisturbed)
    assert sum(finished(output).values()) == 3 * 6
    assert done >= 16
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < deadline, "decoder processes outlive a killed run"
        time.sleep(0.05)


def test_interrupted_by_the_keyboard(faults, recipe: Path, tmp_path: Path, undisturbed: Path, same_data) -> None:
    faults.fault = slowly
    run = start(recipe)
    while lines(tmp_path / "out" / "journal.jsonl") < 5:
        assert run.poll() is None, run.communicate()
        time.sleep(0.005)
    run.send_signal(signal.SIGINT)
    _, errors = run.communicate(timeout=30)
    assert run.returncode == 130
    assert errors.endswith("tpo: stopped; the same command continues\n")
    assert "Traceback" not in errors
    assert "never retrieved" not in errors
    assert here(recipe) == 0
    same_data(tmp_path / "out", undisturbed)


def test_two_runs_on_one_output(
    faults, recipe: Path, tmp_path: Path, undisturbed: Path, same_data, capsys: pytest.CaptureFixture[str]
) -> None:
    faults.fault = slowly
    first = start(recipe)
    while lines(tmp_path / "out" / "journal.jsonl") < 2:
        assert first.poll() is None, first.communicate()
        time.sleep(0.005)
    assert here(recipe) == 1
    assert (
        capsys.readouterr().err
        == f"tpo: another run is writing to {tmp_path / 'out'}; wait for it or choose another `output`\n"
    )
    assert first.wait(60) == 0, first.communicate()
    same_data(tmp_path / "out", undisturbed)


def test_disk_that_fills(
    recipe: Path, tmp_path: Path, undisturbed: Path, same_data, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (output / "journal.jsonl").symlink_to("/dev/full")
    assert here(recipe) == 1
    errors = capsys.readouterr().err
    assert errors.splitlines()[-1] == (
        f"tpo: cannot write {output}/journal.jsonl: No space left on device. "
        "Free some space and run the same command again to continue."
    )
    assert "Traceback" not in errors
    assert not (output / "dataset.json").exists()
    (output / "journal.jsonl").unlink()
    assert here(recipe) == 0
    same_data(output, undisturbed)


def test_key_is_nowhere(
    faults,
    recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The server wants the key, and in the middle of the run it quotes it in an error, as some servers do."""

    def demand(handler: BaseHTTPRequestHandler, number: int) -> bool:
        assert handler.headers["Authorization"] == f"Bearer {KEY}"
        if number <= 20 or number > 40:
            return False
        faults.send(handler, 400 if number < 23 else 401, json.dumps({"error": {"message": f"{'no ' * 95}{KEY}"}}))
        return True

    faults.fault = demand
    run = start(recipe, OPENAI_API_KEY=KEY, OPENAI_LOG="debug")
    said = "".join(run.communicate(timeout=60))
    assert run.returncode == 1
    faults.requests += [b""] * 20
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert here(recipe) == 0
    said += "".join(capsys.readouterr()) + caplog.text
    assert "refuses the key in OPENAI_API_KEY" in said
    assert "rejects a request" in said
    written = b"".join(path.read_bytes() for path in (tmp_path / "out").iterdir())
    assert len(written) > 10_000
    for part in (KEY, KEY[:14]):
        assert part not in said
        assert part.encode() not in written
