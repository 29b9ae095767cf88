"""Run in a process of its own: load a checkpoint with the upstream package's own loader and let it say something about a video."""

from __future__ import annotations

import importlib
import json
import sys

import torch

from tpo_plugin.integrations.llava_family.repairs import repair_imports
from tpo_plugin.video import read_frames


def main(package: str, checkpoint: str, name: str, video: str) -> None:
    repair_imports(package)
    builder = importlib.import_module(f"{package}.model.builder")
    tokenizer, model, processor, _ = builder.load_pretrained_model(
        checkpoint, None, name, device_map="auto", attn_implementation="sdpa"
    )
    assert all(bool(torch.isfinite(weight).all()) for weight in model.parameters())
    frames = processor.preprocess(read_frames(video, [0.0, 1.0, 2.0]), return_tensors="pt")["pixel_values"].half()
    token = importlib.import_module(f"{package}.constants").IMAGE_TOKEN_INDEX
    ids = torch.tensor([[token, *tokenizer("\nWhat is shown?").input_ids]])
    written = model.generate(ids, images=[frames], modalities=["video"], do_sample=False, max_new_tokens=4)
    print(json.dumps({"tokens": written.shape[1], "text": tokenizer.decode(written[0])}))


if __name__ == "__main__":
    main(*sys.argv[1:])
