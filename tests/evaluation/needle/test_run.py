"""`tpo needle` from the command line to its files: complete, resumable, and nothing asked twice."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tpo_plugin.cli import main
from tpo_plugin.errors import TPOError
from tpo_plugin.evaluation.needle.asker import settings
from tpo_plugin.evaluation.needle.run import needle
from tpo_plugin.options import NeedleRecipe
from tpo_plugin.recipe import to_plain
from tpo_plugin.records import read_jsonl, write_json

Make = Callable[..., NeedleRecipe]


def results(output: Path) -> dict[str, Any]:
    return json.loads((output / "results.json").read_text())


def answers(output: Path, label: str = "base") -> list[dict[str, Any]]:
    return list(read_jsonl(output / label / "answers.jsonl"))


def lines(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.is_file() else 0


def journal(output: Path) -> list[str]:
    return [entry["id"] for entry in read_jsonl(output / "journal.jsonl") if entry["stage"] == "answer"]


@pytest.fixture(scope="module")
def done(make_needle_recipe: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the shipped model: 8 and 12 frames, three depths, twelve needles."""
    return needle(make_needle_recipe(tmp_path_factory.mktemp("done")))


def test_the_shipped_model_finds_every_needle_in_a_short_haystack(done: Path, needle_folder: Path) -> None:
    found = results(done)
    model = found["models"]["base"]
    assert [(cell["frames"], cell["depth"], cell["n"]) for cell in model["cells"]] == [
        (frames, depth, 12) for frames in (8, 12) for depth in (0.0, 0.5, 1.0)
    ]
    assert model["mean_teacher_forced"] == pytest.approx(
        sum(cell["teacher_forced"] for cell in model["cells"]) / 6, abs=1e-5
    )
    assert model["cells"][0]["teacher_forced"] == model["cells"][0]["generated"] == 1.0
    assert model["mean_generated"] > 0.95
    assert model["needle_frames"] == 1
    assert model["wrapper"]["tokens_per_frame"] == 4
    assert len(found["needles"]) == 12
    assert found["haystack"]["videos"] == [{"name": "haystack.mp4", "frames": 12}]
    assert found["versions"]["transformers"]
    first = answers(done)[0]
    assert first["position"] == 0
    assert first["prompt_tokens"] == answers(done)[12]["prompt_tokens"], "9 frames at any depth"
    assert len({(one["frames"], one["depth"], one["needle"]) for one in answers(done)}) == len(answers(done)) == 72


def test_the_files_are_v_niahs_and_pictures(done: Path) -> None:
    from xml.etree import ElementTree

    cells = results(done)["models"]["base"]["cells"]
    assert json.loads((done / "base" / "all_accuracies.json").read_text()) == [
        {"Num. Frame": cell["frames"], "Frame Depth": 100 * cell["depth"], "Score": cell["teacher_forced"]}
        for cell in cells
    ]
    for name in ("heatmap.svg", "heatmap_generated.svg"):
        assert ElementTree.parse(done / "base" / name).getroot().tag.endswith("svg")


