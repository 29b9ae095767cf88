"""A run of the script with `--tpo`: which of its parts are replaced, and the repairs that sit on its path from model to trainer."""

from __future__ import annotations

import inspect
import logging
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tpo_plugin.errors import TPOError
from tpo_plugin.integrations.llava_family.data import make_data_module, temporal_collator, two_special_tokens
from tpo_plugin.integrations.llava_family.repairs import REPAIRS, check_transformers, repair_imports
from tpo_plugin.integrations.llava_family.traps import POOLING_FLAGS, traps
from tpo_plugin.training.llava_trainer import temporal_trainer

logger = logging.getLogger("tpo_plugin")

MULTIMODAL = ("vision_tower", "mm_projector", "vision_resampler")


class Session:
    """Holds the script's globals and, from `get_model` on, its parsed arguments."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        self.namespace = namespace
        self.package = namespace["train"].__module__.partition(".")[0]
        if self.package == "__main__":
            self.package = Path(inspect.getfile(namespace["train"])).resolve().parents[1].name
        self.arguments: Any = None

    def start(self) -> None:
        """Put this package's parts in place of the script's."""
        log_to_stderr()
        check_transformers()
        repair_imports(self.package)
        logger.info("--tpo: repairs %s", ", ".join(repair.name for repair in REPAIRS if repair.applies(self.package)))
        script = self.namespace
        script["get_model"] = self._get_model(script["get_model"])
        script["make_dpo_data_module"] = lambda tokenizer, data_args: make_data_module(script, self.arguments)(
            tokenizer, data_args
        )
        script["preprocess_qwen"] = two_special_tokens(script["preprocess_qwen"])
        script["DPODataCollator"] = temporal_collator(script["DPODataCollator"])
        script["LLaVADPOTrainer"] = temporal_trainer(script["LLaVADPOTrainer"])
        script["find_all_linear_names"] = language_model_linears(script["find_all_linear_names"])
        script["safe_save_model_for_hf_trainer"] = _without_cuda(script["safe_save_model_for_hf_trainer"])

    def _get_model(self, original: Callable[..., Any]) -> Callable[..., Any]:
        from transformers import set_seed

        def get_model(model_args: Any, training_args: Any, bnb_model_from_pretrained_args: Any) -> Any:
            self.arguments = training_args
            check_names(model_args, self.package)
            set_seed(training_args.seed)  # the script draws the adapters before the trainer does this
            with _deepspeed_text(training_args):
                models = original(model_args, training_args, bnb_model_from_pretrained_args)
            for model in models:
                if model is not None:
                    _complete_config(model.config)
                    _keep_tower_precision(model, model_args, training_args)
            return models

        return get_model


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


def language_model_linears(original: Callable[[Any], list[str]]) -> Callable[[Any], str]:
    """A replacement of `find_all_linear_names` whose pattern matches the language model's linear layers and no tower's."""

    def find(model: Any) -> str:
        names = "|".join(map(re.escape, original(model)))
        return rf"(?!.*({'|'.join(MULTIMODAL)})).*\.({names})"

    return find


@contextmanager
def _deepspeed_text(training_args: Any) -> Iterator[None]:
    """`get_model` looks for a text in `training_args.deepspeed`, which is None without DeepSpeed."""
    before = training_args.deepspeed
    training_args.deepspeed = before or ""
    try:
        yield
    finally:
        training_args.deepspeed = before


def _complete_config(config: Any) -> None:
    """Set what `initialize_vision_modules` reads from the script's arguments, which lack it (llava_arch.py:98)."""
    if not hasattr(config, "add_faster_video"):
        config.add_faster_video = False


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
