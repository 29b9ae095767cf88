"""A vision encoder with a pooled output for the tiny world's shots: the shipped tower, whose head takes the mean of its patches."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    LlavaOnevisionForConditionalGeneration,
    SiglipImageProcessor,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from tpo_plugin.tiny.model import IMAGE_SIZE
from tpo_plugin.tiny.setting import base_checkpoint


def write_encoder(folder: str | Path) -> None:
    """Save encoder and image processor to `folder`, as `shots.encoder` takes them."""
    tower = LlavaOnevisionForConditionalGeneration.from_pretrained(base_checkpoint()).model.vision_tower
    encoder = SiglipVisionModel(SiglipVisionConfig(**{**tower.config.to_dict(), "vision_use_head": True}))
    encoder.load_state_dict(tower.state_dict(), strict=False)
    _average(encoder.head, tower.config.hidden_size)
    encoder.save_pretrained(folder)
    SiglipImageProcessor(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE}).save_pretrained(folder)


@torch.no_grad()
def _average(head: torch.nn.Module, width: int) -> None:
    """Make an attention pooling a mean: keys of 0 are all attended to alike, values go through as they are, and nothing is added."""
    for parameter in head.parameters():
        parameter.zero_()
    attention = head.get_submodule("attention")
    attention.get_parameter("in_proj_weight")[2 * width :] = torch.eye(width)
    attention.get_parameter("out_proj.weight").copy_(torch.eye(width))
