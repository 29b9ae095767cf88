"""Run in a process of its own: load a checkpoint or adapter folder as curation does; prints a logit and a sum of the projector's weights."""

from __future__ import annotations

import json
import sys

import torch

from tpo_plugin.generators.base import Prompt
from tpo_plugin.integrations.llava_family.model import load
from tpo_plugin.integrations.llava_family.writing import encode
from tpo_plugin.video import read_frames


def main(checkout: str, folder: str, video: str) -> None:
    loaded = load(folder, checkout, "float32", "cpu", "sdpa")
    times = (0.0, 1.0)
    batch = encode(loaded, [Prompt(read_frames(video, times), times, 4.0, "What is shown?")], "qwen_1_5")
    with torch.no_grad():
        logits, _ = loaded.model(**batch, dpo_forward=True)
    projector = sum(float(weight.sum()) for weight in loaded.model.get_model().mm_projector.parameters())
    print(json.dumps({"logit": float(logits[0, -1, 0]), "projector": projector}))


if __name__ == "__main__":
    main(*sys.argv[1:])
