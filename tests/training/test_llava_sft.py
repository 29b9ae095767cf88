"""`--dpo_alpha 0` under DeepSpeed, as far as it needs none (tests/upstream/test_sft.py runs the scripts)."""

from __future__ import annotations

from typing import Any

import torch

from tpo_plugin.training.llava_sft import NoReference, SFTAlone


class Upstream:
    def _prepare_deepspeed(self, model: Any) -> str:
        return "an engine"


class Trainer(SFTAlone, Upstream):
    """As `temporal_trainer` puts them together."""


def test_no_engine_is_made_of_a_reference_that_is_none() -> None:
    placeholder = NoReference()
    assert Trainer()._prepare_deepspeed(placeholder) is placeholder
    assert Trainer()._prepare_deepspeed(torch.nn.Identity()) == "an engine"
