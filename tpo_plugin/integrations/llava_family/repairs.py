"""What the upstream scripts need to run correctly in this environment: each repair once, with its reason and its removal condition.

Two kinds: repairs of what is missing at import (`repair_imports`, before the script's own imports), and repairs of behaviour, which
`attach` and `TemporalDPOTrainer` carry; the latter are listed here for `tpo doctor`, with the place that holds them. All are applied only
with `--tpo` (or where this package itself loads upstream's model classes). Line numbers: LLaVA-NeXT df17966, LongVA f4c8781.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

from tpo_plugin.errors import TPOError
from tpo_plugin.integrations import torchvision
from tpo_plugin.integrations.llava_family import data_processing

logger = logging.getLogger(__name__)

OLDEST, NEWEST = (4, 40), (4, 57)
OTHER_WEIGHTS = "non_lora_trainables.bin"  # beside an adapter: what else was trained, under upstream's name


@dataclass(frozen=True)
class Repair:
    """`applies(package)` says, from installed versions alone, whether this environment needs it for `llava` or `longva`.

    `apply` makes up for what is missing at import; None: the repair lives in `place`.
    """

    name: str
    why: str
    upstream: str
    remove_when: str
    place: str
    applies: Callable[[str], bool]
    apply: Callable[[], None] | None = None


def installed(name: str) -> tuple[int, ...]:
    """The installed version of a distribution as numbers, () if it is not installed."""
    try:
        text = version(name)
    except PackageNotFoundError:
        return ()
    parts = text.partition("+")[0].split(".")
    return tuple(int(part) for part in parts if part.isdigit())


def check_transformers() -> None:
    """TPOError for a transformers that the two code bases do not run on."""
    found = installed("transformers")
    if not OLDEST <= found[:2] <= NEWEST:
        here = ".".join(map(str, found)) or "none"
        raise TPOError(
            f"LLaVA-NeXT and LongVA are supported on transformers {_dotted(OLDEST)} - {_dotted(NEWEST)}; here is {here}. "
            "Make an environment of its own for them: pip install 'tpo-plugin[llava]'"
        )


def repair_imports(package: str) -> list[str]:
    """Make up for the names that importing `llava` or `longva` and its DPO script expects; returns the repairs applied.

    Call it before that import. Does nothing the second time. TPOError for an unsupported transformers.
    """
    check_transformers()
    torchvision.repair()
    applied = []
    for repair in REPAIRS:
        if repair.apply is not None and repair.applies(package):
            repair.apply()
            applied.append(repair.name)
    return applied


def _dotted(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))


def _since(*numbers: int) -> Callable[[str], bool]:
    return lambda package: installed("transformers") >= numbers


def _always(package: str) -> bool:
    return True


def _lend(target: str, source: str, *names: str) -> Callable[[], None]:
    """A function that gives the module `target` those of `names` that it lacks, from `source`, where they moved."""

    def apply() -> None:
        into, origin = importlib.import_module(target), importlib.import_module(source)
        for name in names:
            if not hasattr(into, name):
                setattr(into, name, getattr(origin, name))

    return apply


def _add_data_processing() -> None:
    parent = ModuleType("data_processing")
    parent.__path__ = []
    parent.utils = data_processing  # type: ignore[attr-defined]
    sys.modules |= {"data_processing": parent, "data_processing.utils": data_processing}


def _allow_rng_state() -> None:
    import numpy
    import torch

    multiarray = importlib.import_module(
        "numpy._core.multiarray" if installed("numpy") >= (2,) else "numpy.core.multiarray"
    )
    torch.serialization.add_safe_globals(
        [multiarray._reconstruct, numpy.ndarray, numpy.dtype, type(numpy.dtype("uint32"))]
    )


TRAINER = "training/llava_trainer.py"
SESSION = "integrations/llava_family/session.py"

REPAIRS: tuple[Repair, ...] = (
    Repair(
        "data_processing",
        "the script imports data_processing.utils, which LLaVA-NeXT does not ship; LongVA's is not installed with it and needs matplotlib",
        "train_dpo.py:41, LLaVA-NeXT issue 249",
        "LLaVA-NeXT ships the module, and LongVA's needs no more than the script",
        "integrations/llava_family/data_processing.py",
        _always,
        _add_data_processing,
    ),
    Repair(
        "gradient_accumulation_plugin",
        "transformers.trainer no longer has the name GradientAccumulationPlugin",
        "llava_trainer.py:14",
        "upstream imports it from accelerate alone",
        "repairs.py",
        _since(4, 46),
        _lend("transformers.trainer", "accelerate.utils", "GradientAccumulationPlugin"),
    ),
    Repair(
        "layernorm_layers",
        "transformers.trainer no longer has the name ALL_LAYERNORM_LAYERS",
        "llava_trainer.py:14",
        "upstream imports it from transformers.pytorch_utils",
        "repairs.py",
        _since(4, 53),
        _lend("transformers.trainer", "transformers.pytorch_utils", "ALL_LAYERNORM_LAYERS"),
    ),
    Repair(
        "pytorch_utils",
        "transformers.modeling_utils no longer has three helpers; llava.model hides the error and lacks its model classes",
        "multimodal_resampler/qformer.py, llava/model/__init__.py",
        "upstream imports them from transformers.pytorch_utils",
        "repairs.py",
        _since(4, 56),
        _lend(
            "transformers.modeling_utils",
            "transformers.pytorch_utils",
            "apply_chunking_to_forward",
            "find_pruneable_heads_and_indices",
            "prune_linear_layer",
        ),
    ),
    Repair(
        "resume_rng_state",
        "torch >= 2.6 refuses the random-number state in a checkpoint that transformers < 4.46 resumes from",
        "transformers/trainer.py, _load_rng_state",
        "transformers 4.45 is no longer supported here",
        "repairs.py",
        lambda package: installed("transformers") < (4, 46) and installed("torch") >= (2, 6),
        _allow_rng_state,
    ),
    Repair(
        "trainer_signatures",
        "transformers >= 4.46 calls get_batch_samples, compute_loss, log and _save_checkpoint with other arguments",
        "trl/trainer/dpo_trainer.py, llava_trainer.py",
        "upstream's trainers have transformers' signatures",
        TRAINER,
        _since(4, 46),
    ),
    Repair(
        "train_sampler_signature",
        "transformers >= 4.52 hands _get_train_sampler the dataset",
        "llava_trainer.py, LLaVADPOTrainer._get_train_sampler",
        "upstream takes the argument",
        TRAINER,
        _since(4, 52),
    ),
    Repair(
        "deepspeed_none",
        "without --deepspeed the script looks for a text in None",
        "train_dpo.py, get_model: '\"zero3\" in training_args.deepspeed'",
        "upstream tests for None",
        SESSION,
        _always,
    ),
    Repair(
        "cuda_synchronize",
        "without CUDA the script crashes after training, before the final save",
        "train_dpo.py, safe_save_model_for_hf_trainer",
        "upstream asks for CUDA first",
        SESSION,
        _always,
    ),
    Repair(
        "process_group",
        "the process group stays open at the end: under gloo a rank may then abort (SIGABRT) although all is saved",
        "train_dpo.py, train",
        "upstream destroys it",
        SESSION,
        _always,
    ),
    Repair(
        "tower_precision",
        "without bf16 the vision tower is cast to float16: trained, its loss is NaN from step 2 and logged as 0",
        "train_dpo.py:1604, 1750",
        "upstream casts frozen towers only",
        SESSION,
        _always,
    ),
    Repair(
        "lora_targets",
        "LoRA's target names also match linear layers of a CLIP tower, which then trains",
        "train_dpo.py, find_all_linear_names",
        "upstream excludes the tower",
        SESSION,
        _always,
    ),
    Repair(
        "lora_seed",
        "LoRA's initial weights are drawn before --seed is set, so that no two runs agree",
        "train_dpo.py, get_peft_model before the trainer is made",
        "upstream seeds first",
        SESSION,
        _always,
    ),
    Repair(
        "lora_checkpoints",
        "with LoRA, save_steps calls a missing method, and a resume leaves out the weights beside the adapters",
        "llava_trainer.py:1297",
        "upstream saves LoRA checkpoints and reads them back",
        TRAINER,
        _always,
    ),
    Repair(
        "lora_frozen_base",
        "with LoRA the language model's own weights train too",
        "LongVA train_dpo.py:1684",
        "LongVA freezes them, as LLaVA-NeXT does since df17966",
        TRAINER,
        lambda package: package == "longva",
    ),
    Repair(
        "true_reference",
        "LoRA beside a trained projector: switching the adapters off leaves the trained projector in the reference",
        "trl/trainer/dpo_trainer.py, null_ref_context",
        "upstream keeps the initial weights",
        TRAINER,
        _always,
    ),
    Repair(
        "config_defaults",
        "a checkpoint whose config.json lacks add_faster_video stops with AttributeError",
        "llava_arch.py:98",
        "upstream's ModelArguments of train_dpo.py has the field",
        SESSION,
        lambda package: package == "llava",
    ),
    Repair(
        "sliding_window",
        "SDPA masks apply config.sliding_window although use_sliding_window is false: videos beyond it are not seen whole",
        "transformers 4.51.3, modeling_qwen2.py:707",
        "transformers 4.52 is no longer supported here",
        SESSION,
        lambda package: (4, 46) <= installed("transformers") < (4, 53),
    ),
    Repair(
        "special_tokens",
        "the chat template needs exactly two additional special tokens; Qwen2.5's tokenizer has more",
        "train_dpo.py:570",
        "upstream looks the two up by name",
        "integrations/llava_family/data.py",
        _always,
    ),
)
