"""The two scores, and that greedy decoding gives the teacher-forced one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tpo_plugin.evaluation.needle.scoring import generated, teacher_forced
from tpo_plugin.options import NeedleRecipe


@pytest.mark.parametrize(
    ("response", "answer", "right"),
    [
        ("Yellow", "yellow", True),
        (" Yellow.\n", "Yellow", True),
        ("yellow balloon", "Yellow", True),
        ("The balloon is yellow", "Yellow", False),
        ("yellowish", "Yellow", False),
        ("B", "B", True),
        ("b) San Diego", "B", True),
        ("(B)", "B", True),
        ("Bird", "B", False),
        ("A yellow cat", "A", False),
        ("A. A yellow cat", "A", True),
        ("A, the cat", "A", True),
        ("A: the cat", "a", True),
        ("A\nThe cat is yellow", "A", True),
        ("**A**", "A", True),
        ("200 mg", "200", True),
        ("200mg", "200", True),
        ("2000", "200", False),
        ("200.5", "200", False),
        ("200. Each tablet", "200", True),
        ("new   york", "New York", True),
        ("", "B", False),
        ("anything", "?", False),
    ],
)
def test_a_generated_answer(response: str, answer: str, right: bool) -> None:
    assert generated(response, answer) is right


def test_a_teacher_forced_answer() -> None:
    assert teacher_forced([5, 6, 7], [5, 6])
    assert not teacher_forced([5, 7, 6], [5, 6])
    assert not teacher_forced([5], [5, 6]), "the reply ended before the answer did"


def test_the_first_greedy_tokens_are_the_teacher_forced_ones(
    make_needle_recipe: Callable[..., NeedleRecipe], tmp_path: Path
) -> None:
    """Against one forward over the prompt with the answer, as V-NIAH scores, for right and wrong answers of several tokens."""
    from tpo_plugin.evaluation.needle.asker import load
    from tpo_plugin.evaluation.needle.haystack import read_scenery
    from tpo_plugin.evaluation.needle.needles import read_needles
    from tpo_plugin.generators.base import Prompt
    from tpo_plugin.integrations.huggingface import encode

    recipe = make_needle_recipe(tmp_path, frames=[96])
    needles = read_needles(recipe.needles)
    scenery = read_scenery(recipe, needles)
    asker = load(recipe, recipe.models["base"], scenery)
    seen = set()
    for needle in needles[:6]:
        text = needle.question.replace("What shape is shown", "Describe what happens").replace("?", ".")
        keys = (needle.id, *range(48))
        prompt = Prompt(scenery.pictures(keys), tuple(map(float, range(49))), 49.0, text)
        written = asker.ask(keys, prompt, [text], 12)
        for answer in (f"a {needle.answer} moves left", f"a {needle.answer} moves up", written.text):
            ids = asker.answer_ids(answer)
            inputs = dict(encode(asker.processor, [prompt]))
            inputs["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([ids])], dim=1)
            inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
            with torch.inference_mode():
                logits = asker.model(**inputs).logits[0]
            forced = logits[-len(ids) - 1 : -1].argmax(-1).tolist() == ids
            assert teacher_forced(written.ids, ids) == forced, (needle.name, answer, written.text)
            assert len(ids) > 2
            seen.add(forced)
    assert seen == {True, False}
