"""The options of `tpo evaluate`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from tpo_plugin.options.common import FrameOptions


@dataclass(frozen=True)
class EvaluateRecipe:
    """`tpo evaluate`: checkpoints on lmms-eval tasks. A *cell* is one model with one number of frames on one task.

    `models` maps a label to a checkpoint. `data` is the folder with the benchmarks' local data (None: lmms-eval's own way).
    `sweep` lists the numbers of frames, each in the place of `frames.max` (empty: `frames.max` alone).
    `expect` maps a task to its number of questions; a result with fewer is an error (default: as many as the data has).

    `wrapper` is lmms-eval's model: `tpo_hf`, `llava_video_tpo`, `longva_tpo`, which take `frames`, `dtype`, `device` and
    `attn_implementation` from here and anything else from `wrapper_args`; or another, which takes `wrapper_args` alone.
    `upstream` is the checkout of LLaVA-NeXT or LongVA that a wrapper imports. `prompt_as` asks with the wording that the
    benchmarks have for the model of this name, such as `llava_vid`.

    `unreadable` says what a video that cannot be decoded is: an `error`, or answered with nothing and counted (`count`).
    A failed cell is run again up to `retries` times; `workers` cells run at once, all on the one GPU of `device`, whose memory
    they share. For several GPUs run a recipe with its own `output` on each (CUDA_VISIBLE_DEVICES).
    `tpo evaluate --check` opens the headers of `check` videos a task (None: of all).
    """

    models: dict[str, str]
    output: str
    tasks: tuple[str, ...] = ("videomme", "mlvu_dev")
    data: str | None = None
    seed: int = 0
    frames: FrameOptions = field(default_factory=FrameOptions)
    sweep: list[int] = field(default_factory=list)
    batch_size: int = 1
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"
    attn_implementation: str = "sdpa"
    expect: dict[str, int] = field(default_factory=dict)
    wrapper: str = "tpo_hf"
    wrapper_args: dict[str, Any] = field(default_factory=dict)
    upstream: str | None = None
    prompt_as: str | None = None
    unreadable: Literal["error", "count"] = "error"
    retries: int = 1
    workers: int = 1
    check: int | None = 50
