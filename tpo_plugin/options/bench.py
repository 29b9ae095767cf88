"""The options of `tpo bench`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class BenchRecipe:
    """`tpo bench`: what a pair costs on each of the `paths`, with random weights of a `size` and one video of `frames` frames.

    `7b` is counted only, `7b-random` measured on a GPU. Rounds of all paths are repeated `repeats` times, or until `minutes` are over.
    `pairs_per_video` queries are asked about the video; `rejected_per_chosen` of TEMPLE's kind share a query and its chosen response, and
    what their tree costs is then also given in pairs. `answer_tokens`: the length of every answer (default: some 100).
    `checkpointing` recomputes activations in the backward pass. `sweep` counts operations over frames and pairs a video as well.
    `upstream` is a checkout of LLaVA-NeXT or LongVA: its DPO script then runs with its own trainer, with `--tpo --tpo_path plain` and with
    `--tpo_path fast`; without, the `upstream` path is the same scheme on Hugging Face modules.
    """

    output: str
    size: Literal["tiny", "small", "7b", "7b-random"] = "small"
    frames: int = 16
    pairs_per_video: int = 1
    rejected_per_chosen: int = 1
    answer_tokens: int | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    paths: tuple[str, ...] = ("upstream", "plain", "fast")
    repeats: int = 3
    minutes: float = 4.0
    seed: int = 0
    checkpointing: bool = False
    sweep: bool = True
    upstream: str | None = None
