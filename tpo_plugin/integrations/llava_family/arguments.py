"""`--tpo` and its options on the script's own argument classes, and the papers' presets.

A preset becomes the defaults of those classes, so that the parser itself lets explicit flags win, and `--help` shows the values.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
from collections.abc import Sequence
from typing import Any, Literal, get_type_hints

from tpo_plugin.errors import TPOError
from tpo_plugin.integrations.llava_family.rows import parse_difficulties, parse_ratio

logger = logging.getLogger(__name__)

# TPO paper (arXiv 2501.13919), training details: beta, alpha (here `gamma`), learning rate; cosine with 10 % warm-up, 1 epoch, batch 1 a GPU.
# The paper does not give the number of training frames: LongVA's is that of its evaluation, LLaVA-Video's that of its SFT.
SCHEDULE = {
    "lr_scheduler_type": "cosine",
    "warmup_ratio": 0.1,
    "num_train_epochs": 1.0,
    "per_device_train_batch_size": 1,
}
PRESETS: dict[str, dict[str, Any]] = {
    "longva": {
        "beta": 0.3,
        "dpo_alpha": 1.0,
        "gamma": 0.5,
        "learning_rate": 4e-6,
        **SCHEDULE,
        "frames_upbound": 128,
        "video_fps": 1,
    },
    "llava_video": {
        "beta": 0.2,
        "dpo_alpha": 1.0,
        "gamma": 1.0,
        "learning_rate": 3e-7,
        **SCHEDULE,
        "frames_upbound": 64,
        "video_fps": 1,
    },
}
GROUP_BY = ("group_by_modality_length", "group_by_length", "group_by_modality_length_auto", "group_by_varlen")
TRUE = ("yes", "true", "t", "y", "1")  # as transformers' HfArgumentParser reads them


@dataclasses.dataclass
class TemporalArguments:
    """What `--tpo` adds to the script's TrainingArguments."""

    tpo: bool = dataclasses.field(
        default=False, metadata={"help": "Temporal Preference Optimization: tpo-plugin's data, checks and trainer."}
    )
    tpo_preset: Literal["longva", "llava_video"] | None = dataclasses.field(
        default=None, metadata={"help": "The paper's hyper-parameters as defaults; explicit flags win."}
    )
    tpo_time_instruction: bool = dataclasses.field(
        default=False,
        metadata={"help": "Tell the video's length and frame times before the question, as LLaVA-Video's SFT."},
    )
    tpo_force_sample: bool = dataclasses.field(
        default=False,
        metadata={"help": "Always sample frames_upbound frames, also of shorter videos, as LLaVA-Video's SFT."},
    )
    tpo_max_broken: float = dataclasses.field(
        default=0.01, metadata={"help": "Stop when more than this share of the rows has a broken video."}
    )
    tpo_path: Literal["fast", "plain"] = dataclasses.field(
        default="fast",
        metadata={
            "help": "fast: a video is computed once for all its answers, the reference once a run. plain: upstream's forwards."
        },
    )
    tpo_pairs_per_video: int = dataclasses.field(
        default=1, metadata={"help": "Pairs of one video that come together in a batch, where it has as many."}
    )
    tpo_max_pairs: int | None = dataclasses.field(
        default=None,
        metadata={"help": "Train on so many of the rows, drawn by --seed; a smaller draw is part of a larger."},
    )
    tpo_ratio: str | None = dataclasses.field(
        default=None, metadata={"help": "localized:comprehensive, such as 8:2: the draw has these kinds in this ratio."}
    )
    tpo_difficulty: str | None = dataclasses.field(
        default=None, metadata={"help": "Train on the rows of this difficulty r alone, or of these: 16, or 16,8."}
    )
    tpo_order: Literal["easy_to_hard", "hard_to_easy"] | None = dataclasses.field(
        default=None,
        metadata={"help": "The rows in order of their difficulty (a large r is easy), shuffled where it is the same."},
    )
    tpo_reference_model: str | None = dataclasses.field(
        default=None,
        metadata={"help": "The checkpoint that is the reference, in place of the one that training starts from."},
    )


@dataclasses.dataclass(frozen=True)
class Asked:
    """What the command line asks of this package, read before the script's own parser exists."""

    tpo: bool
    preset: str | None

    @classmethod
    def of(cls, argv: Sequence[str]) -> Asked:
        parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        parser.add_argument("--tpo", nargs="?", const="true", default="false")
        parser.add_argument("--tpo_preset", "--tpo-preset")
        known, _ = parser.parse_known_args(list(argv))
        return cls(known.tpo.lower() in TRUE, known.tpo_preset if known.tpo_preset in PRESETS else None)


def extend_arguments(namespace: dict[str, Any], asked: Asked) -> None:
    """Replace the script's TrainingArguments and DataArguments by subclasses with our options and the preset as defaults."""
    preset = PRESETS[asked.preset] if asked.tpo and asked.preset else {}
    unknown = set(preset)
    for name, added in (("TrainingArguments", TemporalArguments), ("DataArguments", None)):
        base = namespace[name]
        fields = {field.name for field in dataclasses.fields(base)}
        values = {name: value for name, value in preset.items() if name in fields}
        unknown -= set(values)
        namespace[name] = _extended(base, added, values, asked)
    if unknown:
        raise TPOError(
            f"the script has no arguments {', '.join(sorted(unknown))}, which --tpo_preset {asked.preset} sets"
        )


