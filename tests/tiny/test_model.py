"""The shipped tiny models: their size, their inputs, and what they can and cannot do."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from statistics import mean

import numpy as np
import pytest
import torch

from tpo_plugin.generators import Prompt
from tpo_plugin.generators.hf import HFGenerator
from tpo_plugin.integrations.huggingface import encode, load_model, load_processor
from tpo_plugin.options import GeneratorOptions
from tpo_plugin.tiny import questions
from tpo_plugin.tiny.families import FAMILIES
from tpo_plugin.tiny.pretrain import OPTIONS, ClipBatches, Round, clip_loss, pretrain
from tpo_plugin.tiny.setting import base_checkpoint
from tpo_plugin.tiny.tower import to_pixels
from tpo_plugin.tiny.world import draw_scenes, duration, frames_at
from tpo_plugin.video import spread

BOTH = pytest.mark.parametrize("family", list(FAMILIES))
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


@BOTH
def test_weights_are_small_enough_to_ship(family: str) -> None:
    assert sum(file.stat().st_size for file in Path(base_checkpoint(family)).iterdir()) <= 4_000_000


@BOTH
def test_base_is_good_on_short_clips_and_poor_on_long_videos(family: str) -> None:
    short = accuracy(base_checkpoint(family), scenes=2, frames=4)
    long = accuracy(base_checkpoint(family), scenes=12, frames=48)
    assert short > 0.9
    assert long < short - 0.1


@BOTH
def test_pretraining_feeds_what_the_processor_makes(family: str) -> None:
    parts = FAMILIES[family]
    checkpoint = base_checkpoint(family)
    processor, model = load_processor(checkpoint), load_model(checkpoint, "float32", "cpu")
    drawn = draw_scenes(random.Random(0), 3)
    times = (1.0, 3.0, 5.0, 7.0, 9.0, 11.0)
    frames = frames_at(drawn, list(times), 32)
    made = encode(processor, [Prompt(frames, times, 12.0, "What shape is shown?")])
    ids, labels = ClipBatches(processor, OPTIONS[family], 0).conversation([("What shape is shown?", "star")], 6)
    prompt = made["input_ids"][0].tolist()
    assert ids[: len(prompt)] == prompt
    assert labels[: len(prompt)] == [-100] * len(prompt)
    assert processor.tokenizer.decode([label for label in labels if label != -100]) == "star<|im_end|>"
    batch = {
        "input_ids": torch.tensor([ids]),
        "attention_mask": torch.ones(1, len(ids), dtype=torch.long),
        "labels": torch.tensor([labels]),
        "pixels": [to_pixels(frames, processor)],
    }
    with torch.no_grad():
        loss = clip_loss(model, batch, parts, processor.video_token_id)
        video = {name: value for name, value in made.items() if name.startswith(("pixel", "video"))}
        if "mm_token_type_ids" in made:
            video["mm_token_type_ids"] = 2 * (batch["input_ids"] == processor.video_token_id).int()
        whole = model(input_ids=batch["input_ids"], labels=batch["labels"], **video).loss
    assert loss.item() == pytest.approx(whole.item(), abs=1e-4)


@BOTH
def test_padded_clips_do_not_change_the_loss(family: str) -> None:
    parts = FAMILIES[family]
    processor = load_processor(base_checkpoint(family))
    torch.manual_seed(0)
    model = parts.build_model(processor).eval()
    batch = next(ClipBatches(processor, replace(OPTIONS[family], batch_size=4), 0))
    with torch.no_grad():
        whole = clip_loss(model, batch, parts, processor.video_token_id)
        tokens = [(row != -100).sum() for row in batch["labels"][:, 1:]]
        single = [
            clip_loss(model, {key: value[i : i + 1] for key, value in batch.items()}, parts, processor.video_token_id)
            for i in range(4)
        ]
    assert whole.item() == pytest.approx(
        float(sum(n * loss for n, loss in zip(tokens, single)) / sum(tokens)), abs=1e-5
    )


@BOTH
def test_pretraining_leaves_a_model_that_answers(tmp_path: Path, family: str) -> None:
    rounds = (Round((("recall", 1), ("order", 1)), learning_rate=1e-3, seed=0),)
    threads = torch.get_num_threads()
    pretrain(tmp_path / "base", replace(OPTIONS[family], tower_steps=2, rounds=rounds, batch_size=2))
    assert torch.get_num_threads() == threads, "a run in the same process would give other last digits"
    made, shipped = load_processor(str(tmp_path / "base")), load_processor(base_checkpoint(family))
    assert made.tokenizer.get_vocab() == shipped.tokenizer.get_vocab(), "the shipped model's tokenizer"
    assert made.chat_template == shipped.chat_template
    assert 0 <= accuracy(str(tmp_path / "base"), 1, 2, videos=1) <= 1


@BOTH
@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_the_command_remakes_the_shipped_weights(tmp_path: Path, family: str) -> None:
    pretrain(tmp_path / "base", OPTIONS[family])
    for scenes, frames in ((2, 4), (12, 48)):
        remade = accuracy(str(tmp_path / "base"), scenes, frames, videos=60)
        shipped = accuracy(base_checkpoint(family), scenes, frames, videos=60)
        assert remade == pytest.approx(shipped, abs=0.03)
