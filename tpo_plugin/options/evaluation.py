"""The options of `tpo evaluate`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from tpo_plugin.options.common import FrameOptions


@dataclass(frozen=True)
class EvaluateRecipe:
    """`tpo evaluate`: checkpoints on lmms-eval tasks.

    `models` maps a label to a checkpoint. `data` is the folder with the benchmarks' local data (None: lmms-eval's own way).
    `expect` maps a task to its number of questions; a result with fewer is an error (default: as many as the data has).
    `wrapper` is lmms-eval's model: ours, or another with its own `wrapper_args`, which then replace `frames`, `dtype` and
    `attn_implementation`: `llava_vid` and `longva` run in an environment for LLaVA-NeXT, with the checkout in `upstream`.
    """

    models: dict[str, str]
    output: str
    tasks: tuple[str, ...] = ("videomme", "mlvu_dev")
    data: str | None = None
    seed: int = 0
    frames: FrameOptions = field(default_factory=FrameOptions)
    batch_size: int = 1
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"
    attn_implementation: str = "sdpa"
    expect: dict[str, int] = field(default_factory=dict)
    wrapper: str = "tpo_hf"
    wrapper_args: dict[str, Any] = field(default_factory=dict)
    upstream: str | None = None
