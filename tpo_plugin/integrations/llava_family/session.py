"""A run of the script with `--tpo`: which of its parts are replaced, and the repairs that sit on its path from model to trainer."""

from __future__ import annotations

import atexit
import hashlib
import inspect
import logging
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tpo_plugin.errors import TPOError
from tpo_plugin.folders import checkpoint_digest
from tpo_plugin.integrations.checkout import find_checkout
from tpo_plugin.integrations.llava_family.claim import claim
from tpo_plugin.integrations.llava_family.data import (
    make_data_module,
    temporal_collator,
    tree_collator,
    two_special_tokens,
)
from tpo_plugin.integrations.llava_family.model import check_checkpoint
from tpo_plugin.integrations.llava_family.reference_model import load_reference
from tpo_plugin.integrations.llava_family.repairs import REPAIRS, repair_imports
from tpo_plugin.integrations.llava_family.traps import POOLING_FLAGS, traps
from tpo_plugin.training.llava_plain import PlainPath
from tpo_plugin.training.llava_trainer import temporal_trainer
from tpo_plugin.training.policies.llava import check_attention, install_trees

logger = logging.getLogger("tpo_plugin")

WRITTEN_FLAGS = (
    "mm_patch_merge_type",
    "mm_projector_type",
    "mm_vision_select_layer",
    "mm_vision_select_feature",
    "mm_use_im_start_end",
    "mm_use_im_patch_token",
)
MULTIMODAL = ("vision_tower", "mm_projector", "vision_resampler")


class Session:
    """Holds the script's globals and, from `get_model` on, its parsed arguments."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        self.namespace = namespace
        self.package = namespace["train"].__module__.partition(".")[0]
        if self.package == "__main__":
            self.package = Path(inspect.getfile(namespace["train"])).resolve().parents[1].name
        self.arguments: Any = None
        self.model_arguments: Any = None

    @property
    def fast(self) -> bool:
        """Whether the run is on the fast path."""
        return bool(self.arguments.tpo_path == "fast")

    @property
    def reference(self) -> str | None:
        """The checkpoint that is the reference, where it is another than the one that training starts from."""
        asked = self.arguments.tpo_reference_model
        return None if asked == self.model_arguments.model_name_or_path else asked

    def load_reference(self, policy: Any) -> Any:
        """The model in `reference`, for a run with the config `policy`."""
        checkout = find_checkout(Path(inspect.getfile(self.namespace["train"])).resolve().parents[2])
        return load_reference(str(self.reference), checkout, policy, self.arguments)

    def start(self) -> None:
        """Put this package's parts in place of the script's."""
        log_to_stderr()
        atexit.register(leave_process_group)
        repair_imports(self.package)
        logger.info("--tpo: repairs %s", ", ".join(repair.name for repair in REPAIRS if repair.applies(self.package)))
        script = self.namespace
        script["get_model"] = self._get_model(script["get_model"])
        script["make_dpo_data_module"] = self._make_data
        script["preprocess_qwen"] = two_special_tokens(script["preprocess_qwen"])
        script["DPODataCollator"] = self._collator(script["DPODataCollator"])
        script["LLaVADPOTrainer"] = self._trainer(script["LLaVADPOTrainer"])
        script["find_all_linear_names"] = language_model_linears(script["find_all_linear_names"])
        script["safe_save_model_for_hf_trainer"] = _without_cuda(script["safe_save_model_for_hf_trainer"])

    def _get_model(self, original: Callable[..., Any]) -> Callable[..., Any]:
        from transformers import set_seed

        def get_model(model_args: Any, training_args: Any, bnb_model_from_pretrained_args: Any) -> Any:
            self.arguments, self.model_arguments = training_args, model_args
            check_names(model_args, self.package)
            if self.reference is not None:
                check_checkpoint(self.reference, self.package)
            if self.fast:
                check_attention(training_args.attn_implementation)
            set_seed(training_args.seed)  # the script draws the adapters before the trainer does this
            copied = not self.fast and training_args.dpo_alpha != 0 and self.reference is None
            with _deepspeed_text(training_args, copied):
                models = original(model_args, training_args, bnb_model_from_pretrained_args)
            if self.reference is not None and not self.fast:
                models = (models[0], self.load_reference(models[0].config))
            check_flags(models[0].config, model_args)
            check_template(models[0].config, model_args, self.namespace["conversation_lib"].conv_templates)
            for model in models:
                if model is not None:
                    _complete_config(model.config)
                    _keep_tower_precision(model, model_args, training_args)
            if self.fast:
                install_trees(models[0])  # before adapters, which hold on to the forward that they find
            return models

        return get_model

    def _make_data(self, tokenizer: Any, data_args: Any) -> Any:
        data = make_data_module(self.namespace, self.arguments)(tokenizer, data_args)
        claim(self.model_arguments, data_args, self.arguments, data.list_data_dict)
        return data

    def _collator(self, base: type) -> Callable[..., Any]:
        def make(*args: Any, **kwargs: Any) -> Any:
            if not self.fast:
                return temporal_collator(base)(*args, **kwargs)
            return tree_collator(base, self.arguments.dpo_alpha != 0)(*args, **kwargs)

        return make

    def _trainer(self, base: type) -> Callable[..., Any]:
        def make(*args: Any, **kwargs: Any) -> Any:
            if not self.fast:
                return temporal_trainer(base, PlainPath)(*args, **kwargs)
            other = None if self.reference is None else self.load_reference
            return temporal_trainer(base)(*args, fingerprint=self.fingerprint(), load_reference=other, **kwargs)

        return make

    def fingerprint(self) -> dict[str, str]:
        """The reference's weights, and the chat template."""
        found = {"template": self.model_arguments.version}
        for part in ("model_name_or_path", "vision_tower", "pretrain_mm_mlp_adapter"):
            path = getattr(self.model_arguments, part)
            if self.reference is not None and part != "vision_tower":
                path = self.reference if part == "model_name_or_path" else None
            if path is not None:
                found[part] = _digest(path)
        return found


