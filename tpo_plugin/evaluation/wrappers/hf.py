"""lmms-eval's model `tpo_hf`: a Hugging Face video LMM that sees the frames that curation and training sample."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import transformers

from tpo_plugin.errors import TPOError
from tpo_plugin.evaluation.wrappers.base import TemporalModel, adapter_and_base, place_of
from tpo_plugin.generators.base import Prompt
from tpo_plugin.options import FrameOptions

FAMILIES = ("llava_onevision", "llava_next_video", "qwen2_vl", "qwen2_5_vl")


def check_family(checkpoint: str, family: Any) -> None:
    """TPOError if a checkpoint of this `model_type` is none that the wrapper takes."""
    if family not in FAMILIES:
        raise TPOError(
            f"{checkpoint} is a {family} model; tpo_hf was tried with {', '.join(FAMILIES)}. "
            "Use lmms-eval's own wrapper for other families, or llava_video_tpo and longva_tpo for checkpoints of LLaVA-NeXT and LongVA"
        )


class TemporalHF(TemporalModel):
    """Full checkpoints and LoRA adapters of the families in `FAMILIES`, on transformers 5.

    `peft` is a folder with an adapter for `pretrained`; `pretrained` may also be such a folder, on the checkpoint that it names itself or
    on `base`. Frames are reduced to `max_side` and to `max_pixels`. Pooling and newline are the checkpoint's own. Raises TPOError for a
    checkpoint or an argument that does not fit.
    """

    model_id = "tpo_hf"
    new_tokens = 128

    def __init__(
        self,
        pretrained: str,
        peft: str | None = None,
        base: str | None = None,
        max_frames_num: int = 32,
        fps: float = 1.0,
        max_side: int = 768,
        max_pixels: int | None = None,
        time_instruction: bool = False,
        dtype: str = "auto",
        device: str = "auto",
        attn_implementation: str = "sdpa",
        batch_size: int | str = 1,
        unreadable: str = "error",
    ) -> None:
        pixels = None if max_pixels is None else int(max_pixels)
        frames = FrameOptions(float(fps), int(max_frames_num), int(max_side), bool(time_instruction), pixels)
        super().__init__(frames, batch_size, unreadable)
        if int(transformers.__version__.partition(".")[0]) < 5:
            raise TPOError(
                f"{self.model_id} needs transformers 5, here is {transformers.__version__}: make an environment for it "
                "(pip install 'tpo-plugin[hf,lmms]'), or use llava_video_tpo or longva_tpo"
            )
        from tpo_plugin.integrations.huggingface import load_model, load_processor

        self.adapter, self.base = adapter_and_base(str(pretrained).strip('"'), peft, base)
        checkpoint = self.adapter or self.base
        self.processor = load_processor(self.base if peft else checkpoint)
        self.model = load_model(checkpoint, dtype, str(place_of(device)), attn_implementation, self.base)
        check_family(checkpoint, self.model.config.model_type)
        self.announce()

    @property
    def device(self) -> torch.device:
        place: torch.device = self.model.device
        return place

    def write(self, prompts: Sequence[Prompt], arguments: Mapping[str, Any]) -> list[str]:
        from tpo_plugin.integrations.huggingface import write

        return [text for text, _ in write(self.model, self.processor, prompts, arguments)]

    def details(self) -> dict[str, Any]:
        config = self.model.config
        template = hashlib.sha256(str(self.processor.chat_template).encode()).hexdigest()[:16]
        video = self.processor.video_processor
        return {
            "checkpoint": self.base,
            "peft": self.adapter,
            "family": config.model_type,
            **_pooling(config),
            "frame_size": dict(video.size) if video.size else None,
            "cap_pixels_per_frame": getattr(video, "cap_pixels_per_frame", None),  # None: as this transformers does
            "tokens_per_frame": self._tokens_per_frame(),
            "chat_template": template,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "device": self.device.type,
            "attn_implementation": config._attn_implementation,
            "transformers": transformers.__version__,
        }

    def _tokens_per_frame(self) -> float | None:
        """Tokens that each further frame brings; None for a family whose number depends on the frame's size."""
        if self.model.config.model_type.startswith("qwen"):
            return None
        from tpo_plugin.integrations.huggingface import encode

        lengths = []
        for count in (2, 4):
            frames = np.zeros((count, 64, 64, 3), np.uint8)
            prompt = Prompt(frames, tuple(map(float, range(count))), float(count), "?")
            lengths.append(encode(self.processor, [prompt])["input_ids"].shape[1])
        return (lengths[1] - lengths[0]) / 2


def _pooling(config: Any) -> dict[str, Any]:
    """How a family makes a frame's patches into tokens and what stands between frames; fixed in transformers but for LlavaNextVideo."""
    if config.model_type == "llava_onevision":  # LlavaOnevisionModel.apply_pooling, image_newline after the last frame
        return {"mm_spatial_pool_mode": "bilinear", "mm_spatial_pool_stride": 2, "mm_newline_position": "one_token"}
    if config.model_type == "llava_next_video":
        return {
            "mm_spatial_pool_mode": config.spatial_pool_mode,
            "mm_spatial_pool_stride": config.spatial_pool_stride,
            "mm_newline_position": "no_token",
        }
    vision = config.vision_config
    return {
        "mm_spatial_pool_mode": "merger",
        "mm_spatial_pool_stride": vision.spatial_merge_size,
        "mm_newline_position": "no_token",
        "temporal_patch_size": vision.temporal_patch_size,
    }
