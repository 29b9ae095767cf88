"""Cells of lmms-eval's own tasks on the tiny benchmark, each in a process of its own."""

from __future__ import annotations

import json
import logging
import shutil
from collections import Counter
from dataclasses import replace

import pytest
from peft import LoraConfig, get_peft_model

from tpo_plugin.errors import EvaluationError
from tpo_plugin.evaluation.cells import Cell, hub_revision
from tpo_plugin.evaluation.data import read_benchmark
from tpo_plugin.evaluation.harness import extractor
from tpo_plugin.evaluation.results import read_task
from tpo_plugin.evaluation.run import _cells, _finished, _numbers, _say_what_is_redone, evaluate
from tpo_plugin.folders import adapter_base
from tpo_plugin.integrations.huggingface import load_model, load_processor
from tpo_plugin.options import FrameOptions
from tpo_plugin.records import read_jsonl, write_json, write_jsonl
from tpo_plugin.tiny.questions import LETTERS, with_options


@pytest.fixture(scope="module")
def settled(make_recipe, benchmark_folder, checkpoint, tmp_path_factory):
    """The recipe of the run: a checkpoint, and an adapter that names its base by a relative path, with 4 and 8 frames."""
    folder = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        shutil.copytree(checkpoint, "base")
        adapted = get_peft_model(load_model("base"), LoraConfig(r=2, target_modules=["q_proj"]))
        adapted.save_pretrained("adapter")
        load_processor("base").save_pretrained("adapter")
        assert adapter_base("adapter") == "base"
        models = {"base": str(checkpoint), "lora": "adapter"}
        output = tmp_path_factory.mktemp("evaluation")
        yield make_recipe(benchmark_folder, checkpoint, output, models=models, sweep=[4, 8], workers=2)


@pytest.fixture(scope="module")
def finished(settled):
    """The output folder of a real run."""
    return evaluate(settled)


def test_results_hold_what_changes_a_number(finished, checkpoint):
    results = json.loads((finished / "results.json").read_text())
    assert results["models"]["base"]["checkpoint"] == str(checkpoint)
    assert [(cell["model"], cell["frames"], cell["task"], cell["metric"], cell["n"]) for cell in results["cells"]] == [
        (model, frames, task, metric, count)
        for model in ("base", "lora")
        for frames in (4, 8)
        for task, metric, count in (
            ("videomme", "videomme_perception_score", 5),
            ("mlvu_dev", "mlvu_percetion_score", 3),
        )
    ]
    assert results["frames"] == {"fps": 0.5, "max": 96, "max_side": 768, "time_instruction": False}
    assert {"torch", "transformers", "lmms-eval", "tpo-plugin"} <= set(results["versions"])
    assert (results["seed"], results["sweep"], results["prompt_as"]) == (0, [4, 8], None)
    assert set(results["data_digest"]) == {"videomme", "mlvu_dev"}
    assert (finished / "recipe.yaml").is_file()
    assert not (finished / "cache").exists()


def test_each_cell_holds_what_changes_its_number(finished):
    cells = json.loads((finished / "results.json").read_text())["cells"]
    first, other = cells[0], cells[1]
    assert first["wrapper"]["max_frames_num"] == first["frames"] == 4
    assert {"mm_spatial_pool_mode", "tokens_per_frame", "dtype", "chat_template"} <= set(first["wrapper"])
    assert first["extractor"] == extractor("lmms_eval/tasks/videomme/utils.py")
    assert other["extractor"]["file"] == "lmms_eval/tasks/mlvu/utils.py"
    assert first["generation"]["max_new_tokens"] == 16
    assert first["prompts"] == cells[2]["prompts"] != other["prompts"]
    assert first["questions"] == cells[2]["questions"] != other["questions"]
    assert (first["unreadable"], first["empty_responses"]) == (0, 0)
    assert {name: found["n"] for name, found in first["categories"].items()} == {
        **{"short": 3, "long": 2, "Life Record": 5, "localized": 3, "comprehensive": 2},
        **{"Object Recognition": 2, "Counting Problem": 1, "Action Recognition": 1, "Temporal Reasoning": 1},
    }
    assert set(other["categories"]) == {"needle", "anomaly_reco", "ego", "localized", "comprehensive"}


