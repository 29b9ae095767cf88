"""lmms-eval's own, unmodified tasks with our chat models: what they hand over is understood. All benchmarks through cells: test_papers.py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from tpo_plugin.evaluation.layouts import GROUPS
from tpo_plugin.evaluation.wrappers.base import TemporalModel
from tpo_plugin.evaluation.wrappers.hf import TemporalHF
from tpo_plugin.generators.base import Prompt
from tpo_plugin.options import FrameOptions

# Those that no model answers in test_papers.py: TempCompass has a judge, and Vinoground 2,000 questions.
SCORES = {
    "tempcompass_multi_choice": "avg_accuracy",
    "tempcompass_yes_no": "avg_accuracy",
    "tempcompass_caption_matching": "avg_accuracy",
    "vinoground": "vinoground_score",
}


class Knowing(TemporalModel):
    """Answers rightly, by the mark in the question, once the video is decoded."""

    model_id = "knowing"
    new_tokens = 1
    device = torch.device("cpu")

    def __init__(self, answers: Mapping[str, tuple[str, str]]) -> None:
        super().__init__(FrameOptions(max=2), 8, "error")
        self.answers, self.texts = answers, []

    def write(self, prompts: Sequence[Prompt], arguments: Mapping[str, Any]) -> list[str]:
        assert all(prompt.frames.shape == (2, 96, 96, 3) for prompt in prompts)
        self.texts += [prompt.text for prompt in prompts]
        marks = ["<" + prompt.text.partition("<")[2].partition(">")[0] + ">" for prompt in prompts]
        return [self.answers[mark][0] for mark in marks]

    def details(self) -> dict[str, Any]:
        return {}


@pytest.fixture(scope="module")
def world(
    benchmark_folder: Path, benchmark_files: ModuleType, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Any, dict[str, Any]]]:
    """lmms-eval's tasks with their data in place, and the answers by task."""
    folder = tmp_path_factory.mktemp("papers")
    answers = benchmark_files.write(folder, benchmark_folder / "videomme" / "data" / "short-000.mp4")
    for path in benchmark_folder.iterdir():
        (folder / path.name).mkdir(exist_ok=True) if path.is_dir() else None
        for inner in path.iterdir() if path.is_dir() else ():
            (folder / path.name / inner.name).symlink_to(inner)
    benchmark_files.write_subtitles(folder, "short-000")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("HF_HOME", str(folder))
        patch.setenv("LMMS_EVAL_DATASETS_CACHE", str(folder / "cache"))
        from lmms_eval.tasks import TaskManager

        from tpo_plugin.integrations.lmms_eval import manifests

        manifests()
        yield TaskManager("WARNING", model_name="tpo_hf"), answers


def evaluate(manager: Any, model: TemporalModel, *tasks: str) -> dict[str, Any]:
    from lmms_eval.evaluator import simple_evaluate

    found = simple_evaluate(model=model, tasks=list(tasks), task_manager=manager, batch_size=model.batch_size)
    assert found is not None
    return found


@pytest.mark.parametrize("right", [True, False])
def test_captions_are_judged_by_the_server_that_the_environment_names(world, judge, right):
    manager, answers = world
    known = answers["tempcompass_captioning"]
    model = Knowing(known if right else {mark: pair[::-1] for mark, pair in known.items()})
    found = evaluate(manager, model, "tempcompass_captioning")
    assert found["results"]["tempcompass_captioning"]["avg_accuracy,none"] == (100 if right else 0)
    said = {sample["avg_accuracy"]["chatgpt-answer"] for sample in found["samples"]["tempcompass_captioning"]}
    assert said == {"B. down" if right else "A. up"}


@pytest.mark.parametrize("family", ["llava_onevision", "qwen2_vl", "qwen2_5_vl"])
def test_families_answer_tempcompass(world, judge, tiny_family, family, monkeypatch):
    """Random models: every question gets an answer, and every answer that no rule knows a verdict."""
    manager, _ = world
    monkeypatch.setattr(TemporalHF, "new_tokens", 8)
    model = TemporalHF(str(tiny_family(family)), max_frames_num=2, max_pixels=1024, device="cpu", batch_size=5)
    tasks = GROUPS["tempcompass"]
    found = evaluate(manager, model, *tasks)
    assert {task: len(samples) for task, samples in found["samples"].items()} == dict.fromkeys(tasks, 5)
    verdicts = [sample["avg_accuracy"] for samples in found["samples"].values() for sample in samples]
    assert {one["rating"] for one in verdicts} <= {0, 1}
    assert all(one["match_success"] or one["chatgpt_response"] for one in verdicts if "match_success" in one)
    assert all(one["chatgpt-answer"] for one in verdicts if "match_success" not in one)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llava_onevision", "llava_next_video", "qwen2_vl", "qwen2_5_vl"])
def test_families_answer_vinoground(world, tiny_family, family):
    """All 2,000 questions: a random model is right on about a quarter of the pairs at most."""
    manager, answers = world
    model = TemporalHF(str(tiny_family(family)), max_frames_num=2, max_side=32, device="cpu", batch_size=16)
    found = evaluate(manager, model, "vinoground")
    assert len(found["samples"]["vinoground"]) == len(answers["vinoground"]) == 2000
    assert all(0 <= score <= 50 for score in found["results"]["vinoground"]["vinoground_score,none"])


@pytest.mark.parametrize("task", SCORES)
def test_the_videos_and_questions_that_a_task_hands_over_are_understood(world, task):
    manager, answers = world
    model = Knowing(answers[task])
    score = evaluate(manager, model, task)["results"][task][f"{SCORES[task]},none"]
    assert score == pytest.approx((100,) * 3 if task == "vinoground" else 100)
    assert len(model.texts) == len(answers[task])


def test_a_variant_asks_as_the_base_is_asked(world, checkpoint):
    manager, _ = world
    from lmms_eval import tasks

    folder = Path(tasks.__file__).parent / "videomme"
    of_base = tasks.TaskManager("WARNING", str(folder), include_defaults=False, model_name="llava_vid")
    task = "videomme_prompt_llava_vid"
    ours, base, plain = (
        next(iter(found.load_task_or_group(name, task_type="chat").values()))
        for found, name in ((manager, task), (of_base, "videomme"), (manager, "videomme"))
    )
    for doc in base.test_docs():
        assert ours.doc_to_text(doc) == base.doc_to_text(doc) != plain.doc_to_text(doc)
    assert ours.doc_to_text(doc).endswith("\nThe best answer is:")
    model = TemporalHF(str(checkpoint), max_frames_num=2, batch_size=5)
    found = evaluate(manager, model, task, "mlvu")
    assert {name: len(samples) for name, samples in found["samples"].items()} == {task: 5, "mlvu_dev": 3}


def test_subtitles_are_in_the_question(world, checkpoint):
    manager, _ = world
    task = manager.load_task_or_group("videomme_w_subtitle", task_type="chat")["videomme_w_subtitle"]
    texts = {doc["videoID"]: task.doc_to_text(doc) for doc in task.test_docs()}
    assert "first line" in texts["short-000"]
    assert "second line" in texts["short-000"]
    assert "after the end" not in texts["short-000"]
    assert "No subtitles available" in texts["long-000"]
