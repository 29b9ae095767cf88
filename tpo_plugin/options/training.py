"""The options of `tpo train` and `tpo reference`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from tpo_plugin.options.common import FrameOptions


@dataclass(frozen=True)
class ObjectiveOptions:
    """Loss = dpo_alpha * L_DPO(beta) + gamma * L_SFT(chosen) (TPO paper, Eq. 3-5; gamma is the paper's alpha)."""

    beta: float = 0.3
    dpo_alpha: float = 1.0
    gamma: float = 0.5


@dataclass(frozen=True)
class LoraOptions:
    """Adapters on the language model's linear layers."""

    r: int = 64
    alpha: int = 128
    dropout: float = 0.0
    target_modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class TrainRecipe:
    """`tpo train`: preference pairs to a trained checkpoint.

    `data` is a curation output folder or an exported LLaVA DPO JSON; `video_root` the folder its video paths start from.
    `trainable` names the parts that learn: `projector`, `language_model` (with `lora`: its adapters), `vision_tower`.
    `path`: `fast` scores a video's prompts and responses in one token tree and takes the reference's log-probabilities from disk;
    `plain`, the measure for it, scores each response in a sequence of its own with a reference model in memory. On the fast path the
    language model attends with SDPA, or FlashAttention where it is installed, and `attn_implementation` is the vision tower's.
    `pairs_per_video`: so many pairs of a video come together, in batches of a multiple of it; L_SFT is then the mean over pairs of their
    tokens' means, as with batches of one pair, so that no gradient changes.
    `max_pairs` of the pairs are drawn by `seed`, in the `ratio` of their kinds ({localized: 5, comprehensive: 5}; alone: as many as it
    allows); a smaller draw is part of a larger one. With `objective.dpo_alpha` 0 rows need no rejected response.
    `reference`: the folder of the reference log-probabilities, for runs that share them (default: `output`).
    `arguments` are trl's DPOConfig / transformers' TrainingArguments fields.
    """

    model: str
    data: str
    output: str
    video_root: str | None = None
    seed: int = 0
    objective: ObjectiveOptions = field(default_factory=ObjectiveOptions)
    frames: FrameOptions = field(default_factory=FrameOptions)
    trainable: tuple[str, ...] = ("projector", "language_model")
    lora: LoraOptions | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    attn_implementation: str = "sdpa"
    max_length: int | None = None
    max_pairs: int | None = None
    ratio: dict[str, float] | None = None
    path: Literal["fast", "plain"] = "fast"
    pairs_per_video: int = 1
    reference: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class UpstreamRecipe:
    """`tpo train` with the DPO script of a LLaVA-NeXT or LongVA checkout at `upstream`.

    `flags` are the script's own, those of `--tpo` among them (`tpo: true` is understood); null leaves one out, and a `deepspeed` file is
    also looked up in the checkout. `processes` is the number of GPUs.
    """

    upstream: str
    flags: dict[str, Any]
    processes: int = 1
