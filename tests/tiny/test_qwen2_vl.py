"""What the shipped tiny Qwen2-VL does that its sister does not: it describes films and shots, and tells films of another order apart."""

from __future__ import annotations

import random
from collections.abc import Callable
from statistics import mean

import numpy as np
import pytest

from tpo_plugin.curation.templates import instructions, template
from tpo_plugin.generators import Prompt
from tpo_plugin.generators.hf import HFGenerator
from tpo_plugin.integrations.huggingface import encode
from tpo_plugin.options import GeneratorOptions
from tpo_plugin.tiny import vinoground
from tpo_plugin.tiny.captions import describe, described
from tpo_plugin.tiny.setting import base_checkpoint
from tpo_plugin.tiny.world import Scene, draw_scenes, frames_at

Ask = Callable[[list[Scene], random.Random], tuple[str, str]]


@pytest.fixture(scope="module")
def generator() -> HFGenerator:
    checkpoint = base_checkpoint("qwen2_vl")
    return HFGenerator(GeneratorOptions(model=checkpoint, batch_size=32, max_new_tokens=64, dtype="float32"), 0)


def answers(generator: HFGenerator, count: int, ask: Ask, films: int = 24) -> list[tuple[str, str]]:
    """What the model says and what is true, of films with `count` scenes of two frames each."""
    rng, noise = random.Random(f"held out {count}"), np.random.default_rng(count)
    prompts, true = [], []
    for _ in range(films):
        scenes = draw_scenes(rng, count, 4.0)
        times = tuple(4.0 * place + second for place in range(count) for second in (1.0, 3.0))
        text, answer = ask(scenes, rng)
        prompts.append(Prompt(frames_at(scenes, list(times), 96, noise), times, 4.0 * count, text))
        true.append(answer)
    return [(reply.text, answer) for reply, answer in zip(generator.generate_now(prompts), true)]


def whole(scenes: list[Scene], rng: random.Random) -> tuple[str, str]:
    return rng.choice(instructions()), describe(scenes)


def shot(scenes: list[Scene], rng: random.Random) -> tuple[str, str]:
    text = template("caption") if len(scenes) == 1 else template("caption_shot").format(before=2, count=2)
    return text, describe(scenes[-1:])


def order(scenes: list[Scene], rng: random.Random) -> tuple[str, str]:
    first, second = rng.sample(scenes, 2)
    right = "A" if scenes.index(first) < scenes.index(second) else "B"
    return vinoground.question(first, second) + vinoground.CLOSING, right


def right(pairs: list[tuple[str, str]]) -> float:
    return mean(said == true for said, true in pairs)


def test_it_describes_short_clips_and_not_long_ones(generator: HFGenerator) -> None:
    assert right(answers(generator, 2, whole)) > 0.9
    assert right(answers(generator, 4, whole)) > 0.8
    long = answers(generator, 12, whole, films=12)
    assert right(long) < 0.1
    assert mean(len(set(described(said)) & set(described(true))) for said, true in long) < 0.8 * 12


@pytest.mark.parametrize("count", [1, 2])
def test_it_describes_one_shot(generator: HFGenerator, count: int) -> None:
    assert right(answers(generator, count, shot, films=32)) > 0.95


def test_it_tells_films_of_another_order_apart_if_they_are_short(generator: HFGenerator) -> None:
    short = right([pair for count in (2, 3) for pair in answers(generator, count, order)])
    assert short > 0.85
    assert right(answers(generator, 12, order)) < short - 0.1


@pytest.mark.parametrize("size", [32, 96, 224])
def test_two_frames_of_any_size_are_four_tokens(generator: HFGenerator, size: int) -> None:
    frames = np.zeros((6, size, size, 3), np.uint8)
    made = encode(generator.processor, [Prompt(frames, tuple(range(6)), 6.0, "Describe the video in detail.")])
    assert made["video_grid_thw"].tolist() == [[3, 4, 4]]
    assert (made["input_ids"] == generator.processor.video_token_id).sum() == 12


def test_the_texts_of_temple_are_few_tokens(generator: HFGenerator) -> None:
    texts = [*instructions(), template("caption"), template("caption_shot").format(before=2, count=2)]
    for text in texts:
        words = text.split()
        assert len(generator.processor.tokenizer(text).input_ids) <= 1.3 * len(words) + 2
    scenes = draw_scenes(random.Random(0), 12)
    assert len(generator.processor.tokenizer(describe(scenes)).input_ids) <= 4 * 12
