"""Pre-train the tiny model on short clips: the command that made the weights which the package ships.

    tpo tiny pretrain OUTPUT

The vision tower learns to see single frames (`tower.py`), then the whole model learns to find a scene by its colour, to answer all
questions, and once more those about order and number. Clips have 1-4 scenes in 2-8 frames. Long videos are never seen: the model is right on short clips and poor on long ones, which
is the situation that temporal preference optimization starts from.
"""

from __future__ import annotations

import logging
import math
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from tpo_plugin.tiny import questions
from tpo_plugin.tiny.model import END, IMAGE_SIZE, START, build_model, build_processor
from tpo_plugin.tiny.questions import Question
from tpo_plugin.tiny.tower import to_pixels, train_tower
from tpo_plugin.tiny.world import Scene, draw_scenes, duration, frames_at

logger = logging.getLogger(__name__)

SCAN = "Describe every background in any order."
MAX_SCENES = 4
MAX_FRAMES = 8
IGNORE = -100


@dataclass(frozen=True)
class Round:
    """One optimizer run with a cosine schedule over `mixes`: (name in MIXES, steps) one after another."""

    mixes: tuple[tuple[str, int], ...]
    learning_rate: float
    seed: int

    @property
    def steps(self) -> int:
        return sum(steps for _, steps in self.mixes)


@dataclass(frozen=True)
class PretrainOptions:
    """Numbers of the pre-training run; the defaults made the shipped weights."""

    tower_steps: int = 2500
    tower_learning_rate: float = 1e-3
    rounds: tuple[Round, ...] = (
        Round((("recall", 1000), ("all", 3500)), learning_rate=1.5e-3, seed=0),
        Round((("order", 3000),), learning_rate=1e-3, seed=1),
    )
    batch_size: int = 16
    warmup_steps: int = 200
    seed: int = 0


def draw_clip(rng: random.Random, noise: np.random.Generator) -> tuple[list[Scene], np.ndarray]:
    """Scenes of a short clip and its frames, uint8 (T, 32, 32, 3) with 2 <= T <= 8."""
    count = rng.randint(1, MAX_SCENES)
    scenes = [
        Scene(scene.colour, scene.shape, scene.motion, rng.uniform(3.5, 4.5)) for scene in draw_scenes(rng, count)
    ]
    frames = rng.randint(2 * count, MAX_FRAMES)
    start, end = rng.uniform(0, 1.0), duration(scenes) - rng.uniform(0, 1.0)
    step = (end - start) / frames
    return scenes, frames_at(scenes, [start + (i + 0.5) * step for i in range(frames)], IMAGE_SIZE, noise)


# Shares of conversations that are a scan, a list, open questions; the rest are questions with options.
MIXES = {"recall": (0.5, 0.0, 0.5), "all": (0.1, 0.1, 0.45), "order": (0.05, 0.2, 0.4)}


def draw_turns(scenes: list[Scene], rng: random.Random, mix: str) -> list[tuple[str, str]]:
    """A conversation about the clip: a scan of its scenes, a list, open questions, or questions with options.

    In `recall` only scans and localized questions occur: with them the model learns to find a scene by its colour. A scan tells the
    scenes in random order, so after each colour the rest must be looked up; without it that skill does not come. `order` asks
    mostly comprehensive questions.
    """
    kind = rng.random()
    scans, lists, opens = MIXES[mix]
    if kind < scans:
        return [(SCAN, _scan(scenes, rng))]
    askable = [question for form in questions.FORMS if (question := questions.ask(form, scenes, rng))]
    ordered = [question for question in askable if question.kind == "comprehensive" and question.form != "list"]
    if mix == "recall":
        picked = rng.choices([question for question in askable if question.form in ("shape", "motion")], k=4)
    elif kind < scans + lists:
        picked = [question for question in askable if question.form == "list"]
    elif kind < scans + lists + opens:
        picked = rng.choices(askable, k=4) if mix == "all" else rng.choices(askable, k=1) + rng.choices(ordered, k=3)
    else:
        more = ordered if mix == "order" else []
        return _with_options([question for question in askable if question.has_options] + more, rng)
    return [(question.text, question.answer) for question in picked]


def _scan(scenes: list[Scene], rng: random.Random) -> str:
    told = [f"{scene.colour} {scene.shape} {scene.motion}" for scene in scenes]
    rng.shuffle(told)
    return ", ".join(told)


def _with_options(askable: list[Question], rng: random.Random) -> list[tuple[str, str]]:
    """One question in Video-MME's long wording, or two in MLVU's short one."""
    style = rng.choice(["videomme", "mlvu", "mlvu"])
    return [
        (
            questions.with_options(question.text, question.choices, style),
            questions.letter_answer(question.choices, question.answer),
        )
        for question in rng.choices(askable, k=1 if style == "videomme" else 2)
    ]