def leave_process_group() -> None:
    """Close what torch.distributed opened: the script does not, and a process that ends with it open may abort in gloo's threads."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def log_to_stderr() -> None:
    """Show this package's messages in a script that configures no logging, on the first process only."""
    import os

    if not logging.getLogger().handlers and not logger.handlers and os.environ.get("RANK", "0") == "0":
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)


def check_names(model_args: Any, package: str) -> None:
    """TPOError where upstream's tests on the paths' text would load another class than the checkpoint's."""
    pooling = all(getattr(model_args, flag) is not None for flag in POOLING_FLAGS)
    found = traps(model_args.model_name_or_path, model_args.vision_tower, package, pooling)
    fatal = [f"{trap.what}: {trap.cure}" for trap in found if trap.fatal and trap.repair is None]
    if fatal:
        raise TPOError("; ".join(fatal))


def check_flags(config: Any, model_args: Any) -> None:
    """TPOError where a flag, often by its default, would overwrite what the checkpoint was trained with.

    `initialize_vision_modules` writes these flags into the config (llava_arch.py:88-95): the run, or whoever loads what it saves, would see
    other features than before.
    """
    wrong = [
        f"--{name} {getattr(config, name)}"
        for name in WRITTEN_FLAGS
        if hasattr(config, name) and getattr(config, name) != getattr(model_args, name)
    ]
    if wrong:
        raise TPOError(
            f"the checkpoint's config.json says otherwise than the flags (or their defaults): give {' '.join(wrong)}"
        )


def check_template(config: Any, model_args: Any, templates: dict[str, Any]) -> None:
    """TPOError for a conversation template that leaves a Qwen2 model's responses without labels, or trains it on another's turns."""
    found = templates.get(model_args.version)
    if config.model_type.startswith("llava_qwen") and (found is None or found.version != "qwen"):
        raise TPOError(
            f"--version {model_args.version} is no template of the checkpoint's language model: give --version qwen_1_5"
        )


def language_model_linears(original: Callable[[Any], list[str]]) -> Callable[[Any], str]:
    """A replacement of `find_all_linear_names` whose pattern matches the language model's linear layers and no tower's."""

    def find(model: Any) -> str:
        names = "|".join(map(re.escape, original(model)))
        return rf"(?!.*({'|'.join(MULTIMODAL)})).*\.({names})"

    return find


def _digest(path: str) -> str:
    """What tells one checkpoint, or one file of weights, from another."""
    if Path(path).is_file():
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
    return checkpoint_digest(path)


@contextmanager
def _deepspeed_text(training_args: Any, reference: bool) -> Iterator[None]:
    """`get_model` looks for "zero3" in `training_args.deepspeed`, which is None without DeepSpeed; if it is there, it loads a `reference`
    model."""
    before = training_args.deepspeed
    training_args.deepspeed = (reference and before) or ""
    try:
        yield
    finally:
        training_args.deepspeed = before


def _complete_config(config: Any) -> None:
    """Set what `initialize_vision_modules` reads from the script's arguments, which lack it (llava_arch.py:98)."""
    if not hasattr(config, "add_faster_video"):
        config.add_faster_video = False
    if not getattr(config, "use_sliding_window", False):
        config.sliding_window = None


def _keep_tower_precision(model: Any, model_args: Any, training_args: Any) -> None:
    """Undo the script's cast of the tower to float16 where it would train in it, or where the rest computes in float32.

    The script calls `initialize_vision_modules`, which may build the tower, and then `tower.to(float16)`, once each: both are
    replaced on these objects until they are called.
    """
    trained = "mm_vision_tower" in (model_args.mm_tunable_parts or "") or model_args.unfreeze_mm_vision_tower
    if training_args.bf16 or (training_args.fp16 and not trained):
        return
    import torch

    modules = model.get_model()

    def initialize_vision_modules(*args: Any, **kwargs: Any) -> None:
        del modules.initialize_vision_modules
        modules.initialize_vision_modules(*args, **kwargs)
        tower = modules.get_vision_tower()

        def to(*args: Any, **kwargs: Any) -> Any:
            del tower.to
            return tower.to(*args, **{**kwargs, "dtype": torch.float32})

        tower.to = to

    modules.initialize_vision_modules = initialize_vision_modules


def _without_cuda(original: Callable[..., None]) -> Callable[..., None]:
    """`safe_save_model_for_hf_trainer` waits for CUDA also where there is none."""

    def save(trainer: Any, output_dir: str) -> None:
        import torch

        if torch.cuda.is_available():
            original(trainer=trainer, output_dir=output_dir)
            return
        synchronize = torch.cuda.synchronize
        torch.cuda.synchronize = lambda device=None: None
        try:
            original(trainer=trainer, output_dir=output_dir)
        finally:
            torch.cuda.synchronize = synchronize

    return save
