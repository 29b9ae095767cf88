"""The options of `tpo needle`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class NeedleGrid:
    """Pictures with a question each (`needles`) shown as one frame among the frames of videos (`haystack`, joined in their order).

    The grid is `frames` (numbers of haystack frames, `fps` a second) x `depths` (0: before the first frame, 1: after the last).
    `fit` says how a picture gets the haystack's size: `letterbox` keeps its shape between bars, `resize` stretches it, `square` puts
    bars around the haystack's frames too, so that both are square (as V-NIAH does). Bars have the colour `bars` (red, green, blue).
    Haystack sides over `max_side` px and frames of more than `max_pixels` (as FrameOptions has it) are reduced. A needle is shown for
    `needle_frames` frames, at a multiple of that number (None: as many as the vision tower joins into one: 1, for Qwen2-VL and Qwen2.5-VL
    2).
    """

    needles: str
    haystack: str | list[str]
    frames: list[int]
    depths: list[float | int] = field(default_factory=lambda: [0, 0.2, 0.4, 0.6, 0.8, 1])
    fps: float = 1.0
    fit: Literal["letterbox", "resize", "square"] = "letterbox"
    bars: list[int] = field(default_factory=lambda: [0, 0, 0])
    max_side: int = 768
    needle_frames: int | None = None
    max_pixels: int | None = None


@dataclass(frozen=True)
class PromptOptions:
    """The text around the frames and the question, as it is: `before`, the frames, the question, `after`."""

    before: str
    after: str


@dataclass(frozen=True, kw_only=True)
class NeedleRecipe(NeedleGrid):
    """`tpo needle`: each model of `models` (label: checkpoint) is asked for every needle in every cell of the grid.

    `prompt` is None for the model's own chat template. `wrapper` is one of our lmms-eval models, `wrapper_args` are that model's further
    arguments (`time_instruction`, `conv_template` and the like); `llava_video_tpo` and `longva_tpo` run in an environment for
    LLaVA-NeXT, with the checkout in `upstream` (None: TPO_LLAVA_NEXT, TPO_LONGVA, or the installed package). `tower_batch` is how many
    frames the vision tower takes at once.
    """

    models: dict[str, str]
    output: str
    prompt: PromptOptions | None = None
    max_new_tokens: int = 16
    wrapper: str = "tpo_hf"
    wrapper_args: dict[str, Any] = field(default_factory=dict)
    upstream: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"
    attn_implementation: str = "sdpa"
    tower_batch: int = 32