class ClipBatches:
    """Endless seeded batches of clips with their conversation, as the model takes them."""

    def __init__(self, processor: Any, batch_size: int, seed: int) -> None:
        self.tokenizer = processor.tokenizer
        self.video_token = processor.video_token_id
        self.processor = processor
        self.mix = "all"
        self.batch_size = batch_size
        self.rng = random.Random(seed)
        self.noise = np.random.default_rng(seed)
        self._encoded: dict[str, list[int]] = {}

    def _encode(self, text: str) -> list[int]:
        if text not in self._encoded:
            self._encoded[text] = self.tokenizer(text, add_special_tokens=False).input_ids
        return self._encoded[text]

    def _conversation(self, turns: list[tuple[str, str]], frames: int) -> tuple[list[int], list[int]]:
        """Token ids and labels (answers and their end only) of one clip's conversation."""
        ids: list[int] = []
        labels: list[int] = []
        for index, (question, answer) in enumerate(turns):
            video = [self.video_token] * (4 * frames + 1) if index == 0 else []
            opening = "\n" if index == 0 else ""
            prompt = [
                *self._encode(f"{START}user\n"),
                *video,
                *self._encode(f"{opening}{question}{END}\n"),
                *self._encode(f"{START}assistant\n"),
            ]
            response = self._encode(f"{answer}{END}")
            closing = self._encode("\n")
            ids += prompt + response + closing
            labels += [IGNORE] * len(prompt) + response + [IGNORE] * len(closing)
        return ids, labels

    def __next__(self) -> dict[str, Tensor]:
        rows = []
        for _ in range(self.batch_size):
            scenes, frames = draw_clip(self.rng, self.noise)
            rows.append((frames, *self._conversation(draw_turns(scenes, self.rng, self.mix), len(frames))))
        length = max(len(ids) for _, ids, _ in rows)
        pad = self.tokenizer.pad_token_id
        most = max(len(frames) for frames, _, _ in rows)
        pictures = np.zeros((len(rows), most, IMAGE_SIZE, IMAGE_SIZE, 3), dtype=np.uint8)
        for row, (frames, _, _) in enumerate(rows):
            pictures[row, : len(frames)] = frames
        return {
            "input_ids": torch.tensor([ids + [pad] * (length - len(ids)) for _, ids, _ in rows]),
            "attention_mask": torch.tensor([[1] * len(ids) + [0] * (length - len(ids)) for _, ids, _ in rows]),
            "labels": torch.tensor([lab + [IGNORE] * (length - len(lab)) for _, _, lab in rows]),
            "pixels": to_pixels(pictures, self.processor),
            "frames": torch.tensor([len(frames) for frames, _, _ in rows]),
        }


def clip_loss(model: Any, batch: dict[str, Tensor], video_token: int) -> Tensor:
    """Mean cross entropy of the answers; the batch holds clips of different length, padded to the longest."""
    core = model.model
    features = core.get_video_features(pixel_values_videos=batch["pixels"]).pooler_output
    embeds = model.get_input_embeddings()(batch["input_ids"])
    # Features are (batch, 4 * longest + 1, hidden) with the newline last: take each clip's own, then the newline.
    kept = [torch.cat([row[: 4 * n], row[-1:]]) for row, n in zip(features, batch["frames"].tolist())]
    mask = (batch["input_ids"] == video_token).unsqueeze(-1).expand_as(embeds)
    embeds = embeds.masked_scatter(mask, torch.cat(kept).to(embeds.dtype))
    hidden = core.language_model(inputs_embeds=embeds, attention_mask=batch["attention_mask"]).last_hidden_state
    wanted = batch["labels"][:, 1:] != IGNORE
    logits = model.lm_head(hidden[:, :-1][wanted])
    return torch.nn.functional.cross_entropy(logits, batch["labels"][:, 1:][wanted])


def pretrain(output: Path, options: PretrainOptions = PretrainOptions()) -> None:
    """Train from scratch on one thread (about half an hour) and save model and processor to `output`."""
    torch.manual_seed(options.seed)
    torch.set_num_threads(1)
    processor = build_processor()
    model = build_model(processor).train()
    seen = train_tower(model, processor, options.tower_steps, options.tower_learning_rate, options.seed)
    logger.info("the tower reads at least %.0f %% of colours, shapes and motions", 100 * seen)
    for number, one in enumerate(options.rounds, 1):
        loss = _train(model, processor, one, options)
        logger.info("round %d: %d steps, mean loss %.4f", number, one.steps, loss)
    model.eval().save_pretrained(output)
    processor.save_pretrained(output)


def _train(model: Any, processor: Any, one: Round, options: PretrainOptions) -> float:
    """One round; the running mean of its loss."""
    batches = ClipBatches(processor, options.batch_size, one.seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=one.learning_rate, betas=(0.9, 0.95), weight_decay=0.01)

    def scale(step: int) -> float:
        warm = min(1.0, (step + 1) / options.warmup_steps)
        return warm * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * step / one.steps)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, scale)
    mixes = [mix for mix, steps in one.mixes for _ in range(steps)]
    mean_loss = math.log(len(processor.tokenizer))
    progress = tqdm(mixes, desc="pre-train", unit="step")
    for step, batches.mix in enumerate(progress):
        loss = clip_loss(model, next(batches), processor.video_token_id)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        mean_loss = 0.99 * mean_loss + 0.01 * loss.item()
        if step % 100 == 0:
            progress.set_postfix(loss=f"{mean_loss:.3f}", refresh=False)
    return mean_loss
