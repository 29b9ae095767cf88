"""What the tiny models are taught is true of the clips that go with it."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest

from tpo_plugin.curation.templates import instructions, template
from tpo_plugin.tiny.captions import described
from tpo_plugin.tiny.lessons import DESCRIBING, MAX_FRAMES, Lesson, describing_lesson, draw_clip_in_pairs
from tpo_plugin.tiny.vision import read_scenes

SHOT = template("caption_shot").format(before=2, count=2)


@pytest.fixture(scope="module")
def lessons() -> list[Lesson]:
    rng, noise = random.Random(0), np.random.default_rng(0)
    return [describing_lesson(rng, noise, mix) for mix in DESCRIBING for _ in range(300)]


def shown(frames: np.ndarray) -> list[tuple[str, str]]:
    """Colour and shape of the scenes, measured at a size that shows them well enough."""
    return [(scene.colour, scene.shape) for scene in read_scenes(frames.repeat(3, axis=1).repeat(3, axis=2))]


def test_all_is_taught_on_short_clips_with_an_even_number_of_frames(lessons: list[Lesson]) -> None:
    asked = Counter(turns[0][0] for _, turns in lessons)
    assert {*instructions(), template("caption"), SHOT} <= set(asked)
    assert any(text.startswith("Which caption best describes") for text in asked)
    assert {len(frames) for frames, _ in lessons} == {2, 4, 6, 8}
    assert MAX_FRAMES == 8


def test_captions_tell_what_the_frames_show(lessons: list[Lesson]) -> None:
    right: Counter[bool] = Counter()
    for frames, [(text, answer), *_] in lessons:
        wanted = [(scene.colour, scene.shape) for scene in described(answer)]
        if text in (template("caption"), SHOT):
            right[shown(frames[-2:]) == wanted and len(wanted) == 1] += 1
        elif text in instructions():
            right[shown(frames) == wanted] += 1
    assert right[True] > 0.9 * right.total(), "shapes of 32 pixels are not always measured right"
    assert right.total() > 100


def test_the_right_caption_is_the_one_in_the_films_order(lessons: list[Lesson]) -> None:
    letters: Counter[str] = Counter()
    for frames, turns in lessons:
        if turns[0][0].startswith("Which caption best describes"):
            colours = [colour for colour, _ in shown(frames)]
            for text, letter in turns[:2]:
                option = next(line for line in text.splitlines() if line.startswith(f"{letter}. "))
                first, second = (scene.colour for scene in described(option))
                assert colours.index(first) < colours.index(second)
                letters[letter] += 1
    assert min(letters["A"], letters["B"]) > 0.35 * letters.total()


def test_two_frames_that_the_tower_joins_are_mostly_of_one_scene() -> None:
    rng, noise = random.Random(1), np.random.default_rng(1)
    corners = [draw_clip_in_pairs(rng, noise)[1][:, :3, :3].reshape(-1, 2, 27).mean(axis=2) for _ in range(200)]
    joined = np.concatenate([np.abs(pair[:, 0] - pair[:, 1]) < 25 for pair in corners])
    assert 0.85 < joined.mean() < 1
