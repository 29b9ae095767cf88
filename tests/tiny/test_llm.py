"""The tiny world's language model answers the curation's own prompts, from the prompt alone."""

from __future__ import annotations

import random

import numpy as np
import pytest

from tpo_plugin.curation.filters.judge import parse_verdicts
from tpo_plugin.curation.queries import parse_query
from tpo_plugin.curation.templates import task_texts, template
from tpo_plugin.options import TASK_MIX
from tpo_plugin.tiny import llm
from tpo_plugin.tiny.questions import true_answer
from tpo_plugin.tiny.world import Scene, draw_scenes, frames_at

SCENES = [Scene("red", "triangle", "left"), Scene("blue", "square", "up")]
CAPTIONS = "[0.5 s] On a red background a triangle moves left.\n[4.5 s] On a blue background a square moves up."


def both() -> np.ndarray:
    return frames_at(SCENES, [0.5, 3.5, 4.5, 7.5], 64)


def test_captions_say_what_the_frames_show() -> None:
    said = llm.answer(template("caption"), both())
    assert said == "On a red background a triangle moves left. On a blue background a square moves up."
    assert llm.scenes_of(said) == [Scene("red", "triangle", "left"), Scene("blue", "square", "up")]
    assert llm.scenes_of(CAPTIONS) == llm.scenes_of(said)


def test_captions_of_one_scene_are_put_together() -> None:
    parts = "On a red background a triangle.\nOn a red background a triangle moves left. On a blue background a square."
    assert llm.scenes_of(parts) == [Scene("red", "triangle", "left"), Scene("blue", "square", "")]


def test_answers_from_frames() -> None:
    assert llm.answer("What shape is shown right after the red background?", both()) == "square"
    guess = llm.answer("What shape is shown right after the red background?", both()[:2])
    assert guess == llm.answer("What shape is shown right after the red background?", both()[:2])
    guesses = {
        llm.answer(f"What shape is shown when the background is {name}?", both())
        for name in ("cyan", "pink", "gray", "black")
    }
    assert guesses <= {"circle", "square", "triangle", "cross"}
    assert llm.answer("Describe what happens when the background is cyan.", both()) == "I cannot tell"


@pytest.mark.parametrize("kind", ["localized", "comprehensive"])
@pytest.mark.parametrize("task", list(TASK_MIX))
def test_queries_for_each_task(kind: str, task: str) -> None:
    asked = []
    for seed in range(10):
        scenes = draw_scenes(random.Random(seed), 5)
        captions = llm.caption(frames_at(scenes, [index + 0.5 for index in range(20)], 64))
        prompt = template(f"query_{kind}").format(captions=captions, task=task_texts()[task])
        reply = llm.answer(prompt, [])
        assert reply == llm.answer(prompt, [])
        read = parse_query(reply)
        assert read != "query_malformed"
        if isinstance(read, tuple):
            assert true_answer(read[0], scenes) == read[1]
            asked.append(read)
    assert bool(asked) == (task in llm.FORMS[kind])
    assert llm.answer(template(f"query_{kind}").format(captions="nothing", task=task_texts()[task]), []) == "None"


@pytest.mark.parametrize(
    ("chosen", "rejected", "verdicts"),
    [
        ("square", "triangle", ("yes", "no", "yes")),
        ("triangle", "square", ("no", "yes", "no")),
        ("square", "Square.", ("equally", "no", "yes")),
        ("triangle", "cross", ("equally", "yes", "no")),
    ],
)
def test_judge(chosen: str, rejected: str, verdicts: tuple[str, str, str]) -> None:
    question = "What shape is shown when the background is blue?"
    prompt = template("judge").format(captions=CAPTIONS, question=question, chosen=chosen, rejected=rejected)
    assert parse_verdicts(llm.answer(prompt, [])) == dict(zip(("better", "contradiction", "correct"), verdicts))


def test_judge_of_what_the_captions_leave_open() -> None:
    prompt = template("judge").format(captions=CAPTIONS, question="Why?", chosen="a", rejected="b")
    assert llm.answer(prompt, []) == "1: Equally\n2: Yes\n3: No"


def asked(name: str, **parts: str) -> str:
    return llm.answer(template(name).format(captions=CAPTIONS, **parts), [])


def test_answers_from_captions() -> None:
    assert asked("answer", question="What shape is shown when the background is blue?") == "square"
    assert asked("answer", question="List the shapes in order.") == "red triangle, blue square"
    assert asked("answer", question="What shape is shown when the background is cyan?") == "None", "they do not tell it"


@pytest.mark.parametrize(
    ("question", "given", "score"),
    [
        ("What shape is shown when the background is blue?", "Square.", 5),
        ("What shape is shown when the background is blue?", "triangle", 1),
        ("What shape is shown when the background is cyan?", "square", 1),
        ("List the shapes in order.", "red triangle, blue circle", 3),
        ("List the shapes in order.", "red triangle", 2),
        ("Describe what happens when the background is red.", "a triangle moves right", 3),
    ],
)
def test_scores_from_captions(question: str, given: str, score: int) -> None:
    assert asked("score", question=question, answer=given) == str(score)


def test_a_shot_is_described_by_its_own_frames_alone() -> None:
    frames = list(frames_at(SCENES, [0.5, 3.5, 4.5, 7.5], 64))
    said = llm.answer(template("caption_shot").format(before=2, count=2), frames)
    assert said == "On a blue background a square moves up."
    assert llm.answer(template("caption_shot").format(before=3, count=1), frames) == "On a blue background a square."


@pytest.mark.parametrize(
    "captions",
    [
        ["green cross down", "red circle left", "blue square"],
        ["On a green background a cross moves down.", "On a red background a circle moves left.", "On a blue background a square."],
    ],
)  # fmt: skip
def test_summaries_keep_the_order_of_the_shots(captions: list[str]) -> None:
    def summary(listed: list[str]) -> str:
        lines = "\n".join(f"Shot {number}: {caption}" for number, caption in enumerate(listed, 1))
        return llm.answer(template("summary").format(captions=lines), [])

    assert summary(captions) == "green cross down, red circle left, blue square"
    assert summary(captions[::-1]) == "blue square, red circle left, green cross down"
    assert summary(["a dog barks."]) == "a dog barks"
