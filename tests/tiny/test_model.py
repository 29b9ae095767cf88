"""The shipped tiny model: its size, its inputs, and what it can and cannot do."""

from __future__ import annotations

import random
from pathlib import Path
from statistics import mean

import numpy as np
import pytest
import torch

from tpo_plugin.generators import Prompt
from tpo_plugin.generators.hf import HFGenerator
from tpo_plugin.integrations.huggingface import encode, load_processor
from tpo_plugin.options import GeneratorOptions
from tpo_plugin.tiny import questions
from tpo_plugin.tiny.demo import base_checkpoint
from tpo_plugin.tiny.pretrain import ClipBatches, PretrainOptions, clip_loss, pretrain
from tpo_plugin.tiny.world import draw_scenes, duration, frames_at
from tpo_plugin.video import spread

SINGLE = ("shape", "motion", "edge", "next", "previous", "order", "count")


def accuracy(checkpoint: str, scenes: int, frames: int, videos: int = 24) -> float:
    """Share of right answers to one open question of each form on `videos` videos."""
    generator = HFGenerator(GeneratorOptions(model=checkpoint, batch_size=32, max_new_tokens=8, dtype="float32"), 0)
    rng, noise = random.Random(f"held out {scenes}"), np.random.default_rng(scenes)
    prompts, answers = [], []
    for _ in range(videos):
        drawn = draw_scenes(rng, scenes, 8.0)
        times = spread([(0.0, duration(drawn))], frames)
        pictures = frames_at(drawn, list(times), 96, noise)
        for name in SINGLE:
            asked = questions.ask(questions.BY_NAME[name], drawn, rng)
            if asked is not None:
                prompts.append(Prompt(pictures, times, duration(drawn), asked.text))
                answers.append(asked.answer)
    given = [reply.text for reply in generator.generate_now(prompts)]
    return mean(questions.same_answer(one, other) for one, other in zip(given, answers))


def test_weights_are_small_enough_to_ship() -> None:
    assert sum(file.stat().st_size for file in Path(base_checkpoint()).iterdir()) <= 4_000_000


def test_base_is_good_on_short_clips_and_poor_on_long_videos() -> None:
    short = accuracy(base_checkpoint(), scenes=2, frames=4)
    long = accuracy(base_checkpoint(), scenes=12, frames=48)
    assert short > 0.9
    assert long < short - 0.1


def test_pretraining_feeds_what_the_processor_makes() -> None:
    processor = load_processor(base_checkpoint())
    drawn = draw_scenes(random.Random(0), 3)
    frames = frames_at(drawn, [1.0, 5.0, 9.0], 32)
    made = encode(processor, [Prompt(frames, (1.0, 5.0, 9.0), 12.0, "What shape is shown?")])
    ids, labels = ClipBatches(processor, 1, 0)._conversation([("What shape is shown?", "star")], 3)
    prompt = made["input_ids"][0].tolist()
    assert ids[: len(prompt)] == prompt
    assert labels[: len(prompt)] == [-100] * len(prompt)
    assert processor.tokenizer.decode([label for label in labels if label != -100]) == "star<|im_end|>"


def test_padded_clips_do_not_change_the_loss() -> None:
    from tpo_plugin.tiny.model import build_model

    processor = load_processor(base_checkpoint())
    torch.manual_seed(0)
    model = build_model(processor).eval()
    batch = next(ClipBatches(processor, 4, 0))
    with torch.no_grad():
        whole = clip_loss(model, batch, processor.video_token_id)
        tokens = [(row != -100).sum() for row in batch["labels"][:, 1:]]
        single = [
            clip_loss(model, {key: value[i : i + 1] for key, value in batch.items()}, processor.video_token_id)
            for i in range(4)
        ]
    assert whole.item() == pytest.approx(
        float(sum(n * loss for n, loss in zip(tokens, single)) / sum(tokens)), abs=1e-5
    )


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_the_command_remakes_the_shipped_weights(tmp_path: Path) -> None:
    pretrain(tmp_path / "base", PretrainOptions())
    for scenes, frames in ((2, 4), (12, 48)):
        remade = accuracy(str(tmp_path / "base"), scenes, frames, videos=60)
        shipped = accuracy(base_checkpoint(), scenes, frames, videos=60)
        assert remade == pytest.approx(shipped, abs=0.03)
