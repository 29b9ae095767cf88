"""Questions of the tiny world, against answers worked out here by hand."""

from __future__ import annotations

import random

import pytest

from tpo_plugin.options import TASK_MIX
from tpo_plugin.tiny.questions import (
    BY_NAME,
    FORMS,
    ask,
    letter_answer,
    mlvu_question,
    same_answer,
    true_answer,
    with_options,
)
from tpo_plugin.tiny.world import Scene, draw_scenes

SCENES = [
    Scene("red", "star", "left"),
    Scene("blue", "ring", "up"),
    Scene("pink", "star", "down"),
    Scene("gray", "cross", ""),
]


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What shape is shown when the background is blue?", "ring"),
        ("What shape is shown when the background is cyan?", None),
        ("Which way does the shape move when the background is red?", "left"),
        ("Which way does the shape move when the background is gray?", None),
        ("Where does the shape end up when the background is blue?", "top"),
        ("Describe what happens when the background is pink.", "a star moves down"),
        ("What shape is shown right after the red background?", "ring"),
        ("What shape is shown right after the gray background?", None),
        ("What shape is shown right before the pink background?", "ring"),
        ("What shape is shown right before the red background?", None),
        ("Which background comes first, pink or blue?", "blue"),
        ("Which background comes first, pink or cyan?", None),
        ("How many times is a star shown?", "two"),
        ("How many times is a circle shown?", "zero"),
        ("List the shapes in order.", "red star, blue ring, pink star, gray cross"),
        ("Why is the star red?", None),
    ],
)
def test_answers(question: str, answer: str | None) -> None:
    assert true_answer(question, SCENES) == answer


def test_a_background_that_occurs_twice_names_no_place() -> None:
    assert true_answer("What shape is shown when the background is red?", [*SCENES, SCENES[0]]) is None


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)
def test_every_form_asks_what_it_can_answer(form) -> None:
    assert form.task in TASK_MIX
    for seed in range(50):
        rng = random.Random(seed)
        scenes = draw_scenes(rng, rng.randint(2, 6))
        question = ask(form, scenes, rng)
        assert question is not None
        assert true_answer(question.text, scenes) == question.answer
        assert [other.name for other in FORMS if other.parse(question.text) is not None] == [form.name]
        if question.choices:
            assert len(set(question.choices)) == 4
            assert question.has_options or form.name == "count"
    assert ask(form, [], random.Random(0)) is None or form.name == "list"


def test_an_order_question_does_not_answer_itself() -> None:
    question = ask(BY_NAME["order"], draw_scenes(random.Random(0), 2), random.Random(0))
    assert question is not None
    assert all(colour in question.choices for colour in question.text.rstrip("?").split(", ")[1].split(" or "))


@pytest.mark.parametrize(
    ("given", "same"),
    [("ring", True), (" Ring. ", True), ("RING", True), ("a ring", False), ("", False), ("rings", False)],
)
def test_same_answer(given: str, same: bool) -> None:
    assert same_answer(given, "ring") is same


def test_multiple_choice_texts() -> None:
    options = ["star", "ring", "cross", "circle"]
    assert mlvu_question("What?", options) == "What?\n(A) star\n(B) ring\n(C) cross\n(D) circle"
    assert with_options("What?", options, "mlvu").endswith("(D) circle\nOnly give the best option.\nBest option: (")
    assert "What?\nA. star\nB. ring\nC. cross\nD. circle\n" in with_options("What?", options, "videomme")
    assert letter_answer(options, "cross") == "cross C"
