"""`tpo evaluate` on lmms-eval's own, unmodified tasks, over files in the benchmarks' own schemas."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tpo_plugin.evaluation.harness import let_empty_answers_be_scored
from tpo_plugin.evaluation.layouts import LAYOUTS, with_members
from tpo_plugin.evaluation.run import evaluate
from tpo_plugin.options import EvaluateRecipe
from tpo_plugin.records import read_jsonl

TASKS = tuple(
    task for task in LAYOUTS if task != "tempcompass_captioning"
)  # which an LLM judges: wrappers/test_benchmarks.py
COUNTS = {"videomme": 5, "videomme_w_subtitle": 5, "mlvu_dev": 14, "longvideobench_val_v": 4, "vinoground": 2000} | {
    **dict.fromkeys(("tempcompass_multi_choice", "tempcompass_yes_no", "tempcompass_caption_matching"), 5),
    **{"egoschema_subset": 5, "perceptiontest_val_mc": 3},
}


@pytest.fixture(scope="module")
def finished(papers_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that knows all answers and one that knows none, on everything."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "plugins"))
        recipe = EvaluateRecipe(
            models={"right": "right/model", "wrong": "wrong/model"},
            output=str(tmp_path_factory.mktemp("evaluated")),
            tasks=TASKS,
            data=str(papers_folder),
            wrapper="knowing",
            prompt_as="llava_vid",
            workers=2,
        )
        return evaluate(recipe)


def test_right_answers_score_all_and_wrong_ones_nothing(finished: Path) -> None:
    results = json.loads((finished / "results.json").read_text())
    found = {(cell["model"], cell["task"]): cell for cell in results["cells"]}
    assert list(found) == [(model, task) for model in ("right", "wrong") for task in TASKS]
    for (model, task), cell in found.items():
        expected = 100 if model == "right" else 0
        assert (cell["score"], cell["accuracy"]["value"], cell["n"]) == (expected, expected, COUNTS[task]), task
        assert {category["value"] for category in cell["categories"].values()} <= {expected}, task
        assert cell["frames"] is None
        assert cell["unit"] == "%"
        assert cell["empty_responses"] == (1000 if (model, task) == ("wrong", "vinoground") else 0)
    assert results["subtitled"] == {"videomme_w_subtitle": 2}
    assert found["right", "videomme"]["prompts"] != found["right", "videomme_w_subtitle"]["prompts"]


def test_prompts_are_those_of_the_named_model(finished: Path) -> None:
    """Video-MME has words of its own for llava_vid, and MLVU has none."""
    assert json.loads((finished / "results.json").read_text())["prompt_as"] == "llava_vid"
    prompts = {
        task: [one["prompt"] for one in read_jsonl(finished / "right" / "default" / task / "answers.jsonl")]
        for task in ("videomme", "mlvu_dev")
    }
    assert all(prompt.endswith("\nThe best answer is:") for prompt in prompts["videomme"])
    assert all(prompt.endswith("\nBest option: (") for prompt in prompts["mlvu_dev"])


def test_categories_are_the_benchmarks_own(finished: Path) -> None:
    cells = json.loads((finished / "results.json").read_text())["cells"]
    names = {cell["task"]: {name: one["n"] for name, one in cell["categories"].items()} for cell in cells}
    assert names["longvideobench_val_v"] == {"15": 2, "S2E": 2, "600": 2, "TOS": 2}
    assert names["tempcompass_yes_no"] == dict.fromkeys(
        ("action", "speed", "direction", "order", "attribute_change"), 1
    )
    assert names["vinoground"] == dict.fromkeys(("text", "video", "group"), 500)
    assert names["perceptiontest_val_mc"] == {"physics": 3, "descriptive": 3}
    assert names["egoschema_subset"] == {}
    assert {"Temporal Reasoning", "short", "long", "Life Record"} <= set(names["videomme_w_subtitle"])
    assert {"needle", "ego", "plotQA", "order", "count", "topic_reasoning", "anomaly_reco"} <= set(names["mlvu_dev"])


@pytest.fixture(scope="module")
def tasks(papers_folder: Path) -> Iterator[Callable[[str], Any]]:
    """A function that loads a task of lmms-eval with the files in place."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(papers_folder)
        patch.setenv("HF_HOME", str(papers_folder))
        patch.setenv("LMMS_EVAL_DATASETS_CACHE", str(papers_folder / "cache"))
        from lmms_eval.tasks import TaskManager

        manager = TaskManager("WARNING", model_name="tpo_hf")
        yield lambda task: manager.load_task_or_group(task, task_type="chat")[task]


@pytest.mark.parametrize("task", TASKS)
def test_the_sample_log_scored_again_gives_the_same_numbers(finished: Path, tasks: Any, task: str) -> None:
    loaded = tasks(task)
    let_empty_answers_be_scored(loaded)
    for cell in json.loads((finished / "results.json").read_text())["cells"]:
        if cell["task"] != task:
            continue
        folder = finished / cell["model"] / "default" / task
        (log,) = folder.rglob("*_samples_*.jsonl")
        samples = sorted(read_jsonl(log), key=lambda sample: sample["doc_id"])
        docs = list(loaded.test_docs())
        values = [
            loaded.process_results(docs[one["doc_id"]], [one["filtered_resps"]])[cell["metric"]] for one in samples
        ]
        (results,) = folder.rglob("*_results.json")
        logged = json.loads(results.read_text())["results"][task][f"{cell['metric']},none"]
        aggregate = loaded.aggregation()[cell["metric"]]
        extra = {"args": None} if "args" in inspect.signature(aggregate).parameters else {}
        assert aggregate(values, **extra) == pytest.approx(tuple(logged) if isinstance(logged, list) else logged)
        assert [one["correct"] for one in read_jsonl(folder / "answers.jsonl")] == [cell["model"] == "right"] * len(
            docs
        )


@pytest.mark.parametrize("family", ["llava_next_video", "qwen2_vl", "qwen2_5_vl"])
def test_every_family_answers_every_benchmark(papers_folder: Path, tasks: Any, tiny_family: Any, family: str) -> None:
    """In this process; LlavaOnevision, and cells, are in test_run.py, TempCompass, which has a judge, in wrappers/test_benchmarks.py."""
    from lmms_eval.evaluator import simple_evaluate

    from tpo_plugin.evaluation.wrappers.hf import TemporalHF

    model = TemporalHF(
        str(tiny_family(family)), max_frames_num=2, max_side=64, dtype="float32", device="cpu", batch_size=8
    )
    asked = [task for task in TASKS if not task.startswith(("tempcompass", "vinoground"))]
    found = simple_evaluate(model=model, tasks=[tasks(task) for task in asked], batch_size=8, bootstrap_iters=0)
    assert {task: len(samples) for task, samples in found["samples"].items()} == {task: COUNTS[task] for task in asked}
    assert all(isinstance(one["resps"][0][0], str) for samples in found["samples"].values() for one in samples)


def test_a_group_stands_for_its_tasks() -> None:
    assert with_members(("mlvu", "videomme", "mlvu_dev")) == ("mlvu_dev", "videomme")
    assert len(with_members(("tempcompass",))) == 4
    assert os.environ["HF_HUB_OFFLINE"] == "1", "none of this asks a network"