def _extended(base: type, added: type | None, defaults: dict[str, Any], asked: Asked) -> type:
    """A dataclass like `base` with the fields of `added` and other defaults; it can be pickled where `base` can."""
    hints = get_type_hints(base)
    old = {field.name: field for field in dataclasses.fields(base)}
    fields = [
        (
            name,
            hints[name],
            dataclasses.field(default=value, metadata={"help": "set by --tpo_preset", **old[name].metadata}),
        )
        for name, value in defaults.items()
    ]
    if added is not None:
        types = get_type_hints(added)
        fields += [
            (field.name, types[field.name], dataclasses.field(default=field.default, metadata=field.metadata))
            for field in dataclasses.fields(added)
        ]

    def __post_init__(self: Any) -> None:
        if hasattr(base, "__post_init__"):
            base.__post_init__(self)
        check_arguments(self, defaults, asked)

    made = dataclasses.make_dataclass(base.__name__, fields, bases=(base,), namespace={"__post_init__": __post_init__})
    made.__module__, made.__qualname__, made.__doc__ = base.__module__, base.__qualname__, base.__doc__
    return made


def check_arguments(arguments: Any, preset: dict[str, Any], asked: Asked) -> None:
    """TPOError for options that do not fit together; logs what the preset and the flags came to."""
    if hasattr(arguments, "tpo") and (arguments.tpo, arguments.tpo_preset) != (asked.tpo, asked.preset):
        raise TPOError(
            "--tpo and --tpo_preset must be written out on the command line: they are read before the script's own parser, which "
            "also takes abbreviations and .args files"
        )
    given = [
        field.name
        for field in dataclasses.fields(TemporalArguments)
        if field.name != "tpo" and getattr(arguments, field.name, field.default) != field.default
    ]
    if given and not arguments.tpo:
        raise TPOError(f"--{given[0]} has no effect without --tpo: add --tpo, or leave it out")
    if getattr(arguments, "tpo", False) and arguments.precompute_ref_log_probs:
        raise TPOError(
            "--precompute_ref_log_probs makes the policy its own reference upstream (the loss stays at ln 2): leave it out"
        )
    if getattr(arguments, "tpo", False) and arguments.dpo_alpha == arguments.gamma == 0:
        raise TPOError("--dpo_alpha and --gamma are both 0, so there is no loss: one of them must be above 0")
    if not 0 <= getattr(arguments, "tpo_max_broken", 0) <= 1:
        raise TPOError(f"--tpo_max_broken must lie between 0 and 1, it is {arguments.tpo_max_broken}")
    if getattr(arguments, "tpo_max_pairs", None) is not None and arguments.tpo_max_pairs < 1:
        raise TPOError(f"--tpo_max_pairs must be at least 1, it is {arguments.tpo_max_pairs}")
    parse_ratio(getattr(arguments, "tpo_ratio", None))
    parse_difficulties(getattr(arguments, "tpo_difficulty", None))
    if getattr(arguments, "tpo_reference_model", None) is not None and arguments.dpo_alpha == 0:
        raise TPOError("--tpo_reference_model has no effect with --dpo_alpha 0, which needs no reference: leave it out")
    _check_grouping(arguments)
    if preset and os.environ.get("RANK", "0") == "0":
        values = {name: getattr(arguments, name) for name in preset}
        logger.info(
            "preset: %s",
            ", ".join(
                f"{name} {values[name]}" + ("" if values[name] == preset[name] else f" (preset: {preset[name]})")
                for name in preset
            ),
        )


def _check_grouping(arguments: Any) -> None:
    """TPOError if `tpo_pairs_per_video` does not fit the path or the batch, or if it or `tpo_order` meets another order of the rows."""
    pairs = getattr(arguments, "tpo_pairs_per_video", 1)
    if pairs < 1:
        raise TPOError(f"--tpo_pairs_per_video must be at least 1, it is {pairs}")
    ordering = [name for name in GROUP_BY if getattr(arguments, name, False)]
    for ours, used in (("tpo_pairs_per_video", pairs > 1), ("tpo_order", getattr(arguments, "tpo_order", None))):
        if used and ordering:
            raise TPOError(f"--{ours} and --{ordering[0]} both order the rows: leave one out")
    if pairs == 1:
        return
    batch = arguments.per_device_train_batch_size
    if arguments.tpo_path != "fast":
        raise TPOError("--tpo_pairs_per_video saves nothing on the plain path: leave it or --tpo_path plain out")
    if batch % pairs:
        raise TPOError(
            f"--tpo_pairs_per_video {pairs} needs --per_device_train_batch_size {pairs} or a multiple of it, it is {batch} (with as "
            "many times fewer --gradient_accumulation_steps the optimizer sees as many pairs a step as before)"
        )
