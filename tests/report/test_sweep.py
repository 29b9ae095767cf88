"""The frame sweep: which cells, on which questions."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from tpo_plugin.evaluation.bootstrap import accuracy
from tpo_plugin.records import read_jsonl, write_json, write_jsonl
from tpo_plugin.report.answers import combine, load, load_all
from tpo_plugin.report.sweep import MOST_LINES, section, sweeps


def test_every_number_of_frames_of_every_model(swept: Path) -> None:
    found = {one.task: one for one in sweeps(combine([load("", swept)]))}
    assert set(found) == {"videomme", "mlvu_dev"}
    one = found["videomme"]
    assert list(one.scores) == ["base", "tpo"]
    assert all(list(scores) == [12, 24, 48, 96] for scores in one.scores.values())
    rows = list(read_jsonl(swept / "tpo" / "96" / "videomme" / "answers.jsonl"))
    by_hand = accuracy([row["correct"] for row in rows], [row["video"] for row in rows])
    assert one.scores["tpo"][96] == by_hand


def test_only_questions_of_every_cell_count(swept: Path, tmp_path: Path) -> None:
    shutil.copytree(swept, tmp_path / "run")
    file = tmp_path / "run" / "base" / "12" / "videomme" / "answers.jsonl"
    write_jsonl(file, list(read_jsonl(file))[10:])
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    for cell in results["cells"]:
        if (cell["model"], cell["frames"], cell["task"]) == ("base", 12, "videomme"):
            cell["n"] -= 10
    write_json(tmp_path / "run" / "results.json", results)
    models = combine([load("", tmp_path / "run")])
    found = {one.task: one for one in sweeps(models)}
    assert (found["videomme"].questions, found["videomme"].asked) == (90, 100)
    assert {score.n for scores in found["videomme"].scores.values() for score in scores.values()} == {90}
    html = section(list(found.values()), {"base": 0, "tpo": 1})
    assert "videomme: 90 of 100 questions were answered by every model with every number of frames" in html


def test_one_number_of_frames_is_no_sweep(evaluation: Path, swept: Path) -> None:
    assert sweeps(combine([load("", evaluation)])) == []
    both = sweeps(combine(load_all({"one": swept, "two": evaluation})))
    assert [list(one.scores) for one in both] == [["one: base", "one: tpo"]] * 2


def test_more_models_than_lines_stay_in_the_table(write_evaluation: Callable[..., Path], tmp_path: Path) -> None:
    chances = {f"m{at}": 0.5 for at in range(MOST_LINES + 2)}
    models = combine([load("", write_evaluation(tmp_path, chances, questions_a_task=20, sweep=(24, 48)))])
    html = section(sweeps(models), {label: at for at, label in enumerate(chances)})
    assert html.count('class="line ') == 2 * MOST_LINES
    assert html.count("<bdi>m7</bdi>") == 2
    assert "Only in the table: m6 and m7." in html
