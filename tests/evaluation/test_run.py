"""lmms-eval's own process with its own tasks, on the tiny benchmark."""

from __future__ import annotations

import json
import shutil
from collections import Counter

import pytest
from peft import LoraConfig, get_peft_model

from tpo_plugin.errors import EvaluationError, RecipeError, TPOError
from tpo_plugin.evaluation.data import read_benchmark
from tpo_plugin.evaluation.results import read_task
from tpo_plugin.evaluation.run import evaluate
from tpo_plugin.folders import adapter_base
from tpo_plugin.integrations.huggingface import load_model, load_processor
from tpo_plugin.options import EvaluateRecipe, FrameOptions
from tpo_plugin.records import read_jsonl, write_json, write_jsonl
from tpo_plugin.tiny.questions import LETTERS, with_options


def recipe(benchmark_folder, checkpoint, output, **changes) -> EvaluateRecipe:
    values = {
        "models": {"base": str(checkpoint)},
        "output": str(output),
        "data": str(benchmark_folder),
        "frames": FrameOptions(fps=0.5, max=96),
        "batch_size": 4,
    }
    return EvaluateRecipe(**{**values, **changes})


@pytest.fixture(scope="module")
def finished(benchmark_folder, checkpoint, tmp_path_factory):
    """The output folder of a real run."""
    return evaluate(recipe(benchmark_folder, checkpoint, tmp_path_factory.mktemp("evaluation")))


def test_results_hold_what_changes_a_number(finished, checkpoint):
    results = json.loads((finished / "results.json").read_text())
    model = results["models"]["base"]
    assert model["checkpoint"] == str(checkpoint)
    assert {task: (of["metric"], of["n"]) for task, of in model["tasks"].items()} == {
        "videomme": ("videomme_perception_score", 5),
        "mlvu_dev": ("mlvu_percetion_score", 3),
    }
    assert results["frames"] == {"fps": 0.5, "max": 96, "max_side": 768, "time_instruction": False}
    assert {"torch", "transformers", "lmms-eval", "tpo-plugin"} <= set(results["versions"])
    assert results["seed"] == 0
    assert set(results["data_digest"]) == {"videomme", "mlvu_dev"}
    assert (finished / "recipe.yaml").is_file()
    assert not (finished / "base" / "cache").exists()


def test_every_question_has_its_answer(finished, benchmark_folder):
    answers = list(read_jsonl(finished / "base" / "answers.jsonl"))
    truth = json.loads((benchmark_folder / "truth.json").read_text())
    assert Counter(answer["task"] for answer in answers) == {"videomme": 5, "mlvu_dev": 3}
    for task in truth:
        assert [answer["id"] for answer in answers if answer["task"] == task] == list(truth[task])
    assert {answer["duration"] for answer in answers} == {"short", "long", None}
    assert {answer["video"] for answer in answers} == {"short-000", "long-000", "mlvu-000.mp4"}
    results = json.loads((finished / "results.json").read_text())
    right = [answer["correct"] for answer in answers if answer["task"] == "videomme"]
    score = results["models"]["base"]["tasks"]["videomme"]["score"]
    assert score == pytest.approx(100 * sum(right) / len(right))


def test_prompts_are_lmms_evals_own(finished, benchmark_folder):
    """The wording that the tiny model is trained on is the one that lmms-eval asks with."""
    answers = list(read_jsonl(finished / "base" / "answers.jsonl"))
    for task, style in (("videomme", "videomme"), ("mlvu_dev", "mlvu")):
        rows = read_benchmark(benchmark_folder, task).rows
        prompts = [answer["prompt"] for answer in answers if answer["task"] == task]
        for row, prompt in zip(rows, prompts):
            lines = row["question"].split("\n")
            options = row["options"] if style == "videomme" else lines[1:]
            bare = [option.lstrip("(").lstrip(LETTERS).lstrip(".) ") for option in options]
            assert prompt == with_options(lines[0], bare, style)


def test_a_finished_model_is_not_run_again(finished, benchmark_folder, checkpoint):
    before = (finished / "results.json").read_bytes()
    log = (finished / "base" / "lmms_eval.log").stat().st_mtime_ns
    assert evaluate(recipe(benchmark_folder, checkpoint, finished)) == finished
    assert (finished / "results.json").read_bytes() == before
    assert (finished / "base" / "lmms_eval.log").stat().st_mtime_ns == log


def test_a_broken_video_is_an_error_not_a_score(benchmark_folder, checkpoint, tmp_path):
    data, output = tmp_path / "data", tmp_path / "out"
    shutil.copytree(benchmark_folder, data)
    video = data / "videomme" / "data" / "long-000.mp4"
    video.write_bytes(video.read_bytes()[:4000])
    output.mkdir()
    (output / "results.json").write_text("{}")
    with pytest.raises(EvaluationError, match=r"base on videomme: lmms-eval wrote no results file") as error:
        evaluate(recipe(data, checkpoint, output))
    assert "long-000.mp4: not a video that FFmpeg can read" in str(error.value)
    assert str(output / "base" / "lmms_eval.log") in str(error.value)
    assert not (output / "results.json").exists()
    assert not (output / "base" / "done.json").exists()


