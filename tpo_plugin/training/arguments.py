"""A recipe's `arguments` as trl's DPOConfig."""

from __future__ import annotations

import difflib
from dataclasses import fields
from typing import Any, get_type_hints

from trl import DPOConfig

from tpo_plugin.errors import RecipeError
from tpo_plugin.options import TrainRecipe

# The paper's schedule; trl's own defaults are linear without warm-up, 3 epochs, batch 8, bf16 wherever it can.
DEFAULTS: dict[str, Any] = {
    "num_train_epochs": 1.0,
    "per_device_train_batch_size": 1,
    "lr_scheduler_type": "cosine",
    "warmup_steps": 0.1,
    "bf16": False,
    "logging_steps": 1,
    "save_steps": 0.2,
    "save_total_limit": 2,
    "report_to": "none",
}
# Fields that another key of the recipe decides.
ELSEWHERE = {
    "output_dir": "output",
    "seed": "seed",
    "data_seed": "seed",
    "beta": "objective.beta",
    "loss_type": "objective",
    "loss_weights": "objective.dpo_alpha and objective.gamma",
    "max_length": "max_length",
    "model_init_kwargs": "dtype and attn_implementation",
}
# Fields that would be without effect on this loss and these batches, or that would break them.
UNUSED = (
    "remove_unused_columns", "truncation_mode", "pad_to_multiple_of", "padding_free", "pad_token", "dataset_num_proc",
    "precompute_ref_log_probs", "precompute_ref_batch_size", "ld_alpha", "f_divergence_type", "f_alpha_divergence_coef",
    "label_smoothing", "label_smoothing_factor", "use_weighting", "discopop_tau", "sync_ref_model", "ref_model_mixup_alpha", "ref_model_sync_steps",
    "router_aux_loss_coef", "trust_remote_code", "resume_from_checkpoint", "do_train", "do_eval", "do_predict",
    "eval_strategy", "eval_steps", "eval_on_start", "load_best_model_at_end",
)  # fmt: skip


def training_arguments(recipe: TrainRecipe) -> DPOConfig:
    """The DPOConfig of a recipe; RecipeError for a field that is unknown, belongs elsewhere or has a wrong type."""
    given = {key: _checked(key, value) for key, value in recipe.arguments.items()}
    lora_dropout = recipe.lora is not None and recipe.lora.dropout > 0
    try:
        return DPOConfig(
            **{
                **DEFAULTS,
                "disable_dropout": not lora_dropout,
                **given,
                "output_dir": recipe.output,
                "seed": recipe.seed,
                "data_seed": recipe.seed,
                "beta": recipe.objective.beta,
                "loss_type": ["sigmoid", "sft"],
                "loss_weights": [recipe.objective.dpo_alpha, recipe.objective.gamma],
                "max_length": recipe.max_length,
                "remove_unused_columns": False,
            }
        )
    except (TypeError, ValueError, ImportError) as error:
        cure = "; without such a GPU set arguments.bf16=false" if "bf16" in str(error) else ""
        raise RecipeError(f"`arguments`: {error}{cure}") from None


def _checked(key: str, value: Any) -> Any:
    if key == "hub_token":
        raise RecipeError(
            "`arguments.hub_token`: a recipe is saved and shown; set the environment variable HF_TOKEN instead"
        )
    if key in ELSEWHERE:
        raise RecipeError(f"`arguments.{key}` is set by the recipe's `{ELSEWHERE[key]}`; write it there")
    if key in UNUSED:
        raise RecipeError(f"`arguments.{key}` has no effect on this training; remove it")
    known = [item.name for item in fields(DPOConfig) if item.init]
    if key not in known:
        candidates = [name for name in known if name not in UNUSED] + list(ELSEWHERE)
        near = difflib.get_close_matches(key, candidates, n=1, cutoff=0.0)[0]
        raise RecipeError(
            f"unknown key `arguments.{key}`; did you mean `{near}`? Known are the fields of trl's DPOConfig"
        )
    return _number(key, value, get_type_hints(DPOConfig)[key])


def _number(key: str, value: Any, hint: Any) -> Any:
    """`value` with YAML's traps undone: it reads `4e-6` as a text and `1` as a whole number."""
    if hint is float and not isinstance(value, bool):
        try:
            return float(value)
        except (TypeError, ValueError):
            raise RecipeError(f"`arguments.{key}` must be a number, not {value!r}") from None
    if hint in (int, bool) and type(value) is not hint:
        raise RecipeError(
            f"`arguments.{key}` must be {'true or false' if hint is bool else 'a whole number'}, not {value!r}"
        )
    return value
