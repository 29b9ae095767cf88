"""First stage of the tiny model's pre-training: the vision tower learns to see single frames, as real towers do before an LLM.

Without it the language model settles on guessing shapes and stays there for thousands of steps.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from tpo_plugin.tiny.model import IMAGE_SIZE
from tpo_plugin.tiny.world import COLOURS, SHAPES, TRAVEL, render

TOKENS = 4  # a frame


def to_pixels(frames: np.ndarray, processor: Any) -> Tensor:
    """uint8 (..., H, W, 3) at the model's own size as normalised float32 (..., 3, H, W)."""
    video = processor.video_processor
    mean, std = (np.array(values, dtype=np.float32) for values in (video.image_mean, video.image_std))
    return torch.from_numpy(np.moveaxis((frames / np.float32(255) - mean) / std, -1, -3).copy())


def train_tower(
    model: Any, processor: Any, steps: int, learning_rate: float, seed: int, batch_size: int = 128
) -> float:
    """Train tower and projector to tell colour, shape and place from a frame's tokens; the last batch's shape accuracy.

    The linear head that reads the tokens is thrown away.
    """
    rng = np.random.default_rng(seed)
    colours = list(COLOURS)
    head = nn.Linear(TOKENS * model.config.text_config.hidden_size, len(colours) + len(SHAPES) + 2)
    parts = (model.model.vision_tower, model.model.multi_modal_projector, head)
    optimizer = torch.optim.AdamW([p for part in parts for p in part.parameters()], lr=learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.1)
    correct = 0.0
    for _ in tqdm(range(steps), desc="tower", unit="step"):
        colour = rng.integers(len(colours), size=batch_size)
        shape = rng.integers(len(SHAPES), size=batch_size)
        place = rng.uniform(-TRAVEL, TRAVEL, (batch_size, 2))
        frames = render([colours[i] for i in colour], [SHAPES[i] for i in shape], place, IMAGE_SIZE, rng)
        pixels = to_pixels(frames, processor)[:, None]
        tokens = model.model.get_video_features(pixel_values_videos=pixels).pooler_output[:, :TOKENS]
        told = head(tokens.flatten(1)).split([len(colours), len(SHAPES), 2], dim=1)
        loss = (
            nn.functional.cross_entropy(told[0], torch.from_numpy(colour))
            + nn.functional.cross_entropy(told[1], torch.from_numpy(shape))
            + nn.functional.mse_loss(told[2], torch.from_numpy(place / TRAVEL).float())
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        correct = float((told[1].argmax(dim=1) == torch.from_numpy(shape)).float().mean())
    return correct
