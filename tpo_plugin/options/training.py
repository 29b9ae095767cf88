"""The options of `tpo train` (recipes of one run, of an upstream script, of a chain) and `tpo reference`."""

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
    """Adapters on the language model's linear layers; what else is `trainable` (projector, vision tower) is trained in full.

    With `vision_tower: adapters`, a tower that is `trainable` gets adapters too, on all its linear layers, the projector's apart.
    """

    r: int = 64
    alpha: int = 128
    dropout: float = 0.0
    target_modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    vision_tower: Literal["full", "adapters"] = "full"


@dataclass(frozen=True)
class CurriculumOptions:
    """In which order the pairs of the difficulties `levels` are trained on; a large r is easy (TEMPLE, arXiv 2503.16929).

    `staged`: a run for each level, in the order given, each with its own learning-rate schedule and from the model of the one before.
    Its `reference` is that model (`reset`, the paper's), or the recipe's own model for all stages (`kept`). `easy_to_hard` and
    `hard_to_easy`: one run that comes by the levels in that order in each epoch; `shuffled`: one run in no order.
    """

    order: Literal["staged", "easy_to_hard", "hard_to_easy", "shuffled"] = "staged"
    levels: tuple[float, ...] = (16.0, 8.0, 4.0, 2.0)
    reference: Literal["reset", "kept"] = "reset"


@dataclass(frozen=True)
class TrainRecipe:
    """`tpo train`: preference pairs to a trained checkpoint.

    `data` is a curation output folder, an exported LLaVA DPO JSON, or for SFT a JSON in LLaVA-Video-178K's form (`video`, `conversations`), or a
    list of such; `video_root` the folder their video paths start from.
    `trainable` names the parts that learn: `projector`, `language_model` (with `lora`: its adapters), `vision_tower`.
    `path`: `fast` scores a video's prompts and responses in one token tree and takes the reference's log-probabilities from disk;
    `plain`, the measure for it, scores each response in a sequence of its own with a reference model in memory. On the fast path the
    language model attends with SDPA, or FlashAttention where it is installed, and `attn_implementation` is the vision tower's.
    `pairs_per_video`: so many pairs of a video come together, in batches of a multiple of it; L_SFT is then the mean over pairs of their
    tokens' means, as with batches of one pair, so that no gradient changes.
    `max_pairs` of the pairs are drawn by `seed`, in the `ratio` of their kinds ({localized: 5, comprehensive: 5}; alone: as many as it
    allows); a smaller draw is part of a larger one. With `objective.dpo_alpha` 0 rows need no rejected response.
    `difficulty`: only pairs of these levels; `curriculum`: several levels in an order. With stages `max_pairs` counts for them all.
    `reference_model`: the checkpoint that the reference is (default: `model` as it is before training). `reference`: the folder of its
    log-probabilities, for runs that share them (default: `output`; with stages whose reference is reset, the first one's).
    `arguments` are trl's DPOConfig / transformers' TrainingArguments fields.
    """

    model: str
    data: str | tuple[str, ...]
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
    difficulty: tuple[float, ...] | None = None
    curriculum: CurriculumOptions | None = None
    path: Literal["fast", "plain"] = "fast"
    pairs_per_video: int = 1
    reference: str | None = None
    reference_model: str | None = None
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


@dataclass(frozen=True)
class ChainRecipe:
    """`tpo train` with several `steps`, each from the checkpoint that the one before left, the first one from `model`.

    A step is {name, recipe, key.sub: value, ...}: a recipe of `tpo train`, the package's own or a file, with some values changed. Its seed is
    `seed`, whatever its recipe says, unless it is one of the values changed. It runs in `output`/name; the last one's checkpoint is also `output`/model, and chain.json says where each came from.
    """

    output: str
    model: str
    steps: tuple[dict[str, Any], ...]
    seed: int = 0