def test_a_question_without_an_answer_in_the_picture_scores_nothing(
    make_needle_recipe: Make, needle_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(needle_folder / "needles", tmp_path / "needles")
    entries = json.loads((tmp_path / "needles" / "needles.json").read_text())
    wrong = {"circle": "square", "square": "triangle", "triangle": "cross", "cross": "circle"}
    write_json(tmp_path / "needles" / "needles.json", [{**one, "answer": wrong[one["answer"]]} for one in entries])
    output = needle(make_needle_recipe(tmp_path / "out", needles=str(tmp_path / "needles"), frames=[8]))
    model = results(output)["models"]["base"]
    assert (model["mean_teacher_forced"], model["mean_generated"]) == (0.0, 0.0)


def test_a_killed_run_goes_on_where_it_was(make_needle_recipe: Make, tmp_path: Path) -> None:
    recipe = make_needle_recipe(tmp_path / "out", frames=[16, 64, 96])
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(to_plain(recipe)))
    command = [sys.executable, "-m", "tpo_plugin", "needle", str(tmp_path / "recipe.yaml")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as running:
        while running.poll() is None and lines(tmp_path / "out" / "journal.jsonl") < 20:
            time.sleep(0.01)
        running.send_signal(signal.SIGKILL)
    before = journal(tmp_path / "out")
    assert 15 < len(before) < 100
    assert not (tmp_path / "out" / "results.json").exists()
    with (tmp_path / "out" / "journal.jsonl").open("a") as file:
        file.write('{"stage": "answer", "id"')
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == str(tmp_path / "out")
    after = journal(tmp_path / "out")
    assert after[: len(before)] == before
    assert len(after) == len(set(after)) == 3 * 3 * 12
    again = make_needle_recipe(tmp_path / "whole", frames=[16, 64, 96])
    assert answers(needle(again)) == answers(tmp_path / "out")
    assert results(tmp_path / "whole")["models"] == results(tmp_path / "out")["models"]


def test_only_what_is_new_is_asked(
    done: Path, make_needle_recipe: Make, needle_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output = tmp_path / "out"
    shutil.copytree(done, output)
    caplog.set_level(logging.INFO)
    needle(make_needle_recipe(output))
    assert "base has been asked already" in caplog.text
    means = (100 * results(done)["models"]["base"][f"mean_{score}"] for score in ("teacher_forced", "generated"))
    said = "base: teacher-forced {:.1f} %, generated {:.1f} % of the needles found"
    assert said.format(*means) in caplog.text
    before = journal(output)
    needle(make_needle_recipe(output, frames=[8, 12, 16], depths=[0, 1]))
    assert len(journal(output)) == len(before) + 2 * 12, (
        "the new length alone; its longer haystack changes no other cell"
    )
    assert "the vision tower processed 28 frames" in caplog.text, "16 of the haystack and 12 needles"
    assert [cell["depth"] for cell in results(output)["models"]["base"]["cells"]] == [0.0, 1.0] * 3
    needle(make_needle_recipe(output, frames=[8], depths=[0], max_new_tokens=5))
    assert len(journal(output)) == len(before) + 3 * 12
    needle(make_needle_recipe(output, frames=[8], depths=[0], bars=[9, 9, 9]))
    assert len(journal(output)) == len(before) + 3 * 12, "no bar is shown: nothing that was seen has changed"
    needle(make_needle_recipe(output, frames=[8], depths=[0], max_side=48))
    assert len(journal(output)) == len(before) + 4 * 12


def test_two_runs_at_once(make_needle_recipe: Make, tmp_path: Path) -> None:
    from tpo_plugin.folders import locked

    with locked(tmp_path), pytest.raises(TPOError, match="another run is writing"):
        needle(make_needle_recipe(tmp_path))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"models": {}}, "at least one entry in `models`"),
        ({"models": {"a/b": "x"}}, "becomes a folder"),
        ({"models": {"base": " "}}, r"`models\.base` is empty"),
        ({"wrapper": "llava_vid"}, "llava_vid takes videos by their path and samples them.* tpo_hf, llava_video_tpo"),
        ({"upstream": "LongVA"}, "`upstream` has no effect"),
        ({"wrapper_args": {"max_frames_num": 8}}, r"`wrapper_args\.max_frames_num` has no effect"),
        ({"wrapper_args": {"pretrained": "x"}}, "the recipe has its own `models`"),
        ({"wrapper_args": {"peft": "x"}}, r"`wrapper_args\.peft`: the recipe has its own `models`"),
        ({"wrapper_args": {"base": "x"}}, r"`wrapper_args\.base`: the recipe has its own `models`"),
        ({"wrapper_args": {"conv": "x"}}, r"`wrapper_args\.conv`: tpo_hf knows pretrained, peft"),
        ({"frames": [200]}, "the haystack has 96 frames at 1 a second, 200 are wanted"),
        ({"models": {"base": "./nowhere/at/all"}}, "no checkpoint folder"),
        ({"tower_batch": 0}, "`tower_batch` must be 1 or more"),
    ],
)
def test_what_cannot_run_is_said(
    make_needle_recipe: Make, tmp_path: Path, change: dict[str, Any], problem: str
) -> None:
    with pytest.raises(TPOError, match=problem):
        needle(make_needle_recipe(tmp_path / "out", **change))
    assert not (tmp_path / "out" / "results.json").exists()


