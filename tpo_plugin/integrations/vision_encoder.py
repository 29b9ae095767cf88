"""Hugging Face vision encoders: pictures to feature vectors (SigLIP, CLIP, DINOv2 and others with a pooled output)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from transformers import AutoImageProcessor, AutoModel, BatchFeature

from tpo_plugin.errors import TPOError
from tpo_plugin.folders import check_local
from tpo_plugin.integrations.devices import pick_device
from tpo_plugin.options import ShotOptions

CURE = "set shots.encoder to a SigLIP, CLIP or DINOv2 one"


def load_encoder(options: ShotOptions) -> Callable[[np.ndarray], np.ndarray]:
    """`options.encoder` as a function from pictures, uint8 (N, H, W, 3) RGB, to features, float32 (N, D).

    TPOError if it cannot be loaded or, at the first call, has no pooled output.
    """
    checkpoint = options.encoder
    check_local(checkpoint)
    try:
        processor = AutoImageProcessor.from_pretrained(checkpoint)
        model: Any = AutoModel.from_pretrained(checkpoint)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise TPOError(
            f"cannot load the vision encoder {checkpoint}: {reason}. Shots are compared by it: set shots.encoder to a "
            "checkpoint's folder, or to its name on the hub where that can be reached"
        ) from None
    model = model.to(pick_device(options.device)).eval()

    @torch.inference_mode()
    def encode(pictures: np.ndarray) -> np.ndarray:
        rows = []
        for start in range(0, len(pictures), options.batch_size):
            inputs = processor(images=list(pictures[start : start + options.batch_size]), return_tensors="pt")
            rows.append(_features(model, inputs.to(model.device, model.dtype), checkpoint))
        return np.concatenate(rows)

    return encode


def _features(model: Any, inputs: BatchFeature, checkpoint: str) -> np.ndarray:
    """One vector for each picture: in the space shared with text if the model has one, else its pooled output."""
    try:
        found = model.get_image_features(**inputs) if hasattr(model, "get_image_features") else model(**inputs)
    except (TypeError, ValueError, AttributeError) as error:  # it takes no pictures, or not without a text
        raise TPOError(f"the model {checkpoint} encodes no pictures alone ({error}); {CURE}") from None
    pooled = found if isinstance(found, torch.Tensor) else getattr(found, "pooler_output", None)
    if not isinstance(pooled, torch.Tensor):
        raise TPOError(f"the vision encoder {checkpoint} has no pooled output; {CURE}")
    features: np.ndarray = pooled.float().flatten(1).cpu().numpy()
    return features