def answers_of(output, task, frames=4, label="base"):
    return list(read_jsonl(output / label / str(frames) / task / "answers.jsonl"))


def test_every_question_has_its_answer(finished, benchmark_folder):
    answers = answers_of(finished, "videomme") + answers_of(finished, "mlvu_dev")
    truth = json.loads((benchmark_folder / "truth.json").read_text())
    assert Counter(answer["task"] for answer in answers) == {"videomme": 5, "mlvu_dev": 3}
    for task in truth:
        assert [answer["id"] for answer in answers if answer["task"] == task] == list(truth[task])
    assert {answer["duration"] for answer in answers} == {"short", "long", None}
    assert {answer["video"] for answer in answers} == {"short-000", "long-000", "mlvu-000.mp4"}
    results = json.loads((finished / "results.json").read_text())
    right = [answer["correct"] for answer in answers if answer["task"] == "videomme"]
    assert results["cells"][0]["score"] == pytest.approx(100 * sum(right) / len(right))


def test_more_frames_are_shown(finished):
    """A random model's answers depend on what it sees."""
    few, many = ([one["response"] for one in answers_of(finished, "videomme", frames)] for frames in (4, 8))
    assert few != many


def test_prompts_are_lmms_evals_own(finished, benchmark_folder):
    """The wording that the tiny model is trained on is the one that lmms-eval asks with."""
    for task, style in (("videomme", "videomme"), ("mlvu_dev", "mlvu")):
        rows = read_benchmark(benchmark_folder, task).rows
        prompts = [answer["prompt"] for answer in answers_of(finished, task)]
        for row, prompt in zip(rows, prompts):
            lines = row["question"].split("\n")
            options = row["options"] if style == "videomme" else lines[1:]
            bare = [option.lstrip("(").lstrip(LETTERS).lstrip(".) ") for option in options]
            assert prompt == with_options(lines[0], bare, style)


def test_a_finished_cell_is_not_run_again(finished, settled, caplog):
    caplog.set_level(logging.INFO)
    before = (finished / "results.json").read_bytes()
    log = (finished / "base" / "8" / "videomme" / "lmms_eval.log").stat().st_mtime_ns
    assert evaluate(settled) == finished
    assert (finished / "results.json").read_bytes() == before
    score = json.loads(before)["cells"][0]["score"]
    assert f"base, 4 frames, videomme: videomme_perception_score {score:.1f} % (5 questions)" in caplog.text
    assert evaluate(replace(settled, sweep=[8], tasks=("videomme",))) == finished
    cells = json.loads((finished / "results.json").read_text())["cells"]
    assert [(cell["model"], cell["frames"]) for cell in cells] == [("base", 8), ("lora", 8)]
    assert (finished / "base" / "8" / "videomme" / "lmms_eval.log").stat().st_mtime_ns == log
    evaluate(settled)


def test_other_code_that_reads_the_answers_is_another_cell(finished, tmp_path):
    folder = tmp_path / "cell"
    shutil.copytree(finished / "base" / "4" / "videomme", folder)
    done = json.loads((folder / "done.json").read_text())
    cell = Cell("base", 4, "videomme", done["fingerprint"], folder)
    assert cell.finished() == done["cell"]
    assert replace(cell, fingerprint="other").finished() is None
    assert _finished([cell]) == [done["cell"]]
    with pytest.raises(EvaluationError, match=r"1 cells do not count any more: .* run the same again \(base, 4 frames"):
        _finished([cell, replace(cell, fingerprint="other")])
    done["cell"]["extractor"]["digest"] = "0" * 16
    write_json(folder / "done.json", done)
    assert cell.finished() is None


