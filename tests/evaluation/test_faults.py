"""Killed processes, missing and half-extracted data, two evaluations at once: a clear message, nothing lost, the rerun continues."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml

from tpo_plugin import recipe as recipes
from tpo_plugin.errors import EvaluationError, TPOError
from tpo_plugin.evaluation.data import read_benchmark
from tpo_plugin.evaluation.run import evaluate
from tpo_plugin.evaluation.scoring import check_judged
from tpo_plugin.options import EvaluateRecipe
from tpo_plugin.records import read_jsonl


def _process_of(file: Path, seconds: float = 60) -> int:
    """The process id in a file that is still to be written."""
    end = time.monotonic() + seconds
    while not file.is_file() or not file.read_text():
        assert time.monotonic() < end, f"no {file.name}"
        time.sleep(0.05)
    return int(file.read_text())


def _parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def _is_gone(process: int, seconds: float = 5) -> bool:
    """Dead, though perhaps not yet collected by init."""
    end = time.monotonic() + seconds
    status = Path(f"/proc/{process}/status")
    while status.exists() and "State:\tZ" not in status.read_text():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def test_killed_in_three_ways(papers_folder, tmp_path, with_knowing):
    """`tpo evaluate` itself at question 64, then the cell's process at 128, then the one that forks cells at 192: no answer is asked for twice."""
    stops, asked = tmp_path / "stops", tmp_path / "asked"
    stops.mkdir()
    given = EvaluateRecipe(
        models={"right": "right/model"},
        output=str(tmp_path / "out"),
        tasks=("vinoground",),
        data=str(papers_folder),
        retries=2,
        **with_knowing(log=str(asked), stops=str(stops)),
    )
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipes.to_plain(given)))
    command = [sys.executable, "-m", "tpo_plugin", "evaluate", str(file)]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    cell = _process_of(stops / "64")
    harness = _parent(cell)
    assert _parent(harness) == run.pid
    with pytest.raises(TPOError, match="another run is writing"):
        evaluate(given)
    run.kill()
    run.wait()
    assert _is_gone(harness)
    assert _is_gone(cell)

    def kill() -> None:
        os.kill(_process_of(stops / "128"), signal.SIGKILL)
        os.kill(_parent(_process_of(stops / "192")), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    output = evaluate(given)
    killer.join()
    (found,) = json.loads((output / "results.json").read_text())["cells"]
    assert (found["score"], found["n"]) == (100, 2000)
    assert sum(map(int, asked.read_text().split())) == 2000
    answers = list(read_jsonl(output / "right" / "default" / "vinoground" / "answers.jsonl"))
    assert len({answer["id"] for answer in answers}) == 2000
    assert not list(output.rglob("*.part"))


def test_half_extracted_data(papers):
    videos = papers / "videomme" / "data"
    (videos / "long-000.mp4").rename(videos / "long-000.mp4.part")
    (papers / "videomme" / "videos_chunked_01.zip").write_bytes(b"PK")
    (videos / "short-000.mp4").write_bytes(b"")
    with pytest.raises(EvaluationError) as error:
        read_benchmark(papers, "videomme")
    assert str(error.value) == (
        f"videomme: no video long-000 in {videos} (1 of 2 videos are missing, 1 are empty); long-000.mp4.part, "
        "videos_chunked_01.zip beside them: finish the download and extract the archives again"
    )


@pytest.mark.parametrize(
    ("task", "file", "text"),
    [
        ("videomme_w_subtitle", "videomme/subtitle/long-000.srt", r"no subtitles long-000.srt .*\(1 of 2 videos"),
        (
            "vinoground",
            "vinoground/vinoground_videos/vinoground_textscore.json",
            "no vinoground_videos/vinoground_text",
        ),
        ("vinoground", "vinoground/vinoground_videos/1.mp4", "no video vinoground_videos/1.mp4"),
        ("tempcompass_yes_no", "lmms-eval/TempCompass/README.md", "`datasets` does not read .*README.md"),
        ("longvideobench_val_v", "datasets/longvideobench/videos/a.mp4", "no video a.mp4"),
        ("egoschema_subset", "egoschema/videos/x.mp4", "no video x in"),
        ("perceptiontest_val_mc", "perceptiontest_val/videos/v.mp4", "no video v in"),
        ("mlvu_dev", "sy1998/MLVU_dev/test.parquet", "no parquet file in"),
    ],
)
def test_missing_files_are_named(papers, task, file, text):
    read_benchmark(papers, task)
    (papers / file).unlink()
    with pytest.raises(EvaluationError, match=f"^{task.partition('_yes')[0]}.*{text}"):
        read_benchmark(papers, task)


def test_vinoground_needs_all_its_pairs(papers):
    import pyarrow.parquet

    (file,) = (papers / "HanSolo9682" / "Vinoground").rglob("*.parquet")
    pyarrow.parquet.write_table(pyarrow.parquet.read_table(file).slice(4), file)
    with pytest.raises(EvaluationError, match="has 499 pairs; lmms-eval scores all 500 or none"):
        read_benchmark(papers, "vinoground")


@pytest.mark.parametrize(
    "value", [{"rating": 0, "match_success": False}, {"rating": -1}, {"match_success": False, "chatgpt_response": None}]
)
def test_answers_that_no_judge_has_seen_are_no_zeros(value):
    judged = {"rating": 0, "match_success": False, "chatgpt_response": "Incorrect"}
    by_rule = {"rating": 0, "match_success": True}
    check_judged("avg_accuracy", [{"avg_accuracy": judged}, {"avg_accuracy": by_rule}])
    with pytest.raises(EvaluationError, match=r"1 of 3 answers need an LLM .* set OPENAI_API_KEY"):
        check_judged("avg_accuracy", [{"avg_accuracy": one} for one in (judged, by_rule, value)])
