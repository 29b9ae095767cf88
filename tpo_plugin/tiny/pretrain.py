"""Pre-train a tiny model on short clips: the command that made the weights which the package ships.

    tpo tiny pretrain OUTPUT [--family qwen2_vl]

The vision tower learns to see single frames, or pairs (`tower.py`), then the whole model learns to find a scene by its colour, to do all
that `lessons.py` teaches, and once more what is about order and number. Clips have 1-4 scenes in 2-8 frames. Long videos are never seen:
the model is right on short clips and poor on long ones, which is the situation that temporal preference optimization starts from.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from tpo_plugin.tiny.families import FAMILIES, Family
from tpo_plugin.tiny.lessons import Lesson, Turns, describing_lesson, question_lesson
from tpo_plugin.tiny.tokenizer import END, START
from tpo_plugin.tiny.tower import to_pixels, train_tower

logger = logging.getLogger(__name__)

IGNORE = -100


@dataclass(frozen=True)
class Round:
    """One optimizer run with a cosine schedule over `mixes`: (name in `lessons.py`, steps) one after another."""

    mixes: tuple[tuple[str, int], ...]
    learning_rate: float
    seed: int

    @property
    def steps(self) -> int:
        return sum(steps for _, steps in self.mixes)


@dataclass(frozen=True)
class PretrainOptions:
    """Numbers of the pre-training run; the defaults made the shipped weights of the LLaVA-OneVision family."""

    family: str = "llava_onevision"
    lesson: Callable[[random.Random, np.random.Generator, str], Lesson] = question_lesson
    tower_steps: int = 2500
    tower_learning_rate: float = 1e-3
    rounds: tuple[Round, ...] = (
        Round((("recall", 1000), ("all", 3500)), learning_rate=1.5e-3, seed=0),
        Round((("order", 3000),), learning_rate=1e-3, seed=1),
    )
    batch_size: int = 16
    warmup_steps: int = 200
    seed: int = 0


OPTIONS = {
    "llava_onevision": PretrainOptions(),
    "qwen2_vl": PretrainOptions(
        family="qwen2_vl",
        lesson=describing_lesson,
        rounds=(
            Round((("recall", 1200), ("all", 3500)), learning_rate=1.5e-3, seed=0),
            Round((("order", 2200),), learning_rate=1e-3, seed=1),
        ),
    ),
}


class ClipBatches:
    """Endless seeded batches of clips with their conversation, as the model takes them."""

    def __init__(self, processor: Any, options: PretrainOptions, seed: int) -> None:
        self.family = FAMILIES[options.family]
        self.tokenizer = processor.tokenizer
        self.processor = processor
        self.mix = "all"
        self.lesson = options.lesson
        self.batch_size = options.batch_size
        self.rng = random.Random(seed)
        self.noise = np.random.default_rng(seed)
        self._encoded: dict[str, list[int]] = {}

    def _encode(self, text: str) -> list[int]:
        if text not in self._encoded:
            self._encoded[text] = self.tokenizer(text, add_special_tokens=False).input_ids
        return self._encoded[text]

    def conversation(self, turns: Turns, frames: int) -> tuple[list[int], list[int]]:
        """Token ids and labels (answers and their end only) of one clip's conversation."""
        ids: list[int] = []
        labels: list[int] = []
        video = [self.processor.video_token_id] * self.family.video_tokens(frames)
        before, after = self.family.BEFORE_VIDEO, self.family.AFTER_VIDEO
        for index, (question, answer) in enumerate(turns):
            opening = f"{START}user\n"
            shown = [] if index else [*self._encode(opening + before), *video]
            prompt = [
                *shown,
                *self._encode(f"{opening}{question}{END}\n" if index else f"{after}{question}{END}\n"),
                *self._encode(f"{START}assistant\n"),
            ]
            response = self._encode(f"{answer}{END}")
            closing = self._encode("\n")
            ids += prompt + response + closing
            labels += [IGNORE] * len(prompt) + response + [IGNORE] * len(closing)
        return ids, labels

    def __next__(self) -> dict[str, Any]:
        rows = []
        for _ in range(self.batch_size):
            frames, turns = self.lesson(self.rng, self.noise, self.mix)
            rows.append((frames, *self.conversation(turns, len(frames))))
        length = max(len(ids) for _, ids, _ in rows)
        pad = self.tokenizer.pad_token_id
        return {
            "input_ids": torch.tensor([ids + [pad] * (length - len(ids)) for _, ids, _ in rows]),
            "attention_mask": torch.tensor([[1] * len(ids) + [0] * (length - len(ids)) for _, ids, _ in rows]),
            "labels": torch.tensor([lab + [IGNORE] * (length - len(lab)) for _, _, lab in rows]),
            "pixels": [to_pixels(frames, self.processor) for frames, _, _ in rows],
        }