@pytest.mark.parametrize("change", [{"needles": "nowhere"}, {"haystack": "nowhere.mp4"}, {"frames": [200]}])
def test_a_typo_takes_no_finished_result_away(
    done: Path, make_needle_recipe: Make, tmp_path: Path, change: dict[str, Any]
) -> None:
    shutil.copytree(done, tmp_path / "out")
    with pytest.raises(TPOError):
        needle(make_needle_recipe(tmp_path / "out", **change))
    assert results(tmp_path / "out") == results(done)
    assert (tmp_path / "out" / "recipe.yaml").read_text() == (done / "recipe.yaml").read_text()


def test_the_checkout_is_where_the_wrapper_looks(
    make_needle_recipe: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without `upstream` in the recipe: in the environment, then among the installed packages."""
    recipe = make_needle_recipe(tmp_path, wrapper="longva_tpo")
    monkeypatch.setenv("TPO_LONGVA", str(tmp_path / "nowhere"))
    with pytest.raises(TPOError, match="nowhere is not there"):
        needle(recipe)
    monkeypatch.delenv("TPO_LONGVA")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        TPOError, match=r"no LongVA here: give the path of its checkout as `upstream` or in .* TPO_LONGVA"
    ):
        needle(recipe)


def test_the_checkout_and_edits_of_it_are_recorded(
    make_needle_recipe: Make, beside_longva: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = str(beside_longva.parents[3])
    recipe = make_needle_recipe(Path("out"), wrapper="longva_tpo")
    monkeypatch.setenv("TPO_LONGVA", checkout)
    found = settings(recipe)["upstream"]
    assert found["name"] == "LongVA"
    assert found == settings(replace(recipe, upstream=checkout))["upstream"]
    (beside_longva.parents[1] / "model" / "builder.py").write_text("# edited")
    assert found != settings(recipe)["upstream"]


def test_an_unknown_key_names_the_known_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["needle", "tiny/needle", f"output={tmp_path}", "depth=[0]"]) == 1
    assert "unknown key `depth`; did you mean `depths`?" in capsys.readouterr().err
    assert main(["needle"]) == 1
    assert "takes a recipe, or --compare A B" in capsys.readouterr().err
    assert main(["needle", "tiny/needle", "--output", "x.svg"]) == 1
    assert "--output belongs to --compare" in capsys.readouterr().err


def test_the_time_instruction_is_asked_with(make_needle_recipe: Make, done: Path, tmp_path: Path) -> None:
    output = needle(make_needle_recipe(tmp_path, frames=[8], depths=[0], wrapper_args={"time_instruction": True}))
    assert answers(output)[0]["prompt_tokens"] > answers(done)[0]["prompt_tokens"] + 50
    assert results(output)["models"]["base"]["wrapper"]["time_instruction"] is True


@pytest.mark.skipif(not os.environ.get("TPO_NEEDLES"), reason="set TPO_NEEDLES to a folder of V-NIAH's needles")
def test_real_pictures_in_a_real_video(make_needle_recipe: Make, tmp_path: Path) -> None:
    """TPO_NEEDLES: needles; TPO_HAYSTACK: a video of 16 s or more."""
    changes = {"needles": os.environ["TPO_NEEDLES"], "haystack": os.environ["TPO_HAYSTACK"], "max_side": 384}
    output = needle(make_needle_recipe(tmp_path, frames=[16], fit="square", **changes))
    assert len(answers(output)) == 3 * len(results(output)["needles"])