@pytest.fixture
def written(finished, tmp_path):
    """A copy of what lmms-eval wrote, to take something away from."""
    shutil.copytree(finished / "base" / "lmms_eval", tmp_path / "written")
    return tmp_path / "written"


def test_a_question_without_answer_is_an_error(written):
    log = next(written.rglob("*_samples_videomme.jsonl"))
    samples = list(read_jsonl(log))
    write_jsonl(log, samples[:2] + samples[3:])
    with pytest.raises(EvaluationError, match=r"1 of 5 questions have no answer \(the first is 2\)"):
        read_task(written, "videomme")
    write_jsonl(log, [*samples, samples[0]])
    with pytest.raises(EvaluationError, match="6 answers to 5 questions: 1 are answered more than once"):
        read_task(written, "videomme", 5)
    with pytest.raises(EvaluationError, match="1 of 6 questions have no answer"):
        read_task(written, "videomme", 6)
    write_jsonl(log, [{**samples[0], "filtered_resps": None}, *samples[1:]])
    with pytest.raises(EvaluationError, match="1 of 5 questions have no response"):
        read_task(written, "videomme")


@pytest.mark.parametrize("value", [None, "", "N/A", float("nan")])
def test_an_empty_metric_is_an_error(written, value):
    file = next(written.rglob("*_results.json"))
    results = json.loads(file.read_text())
    results["results"]["mlvu_dev"]["mlvu_percetion_score,none"] = value
    write_json(file, results)
    with pytest.raises(EvaluationError, match="metric mlvu_percetion_score is"):
        read_task(written, "mlvu_dev")
    del results["results"]["mlvu_dev"]
    write_json(file, results)
    with pytest.raises(EvaluationError, match="no result; lmms-eval has results of videomme"):
        read_task(written, "mlvu_dev")


def test_fewer_questions_than_expected_are_an_error(benchmark_folder, checkpoint, tmp_path):
    with pytest.raises(EvaluationError, match="holds 5 questions, 6 expected"):
        evaluate(recipe(benchmark_folder, checkpoint, tmp_path, expect={"videomme": 6}))


def test_missing_data_is_named(benchmark_folder, checkpoint, tmp_path):
    with pytest.raises(EvaluationError, match="mlvu_dev: no parquet file in"):
        read_benchmark(tmp_path, "mlvu_dev")
    shutil.copytree(benchmark_folder, tmp_path / "data")
    (tmp_path / "data" / "mlvu" / "mlvu-000.mp4").unlink()
    with pytest.raises(EvaluationError, match=r"mlvu_dev: no video mlvu-000\.mp4"):
        evaluate(recipe(tmp_path / "data", checkpoint, tmp_path / "out"))


def test_a_group_is_told_to_be_written_as_its_tasks(written):
    """As lmms-eval writes a group: a result, but neither a configuration nor samples."""
    file = next(written.rglob("*_results.json"))
    results = json.loads(file.read_text())
    results["results"]["mlvu"] = {"mlvu_percetion_score,none": 50.0, "alias": "mlvu"}
    write_json(file, {**results, "group_subtasks": {"mlvu": ["mlvu_dev", "mlvu_test"]}})
    with pytest.raises(EvaluationError, match="write its tasks into `tasks`: mlvu_dev, mlvu_test"):
        read_task(written, "mlvu")


def test_an_adapter_whose_base_is_a_relative_path(benchmark_folder, checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(checkpoint, "base")
    adapted = get_peft_model(load_model("base"), LoraConfig(r=2, target_modules=["q_proj"]))
    adapted.save_pretrained("adapter")
    load_processor("base").save_pretrained("adapter")
    assert adapter_base("adapter") == "base"
    of_adapter = {"models": {"lora": "adapter"}, "tasks": ("mlvu_dev",)}
    output = evaluate(recipe(benchmark_folder, checkpoint, "out", **of_adapter))
    assert len(list(read_jsonl(output / "lora" / "answers.jsonl"))) == 3


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"models": {}}, RecipeError, "at least one entry in `models`"),
        ({"models": {"a/b": "x"}}, RecipeError, "label 'a/b' becomes a folder"),
        ({"batch_size": 0}, RecipeError, "`batch_size` must be 1 or more"),
        ({"expect": {"other": 1}}, RecipeError, "`expect` names other"),
        ({"models": {"base": "runs/missing/model"}}, TPOError, "no checkpoint folder at runs/missing/model"),
        ({"models": {"base": "a,b"}}, RecipeError, "no comma"),
    ],
)
def test_what_cannot_start_is_refused(benchmark_folder, checkpoint, tmp_path, changes, error, text):
    with pytest.raises(error, match=text):
        evaluate(recipe(benchmark_folder, checkpoint, tmp_path, **changes))


def test_an_unwritable_output_is_refused(benchmark_folder, checkpoint, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TPOError, match="cannot write to"):
        evaluate(recipe(benchmark_folder, checkpoint, tmp_path / "file"))


def test_two_runs_do_not_share_an_output(benchmark_folder, checkpoint, tmp_path):
    import fcntl

    with (tmp_path / ".lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(TPOError, match="another run is writing"):
            evaluate(recipe(benchmark_folder, checkpoint, tmp_path))