def clip_loss(model: Any, batch: dict[str, Any], family: Family, video_token: int) -> Tensor:
    """Mean cross entropy of the answers; the batch holds clips of different length, padded to the longest."""
    features = torch.cat(family.video_features(model, batch["pixels"]))
    embeds = model.get_input_embeddings()(batch["input_ids"])
    mask = (batch["input_ids"] == video_token).unsqueeze(-1).expand_as(embeds)
    embeds = embeds.masked_scatter(mask, features.to(embeds.dtype))
    positions = family.positions(model, batch, [len(clip) for clip in batch["pixels"]])
    hidden = model.model.language_model(
        inputs_embeds=embeds, attention_mask=batch["attention_mask"], position_ids=positions
    ).last_hidden_state
    wanted = batch["labels"][:, 1:] != IGNORE
    logits = model.lm_head(hidden[:, :-1][wanted])
    return torch.nn.functional.cross_entropy(logits, batch["labels"][:, 1:][wanted])


def pretrain(output: Path, options: PretrainOptions = PretrainOptions()) -> None:
    """Train from scratch on one thread (about half an hour) and save model and processor to `output`, after each round anew."""
    with one_thread():
        _pretrain(output, options)


@contextmanager
def one_thread() -> Iterator[None]:
    """torch on one CPU thread inside the block: the numbers depend on how many there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _pretrain(output: Path, options: PretrainOptions) -> None:
    torch.manual_seed(options.seed)
    family = FAMILIES[options.family]
    processor = family.build_processor()
    model = family.build_model(processor).train()
    seen = train_tower(model, processor, family, options.tower_steps, options.tower_learning_rate, options.seed)
    logger.info("the tower reads at least %.0f %% of colours, shapes and motions", 100 * seen)
    for number, one in enumerate(options.rounds, 1):
        loss = _train(model, processor, one, options)
        logger.info("round %d: %d steps, mean loss %.4f", number, one.steps, loss)
        model.save_pretrained(output)
        processor.save_pretrained(output)


def _train(model: Any, processor: Any, one: Round, options: PretrainOptions) -> float:
    """One round; the running mean of its loss."""
    batches = ClipBatches(processor, options, one.seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=one.learning_rate, betas=(0.9, 0.95), weight_decay=0.01)

    def scale(step: int) -> float:
        warm = min(1.0, (step + 1) / options.warmup_steps)
        return warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / one.steps)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, scale)
    mixes = [mix for mix, steps in one.mixes for _ in range(steps)]
    mean_loss = math.log(len(processor.tokenizer))
    progress = tqdm(mixes, desc="pre-train", unit="step")
    for step, batches.mix in enumerate(progress):
        loss = clip_loss(model, next(batches), batches.family, processor.video_token_id)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        mean_loss = 0.99 * mean_loss + 0.01 * loss.item()
        if step % 100 == 0:
            progress.set_postfix(loss=f"{mean_loss:.3f}", refresh=False)
    return mean_loss
