from __future__ import annotations

import random

from tpo_plugin.tiny.captions import describe, described
from tpo_plugin.tiny.world import Scene, draw_scenes


def test_a_caption_tells_its_scenes() -> None:
    assert describe([Scene("red", "circle", "left"), Scene("blue", "square", "")]) == "red circle left, blue square"
    scenes = draw_scenes(random.Random(0), 12)
    assert described(describe(scenes)) == scenes


def test_noise_in_a_caption_is_passed_over() -> None:
    assert described("red circle left, redcircle, blue up square up, ") == [Scene("red", "circle", "left")]
    assert described("a big red circle, and a predated cross") == [Scene("red", "circle", "")]