def test_a_broken_video_is_an_error_not_a_score(make_recipe, benchmark_folder, checkpoint, tmp_path, caplog):
    """One cell fails, the other is kept, and its answers stay."""
    data, output = tmp_path / "data", tmp_path / "out"
    shutil.copytree(benchmark_folder, data)
    video = data / "videomme" / "data" / "long-000.mp4"
    video.write_bytes(video.read_bytes()[:4000])
    output.mkdir()
    (output / "results.json").write_text("{}")
    with pytest.raises(EvaluationError, match="1 of 2 cells failed; the others are kept") as error:
        evaluate(make_recipe(data, checkpoint, output, frames=FrameOptions(fps=0.5, max=4)))
    assert "base, 4 frames, videomme: " in str(error.value)
    assert "long-000.mp4: not a video that FFmpeg can read" in str(error.value)
    assert str(output / "base" / "4" / "videomme" / "lmms_eval.log") in str(error.value)
    assert "is run again" not in caplog.text, "the user has to mend it"
    assert not (output / "results.json").exists()
    assert not (output / "base" / "4" / "videomme" / "done.json").exists()
    assert len(answers_of(output, "mlvu_dev")) == 3


def test_videos_that_could_not_be_read_are_counted_from_the_log(finished, tmp_path):
    """Each once, however often the cell was started; the bar of the answers may stand before a line."""
    folder = tmp_path / "cell"
    shutil.copytree(finished / "base" / "4" / "videomme", folder)
    lines = [f'tpo unreadable video: {{"video": "{name}.mp4", "reason": "broken"}}' for name in "aba"]
    (folder / "lmms_eval.log").write_text("Answering:  50%|#####     | 1/2" + "\n".join(lines) + "\n")
    cell = Cell("base", 4, "videomme", "some", folder)
    cell.finish({"n": 5}, [])
    assert (cell.finished()["unreadable"], cell.finished()["wrapper"]) == (2, None)
    assert [one["video"] for one in json.loads((folder / "unreadable.json").read_text())] == ["a.mp4", "b.mp4"]


@pytest.fixture
def written(finished, tmp_path):
    """A copy of what lmms-eval wrote, to take something away from."""
    shutil.copytree(finished / "base" / "4", tmp_path / "written")
    return tmp_path / "written"


def test_a_question_without_answer_is_an_error(written):
    log = next(written.rglob("*_samples_videomme.jsonl"))
    samples = list(read_jsonl(log))
    write_jsonl(log, samples[:2] + samples[3:])
    with pytest.raises(EvaluationError, match=r"1 of 5 questions have no answer \(the first is 2\)"):
        read_task(written / "videomme", "videomme")
    write_jsonl(log, [*samples, samples[0]])
    with pytest.raises(EvaluationError, match="6 answers to 5 questions: 1 are answered more than once"):
        read_task(written / "videomme", "videomme", 5)
    with pytest.raises(EvaluationError, match="1 of 6 questions have no answer"):
        read_task(written / "videomme", "videomme", 6)
    write_jsonl(log, [{**samples[0], "filtered_resps": None}, *samples[1:]])
    with pytest.raises(EvaluationError, match="1 of 5 questions have no response"):
        read_task(written / "videomme", "videomme")


@pytest.mark.parametrize("value", [None, "", "N/A", float("nan")])
def test_an_empty_metric_is_an_error(written, value):
    file = next((written / "mlvu_dev").rglob("*_results.json"))
    results = json.loads(file.read_text())
    results["results"]["mlvu_dev"]["mlvu_percetion_score,none"] = value
    write_json(file, results)
    with pytest.raises(EvaluationError, match="metric mlvu_percetion_score is"):
        read_task(written / "mlvu_dev", "mlvu_dev")
    del results["results"]["mlvu_dev"]
    write_json(file, results)
    with pytest.raises(EvaluationError, match="no result; lmms-eval has results of no task"):
        read_task(written / "mlvu_dev", "mlvu_dev")


