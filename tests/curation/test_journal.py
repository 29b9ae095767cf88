"""The journal: what was put is found again, damage costs the damaged lines only, one run at a time."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tpo_plugin.curation.journal import Journal
from tpo_plugin.errors import TPOError


def fill(folder: Path, count: int) -> bytes:
    with Journal(folder) as journal:
        for index in range(count):
            journal.put("caption", f"u{index}", {"text": f"né\u2028日本 {index}", "left": index})
    return (folder / "journal.jsonl").read_bytes()


def units(folder: Path) -> list[tuple[str, int]]:
    lines = (folder / "journal.jsonl").read_bytes().splitlines()
    return [(entry["id"], entry["value"]["left"]) for entry in map(json.loads, lines)]


def known(folder: Path, count: int) -> list[int]:
    with Journal(folder) as journal:
        return [index for index in range(count) if journal.get("caption", f"u{index}") is not None]


def test_found_again_with_its_value(tmp_path: Path) -> None:
    fill(tmp_path, 3)
    with Journal(tmp_path) as journal:
        assert journal.get("caption", "u1") == {"text": "né\u2028日本 1", "left": 1}
        assert journal.get("query", "u1") is None
        assert journal.put("query", "u1", (1, 2)) == [1, 2], "as a later run will read it"


def test_seconds_of_all_runs(tmp_path: Path) -> None:
    for unit in ("u0", "u1"):
        with Journal(tmp_path) as journal:
            time.sleep(0.05)
            journal.put("caption", unit, 1)
            assert journal.get("caption", unit) == 1
    assert journal.seconds >= 0.1
    with Journal(tmp_path) as again:
        time.sleep(0.01)
        assert again.seconds == pytest.approx(journal.seconds), "a run that finishes nothing takes no time"


def test_torn_at_every_byte(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = fill(tmp_path, 3)
    second = whole.index(b"\n") + 1
    third = whole.index(b"\n", second) + 1
    for cut in range(second, len(whole)):
        caplog.clear()
        (tmp_path / "journal.jsonl").write_bytes(whole[:cut])
        assert known(tmp_path, 3) == [index for index, end in enumerate((second, third)) if cut >= end]
        assert ("torn line" in caplog.text) == (cut not in (second, third))
        fill_rest = [("u1", 1), ("u2", 2)] if cut < third else [("u2", 2)]
        with Journal(tmp_path) as journal:
            for unit, index in fill_rest:
                journal.put("caption", unit, {"text": f"né\u2028日本 {index}", "left": index})
        assert units(tmp_path) == [(f"u{index}", index) for index in range(3)]


@pytest.mark.parametrize(
    "damage", [b"\x00" * 20, b"{}", b"[1]", b'"x"', b'{"stage": "caption"}', b"\xff\xfe", b"{" * 50]
)
def test_damaged_line_in_the_middle(tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: bytes) -> None:
    lines = fill(tmp_path, 3).splitlines(keepends=True)
    (tmp_path / "journal.jsonl").write_bytes(lines[0] + damage + b"\n" + lines[2])
    assert known(tmp_path, 3) == [0, 2]
    assert "damaged line" in caplog.text


def test_a_value_that_never_was_finished_is_not_written(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal, pytest.raises(TypeError):
        journal.put("caption", "u0", object())
    assert (tmp_path / "journal.jsonl").read_bytes() == b""


HOLD = """
import sys, time
from pathlib import Path
from tpo_plugin.curation.journal import Journal
with Journal(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_one_run_at_a_time(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(TPOError, match="another run is writing to"):
            Journal(tmp_path).__enter__()
        process.kill()  # the lock goes with the process, however it ends
    with Journal(tmp_path) as journal:
        journal.put("caption", "u0", 1)


def test_lock_is_free_again_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Journal(tmp_path):
        raise ZeroDivisionError
    (tmp_path / "journal.jsonl").unlink()
    (tmp_path / "journal.jsonl").mkdir()
    with pytest.raises(OSError, match="directory"):
        Journal(tmp_path).__enter__()
    (tmp_path / "journal.jsonl").rmdir()
    with Journal(tmp_path):
        pass


@pytest.mark.parametrize("place", ["file/below", "/proc/tpo"])
def test_unwritable_folder(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TPOError, match=r"cannot write to the output folder .*choose another `output`"):
        Journal(tmp_path / place).__enter__()


def test_full_disk(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").symlink_to("/dev/full")
    with Journal(tmp_path) as journal:
        with pytest.raises(TPOError, match=r"No space left on device\. Free some space and run the same command again"):
            journal.put("caption", "u0", 1)
        assert journal.get("caption", "u0") is None
    (tmp_path / "journal.jsonl").unlink()
    assert known(tmp_path, 1) == []


def test_lines_are_plain_json(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in fill(tmp_path, 2).decode("ascii").split("\n")[:-1]]
    assert [(row["stage"], row["id"]) for row in rows] == [("caption", "u0"), ("caption", "u1")]
