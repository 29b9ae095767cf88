"""Encoders that take more than pixels, and models that are none (tests/curation/test_shots_groups.py has the usual ones)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel, CLIPImageProcessor, Siglip2Config, Siglip2ImageProcessor, Siglip2Model

from tpo_plugin.curation.shot_groups import cosines
from tpo_plugin.errors import TPOError
from tpo_plugin.integrations.vision_encoder import load_encoder
from tpo_plugin.options import ShotOptions

WIDTHS = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
PICTURES = np.random.default_rng(0).integers(0, 256, (3, 40, 60, 3), dtype=np.uint8)


def test_an_encoder_of_any_picture_size(tmp_path: Path) -> None:
    """SigLIP 2 NaFlex is told which of the patches are the picture's, and how they lie."""
    torch.manual_seed(0)
    config = Siglip2Config(
        text_config={**WIDTHS, "vocab_size": 64}, vision_config={**WIDTHS, "patch_size": 8, "num_patches": 16}
    )
    Siglip2Model(config).save_pretrained(tmp_path)
    Siglip2ImageProcessor(patch_size=8, max_num_patches=16).save_pretrained(tmp_path)
    encode = load_encoder(ShotOptions(encoder=str(tmp_path), device="cpu", batch_size=2))
    features = encode(PICTURES[[0, 1, 0]])
    assert features.shape == (3, 32)
    alike = cosines(features)
    assert alike[0, 2] == pytest.approx(1, abs=1e-6)
    assert alike[0, 1] < 1 - 1e-6


def test_a_model_that_is_no_encoder(tmp_path: Path, tiny_family: Callable[[str], Path]) -> None:
    BertModel(BertConfig(**WIDTHS, vocab_size=64)).save_pretrained(tmp_path)
    CLIPImageProcessor().save_pretrained(tmp_path)
    for folder, says in ((tmp_path, "encodes no pictures alone"), (tiny_family("qwen2_vl"), "has no pooled output")):
        with pytest.raises(TPOError, match=rf"{folder} {says}.*; set shots\.encoder to a SigLIP, CLIP or DINOv2 one"):
            load_encoder(ShotOptions(encoder=str(folder), device="cpu"))(PICTURES)
