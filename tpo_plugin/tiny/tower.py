"""First stage of a tiny model's pre-training: the vision tower learns to see single frames, as real towers do before an LLM.

Without it the language model settles on guessing shapes and stays there for thousands of steps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from tpo_plugin.tiny.families import Family
from tpo_plugin.tiny.model import IMAGE_SIZE
from tpo_plugin.tiny.world import COLOURS, MOTIONS, SHAPES, TRAVEL, Scene, render

TOKENS = 4  # a frame, or as many frames as the family's tower sees at once
STRIDE = 0.3  # how far a shape moves at most between two frames, of the picture's side


def to_pixels(frames: np.ndarray, processor: Any) -> Tensor:
    """uint8 (..., H, W, 3) at the model's own size as normalised float32 (..., 3, H, W)."""
    video = processor.video_processor
    mean, std = (np.array(values, dtype=np.float32) for values in (video.image_mean, video.image_std))
    return torch.from_numpy(np.moveaxis((frames / np.float32(255) - mean) / std, -1, -3).copy())


def train_tower(
    model: Any, processor: Any, family: Family, steps: int, learning_rate: float, seed: int, batch_size: int = 128
) -> float:
    """Train tower and projector until each of a frame's tokens tells colour, shape, motion and place.

    Returns the share of right shapes in the last batch. The linear head that reads the tokens is thrown away.
    """
    rng = np.random.default_rng(seed)
    names = (list(COLOURS), list(SHAPES), list(MOTIONS))
    words = _word_vectors(model, processor, [name for known in names for name in known])
    place_head = nn.Linear(model.config.text_config.hidden_size, 2)
    parts = (*family.tower_parts(model), place_head)
    optimizer = torch.optim.AdamW([p for part in parts for p in part.parameters()], lr=learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.1)
    progress = tqdm(range(steps), desc="tower", unit="step")
    for step in progress:
        picked = [rng.integers(len(known), size=batch_size) for known in names]
        shown = [Scene(*(known[i] for known, i in zip(names, row))) for row in zip(*picked)]
        place = rng.uniform(-TRAVEL, TRAVEL, (batch_size, 2))
        pixels = to_pixels(_moving(shown, place, family.FRAMES, rng), processor)
        tokens = torch.stack([made[:TOKENS] for made in family.video_features(model, list(pixels))])
        told = [*(tokens @ words.T).split([len(known) for known in names], dim=2), place_head(tokens)]
        targets = [torch.from_numpy(classes).repeat_interleave(TOKENS) for classes in picked]
        loss = nn.functional.mse_loss(told[3], torch.from_numpy(place / TRAVEL).float()[:, None].expand(-1, TOKENS, -1))
        for logits, target in zip(told, targets):
            loss = loss + nn.functional.cross_entropy(logits.flatten(0, 1), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        correct = [
            float((logits.flatten(0, 1).argmax(1) == target).float().mean()) for logits, target in zip(told, targets)
        ]
        if step % 100 == 0:
            progress.set_postfix(colour=correct[0], shape=correct[1], motion=correct[2], refresh=False)
    return min(correct)


def _moving(shown: list[Scene], place: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` frames of each scene, the shape first at `place`: uint8 (N, count, H, W, 3)."""
    direction = np.array([MOTIONS[scene.motion] for scene in shown])
    frames = [render(shown, place, IMAGE_SIZE, rng)]
    while len(frames) < count:
        place = place + rng.uniform(0, STRIDE, (len(shown), 1)) * direction
        frames.append(render(shown, place, IMAGE_SIZE, rng))
    return np.stack(frames, axis=1)


def _word_vectors(model: Any, processor: Any, words: list[str]) -> Tensor:
    """The language model's own vector of each word (its form after a space and at the start of an answer, added up): (W, hidden)."""
    table = model.get_input_embeddings().weight.detach()
    rows = []
    for word in words:
        forms = [processor.tokenizer(form, add_special_tokens=False).input_ids for form in (word, f" {word}")]
        rows.append(sum(table[ids[0]] for ids in forms))
    return torch.stack(rows)