def test_a_wrong_folder_loses_no_result(finished, settled, tmp_path):
    kept = {name: (finished / name).read_bytes() for name in ("results.json", "recipe.yaml")}
    with pytest.raises(EvaluationError, match="no parquet file in"):
        evaluate(replace(settled, data=str(tmp_path)))
    assert {name: (finished / name).read_bytes() for name in kept} == kept


def test_what_is_evaluated_again_is_said(finished, settled, benchmark_folder, tmp_path, caplog):
    output = tmp_path / "out"
    (output / "base" / "4").mkdir(parents=True)
    shutil.copytree(finished / "base" / "4" / "mlvu_dev", output / "base" / "4" / "mlvu_dev")
    shutil.copy(finished / "results.json", output)
    numbers = {"tasks": ["mlvu_dev"], "seed": 7}
    cell = Cell("base", 4, "mlvu_dev", "other", output / "base" / "4" / "mlvu_dev")
    _say_what_is_redone(output / "results.json", [cell, replace(cell, folder=tmp_path)], numbers)
    assert "1 cells are evaluated again (such as base, 4 frames, mlvu_dev): changed are tasks, seed" in caplog.text


def test_another_commit_of_a_hub_checkpoint_is_another_model(finished, tmp_path, monkeypatch):
    kept = tmp_path / "models--some--model"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert hub_revision("some/model") is None
    for commit in ("a" * 40, "b" * 40):
        (kept / "snapshots" / commit).mkdir(parents=True)
        (kept / "snapshots" / commit / "config.json").write_text("{}")
        (kept / "refs").mkdir(exist_ok=True)
        (kept / "refs" / "main").write_text(commit)
        assert hub_revision("some/model") == commit
    folder = tmp_path / "cell"
    shutil.copytree(finished / "base" / "4" / "mlvu_dev", folder)
    cell = Cell("base", 4, "mlvu_dev", "some", folder, checkpoint="some/model")
    cell.finish({}, [])
    assert cell.finished()["revision"] == "b" * 40
    (kept / "refs" / "main").write_text("a" * 40)
    assert cell.finished() is None


def test_the_judge_is_part_of_what_it_judges(make_recipe, tmp_path, monkeypatch):
    given = make_recipe(tmp_path, "some/model", tmp_path, tasks=("tempcompass_yes_no", "mlvu_dev"))
    judges, cells = [], []
    for url in ("one", "other"):
        monkeypatch.setenv("OPENAI_API_URL", url)
        numbers = _numbers(given, {}, {})
        judges.append(numbers["judge"]["OPENAI_API_URL"])
        cells.append([cell.fingerprint for cell in _cells(given, {"base": "some/model"}, numbers)])
    assert judges == ["one", "other"]
    assert cells[0][0] != cells[1][0]
    assert cells[0][1] == cells[1][1], "mlvu_dev has no judge"


def test_a_group_is_told_to_be_written_as_its_tasks(written):
    """As lmms-eval writes a group: a result, but neither a configuration nor samples."""
    file = next((written / "mlvu_dev").rglob("*_results.json"))
    results = json.loads(file.read_text())
    results["results"]["mlvu"] = {"mlvu_percetion_score,none": 50.0, "alias": "mlvu"}
    write_json(file, {**results, "group_subtasks": {"mlvu": ["mlvu_dev", "mlvu_test"]}})
    with pytest.raises(EvaluationError, match="write its tasks into `tasks`: mlvu_dev, mlvu_test"):
        read_task(written / "mlvu_dev", "mlvu")


def test_an_adapter_whose_base_is_a_relative_path(finished):
    assert len(answers_of(finished, "mlvu_dev", label="lora")) == 3
    cells = json.loads((finished / "results.json").read_text())["cells"]
    assert {cell["wrapper"]["peft"] is None for cell in cells if cell["model"] == "lora"} == {False}
