"""The whole loop with the shipped weights on a world small enough for a test."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tpo_plugin.errors import TPOError
from tpo_plugin.tiny.benchmarks import BenchmarkSizes
from tpo_plugin.tiny.demo import WorldSizes, write_world

SIZES = WorldSizes(videos=6, benchmarks=BenchmarkSizes(short=6, medium=2, long=4, mlvu=4, per_video=2))
RUN = """
import sys
from pathlib import Path
from tpo_plugin.integrations.torchvision import repair
repair()
from tpo_plugin.tiny.benchmarks import BenchmarkSizes
from tpo_plugin.tiny.demo import WorldSizes, run
if __name__ == "__main__":
    run(Path(sys.argv[1]), 0, {sizes!r})
"""


def run_demo(output: Path) -> dict:
    """One seed's loop in a process of its own, as a user starts it; its summary."""
    script = output.parent / "small_demo.py"
    script.write_text(RUN.format(sizes=SIZES))
    subprocess.run([sys.executable, script, output], check=True, timeout=280)
    summary: dict = json.loads((output / "summary.json").read_text())
    return summary


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    output = tmp_path_factory.mktemp("demo") / "out"
    return output, run_demo(output)


def test_summary_has_the_promised_form(done: tuple[Path, dict]) -> None:
    _, summary = done
    assert set(summary["models"]) == {"base", "sft_self", "tpo"}
    for numbers in summary["models"].values():
        assert {"short", "long", "localized", "comprehensive", "n"} <= numbers.keys()
        assert numbers["n"] == 16
        assert all(0 <= numbers[name] <= 100 for name in ("short", "long", "localized", "comprehensive"))
    assert summary["pairs"]["kept"] > 0
    assert set(summary["seconds"]) == {"world", "curate", "train_sft_self", "train_tpo", "evaluate", "report"}


def test_judge_makes_the_pairs_truer(done: tuple[Path, dict]) -> None:
    pairs = done[1]["pairs"]
    assert pairs["chosen_right"] >= pairs["before_filters"]["chosen_right"]
    assert pairs["rejected_wrong"] >= pairs["before_filters"]["rejected_wrong"]
    assert pairs["chosen_right"] > 0.9
    assert pairs["rejected_wrong"] > 0.9


def test_report_shows_every_part(done: tuple[Path, dict]) -> None:
    page = (done[0] / "report.html").read_text(encoding="utf-8")
    assert "sft_self" in page
    assert "data:image" in page
    missing = re.findall(r"<strong>No ([^<]+) given", page)
    assert missing == ["needle results"], "which the demo does not look for"


def test_second_run_reuses_everything(done: tuple[Path, dict]) -> None:
    output, summary = done
    journal = (output / "pairs" / "journal.jsonl").read_bytes()
    weights = {name: (output / name / "model" / "model.safetensors").stat().st_mtime_ns for name in ("sft_self", "tpo")}
    answers = {path: path.stat().st_mtime_ns for path in output.glob("evaluation/*/*/*/answers.jsonl")}
    assert len(answers) == 3 * 2, "three models on two benchmarks"
    again = run_demo(output)
    assert {key: again[key] for key in ("models", "pairs")} == {key: summary[key] for key in ("models", "pairs")}
    assert (output / "pairs" / "journal.jsonl").read_bytes() == journal
    for name, changed in weights.items():
        assert (output / name / "model" / "model.safetensors").stat().st_mtime_ns == changed
    assert {path: path.stat().st_mtime_ns for path in answers} == answers


def test_another_world_in_the_same_folder_is_refused(done: tuple[Path, dict]) -> None:
    with pytest.raises(TPOError, match="another seed or size"):
        write_world(done[0] / "world", 1, SIZES)
