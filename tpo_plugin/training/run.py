"""`tpo train`: from a recipe to a trained checkpoint, continued where an earlier run of it was stopped."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from peft import PeftModel
from safetensors import SafetensorError

from tpo_plugin import recipe as recipes
from tpo_plugin.checks import at_least, check_frames, checkpoint_named
from tpo_plugin.dataset.selection import check_ratio
from tpo_plugin.errors import RecipeError, TPOError
from tpo_plugin.folders import checkpoint_digest, differences, last_checkpoint, locked
from tpo_plugin.integrations.huggingface import load_model, load_processor
from tpo_plugin.options import TrainRecipe
from tpo_plugin.records import stable_id, write_json
from tpo_plugin.training.arguments import training_arguments
from tpo_plugin.training.data import PairCollator, TrainingPairs
from tpo_plugin.training.hf_reference import StoredReference
from tpo_plugin.training.hf_trainer import HFTemporalDPOTrainer
from tpo_plugin.training.history import KeepHistory, save_history
from tpo_plugin.training.policies.hf_tree import HFFamily
from tpo_plugin.training.policies.parts import check_trainable, lora_config, set_trainable
from tpo_plugin.training.policies.tree import install
from tpo_plugin.training.reference import FILE
from tpo_plugin.training.trainer import absent, needs_reference

logger = logging.getLogger(__name__)

# torch.save has no exception of its own for a file that cannot be written.
TORCH_SAVE_FAILED = ("PytorchStreamWriter", "inline_container", "iostream error")


def train(recipe: TrainRecipe) -> Path:
    """Train and return the folder of the final checkpoint.

    A finished run of the same recipe on the same inputs is reused, an unfinished one continued from its last complete
    checkpoint. Raises TPOError (RecipeError, VideoError) for anything the user can mend; the data is checked before a model is loaded.
    """
    output = Path(recipe.output)
    check_recipe(recipe)
    arguments = training_arguments(recipe)
    with locked(output) if is_main() else nullcontext():
        pairs = TrainingPairs.of_recipe(recipe)
        inputs = {"pairs": stable_id([asdict(row) for row in pairs.rows]), "model": checkpoint_digest(recipe.model)}
        if claim(output, recipe, inputs):
            logger.info("%s is finished: reusing %s", output, output / "model")
            return output / "model"
        trainer = build_trainer(recipe, arguments, pairs)
        checkpoint = last_checkpoint(output)
        logger.info("%d pairs, %s", len(pairs), f"continuing from {checkpoint}" if checkpoint else "from the start")
        if absent(recipe.objective):
            logger.info("`objective.dpo_alpha` is 0: the run has no %s", ", ".join(absent(recipe.objective)))
        started = time.monotonic()
        with writing(output):
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
            seconds = round(time.monotonic() - started, 1)
            about = {"inputs": inputs, "pairs": len(pairs), "absent": absent(recipe.objective), "seconds": seconds}
            finish(trainer, output, about)
    return output / "model"


def reference(recipe: TrainRecipe) -> Path:
    """Compute the reference log-probabilities that the recipe's table on disk lacks, and return the file.

    TPOError as `train`; RecipeError where the recipe needs no such table.
    """
    check_recipe(recipe)
    if recipe.path == "plain" or not needs_reference(recipe.objective):
        raise RecipeError(
            "`tpo reference` is for `path: fast` with `objective.dpo_alpha` above 0; this recipe needs no reference on disk"
        )
    arguments = training_arguments(recipe)
    with locked(Path(recipe.output)) if is_main() else nullcontext():
        build_trainer(recipe, arguments, TrainingPairs.of_recipe(recipe))
    return Path(recipe.reference or recipe.output) / FILE


def check_recipe(recipe: TrainRecipe) -> None:
    """RecipeError for values that do not fit together."""
    checkpoint_named("model", recipe.model)
    check_frames(recipe.frames)
    at_least("max_pairs", recipe.max_pairs, 1)
    check_ratio("ratio", recipe.ratio)
    at_least("max_length", recipe.max_length, 1)
    check_trainable(recipe.trainable, recipe.lora)
    check_grouping(recipe)
    goal = recipe.objective
    if goal.dpo_alpha < 0 or goal.gamma < 0 or goal.beta <= 0 or goal.dpo_alpha == goal.gamma == 0:
        raise RecipeError(
            "`objective` needs beta > 0 and non-negative dpo_alpha and gamma, at least one of them above 0; "
            f"it has beta {goal.beta}, dpo_alpha {goal.dpo_alpha}, gamma {goal.gamma}"
        )
    if recipe.dtype in ("bfloat16", "float16") and recipe.lora is None:
        logger.warning(
            "weights are held in %s: updates below about 0.4 %% of a weight are lost in rounding; leave `dtype` out and set "
            "`arguments.bf16: true` to compute in bfloat16 with float32 weights",
            recipe.dtype,
        )


def check_grouping(recipe: TrainRecipe) -> None:
    """RecipeError where a batch does not hold whole groups of `pairs_per_video`, or another sampling is asked for too."""
    at_least("pairs_per_video", recipe.pairs_per_video, 1)
    size, count = recipe.arguments.get("per_device_train_batch_size", 1), recipe.pairs_per_video
    if count > 1 and isinstance(size, int) and size % count:
        raise RecipeError(
            f"`pairs_per_video` is {count} and `arguments.per_device_train_batch_size` {size}: a batch holds whole groups, so make it a "
            f"multiple of {count} (and `gradient_accumulation_steps` smaller in turn)"
        )
    if count > 1 and "train_sampling_strategy" in recipe.arguments:
        raise RecipeError(
            "`pairs_per_video` above 1 has an order of its own: take `arguments.train_sampling_strategy` out"
        )


def build_trainer(recipe: TrainRecipe, arguments: Any, pairs: TrainingPairs) -> HFTemporalDPOTrainer:
    """The trainer of a recipe, its policy loaded from the recipe's checkpoint.

    Its reference is a second model on the plain path; on the fast one the table on disk, filled here where it lacks something.
    """
    processor, fast = load_processor(recipe.model), recipe.path == "fast"
    if recipe.max_length:
        pairs.check_lengths(processor, recipe.max_length, needs_reference(recipe.objective))
    stored, reference = None, None
    if needs_reference(recipe.objective) and fast:
        stored = StoredReference.of_recipe(recipe, arguments, pairs, processor)
    elif needs_reference(recipe.objective):
        reference = _load(recipe, arguments).requires_grad_(False)
    model = _load(recipe, arguments)
    set_trainable(model, recipe.trainable)
    if fast:
        install(model, HFFamily())
        if "vision_tower" in recipe.trainable:
            logger.info(
                "the vision tower is trained: it runs, with gradient, once a video in each step; nothing of it is shared with the "
                "reference, whose log-probabilities are the initial tower's"
            )
    return HFTemporalDPOTrainer(
        model=model,
        ref_model=reference,
        args=arguments,
        objective=recipe.objective,
        data_collator=PairCollator(pairs, processor, needs_reference(recipe.objective), recipe.max_length, fast),
        stored=stored,
        pairs_per_video=recipe.pairs_per_video,
        peft_config=lora_config(model, recipe.lora, recipe.trainable) if recipe.lora else None,
        callbacks=[KeepHistory()],
    )


def _load(recipe: TrainRecipe, arguments: Any) -> Any:
    """The recipe's checkpoint as a plain model (an adapter it brings is merged); weights in float32 unless it says otherwise."""
    dtype = "float32" if recipe.dtype == "auto" else recipe.dtype
    model = load_model(recipe.model, dtype, str(arguments.device), recipe.attn_implementation)
    return model.merge_and_unload() if isinstance(model, PeftModel) else model


def finish(trainer: HFTemporalDPOTrainer, output: Path, about: dict[str, Any]) -> None:
    """Save the model (adapters merged), its processor and the history; the marker with what there is to say `about` it comes last."""
    if isinstance(trainer.model, PeftModel):
        trainer.model = trainer.accelerator.unwrap_model(trainer.model).merge_and_unload()
    trainer.save_model(str(output / "model"))
    if not trainer.is_world_process_zero():
        return
    steps = trainer.state.global_step
    save_history(output, trainer.state)
    versions = {name: version(name) for name in ("tpo-plugin", "torch", "transformers", "trl", "peft")}
    write_json(output / "done.json", {"steps": steps, **about, "versions": versions})
    logger.info("trained %d steps in %.0f s, saved %s", steps, about["seconds"], output / "model")


def claim(output: Path, recipe: TrainRecipe, inputs: dict[str, str]) -> bool:
    """Whether `output` holds a finished run of this recipe on these inputs; else it becomes, or stays, a run of it.

    RecipeError if it holds a run of another recipe or on other inputs that has saved something.
    """
    marker, saved = output / "inputs.json", output / "recipe.yaml"
    begun = (output / "done.json").is_file() or any(output.glob("checkpoint-*"))
    if begun and saved.is_file():
        differing = differences(yaml.safe_load(saved.read_text(encoding="utf-8")) or {}, recipes.to_plain(recipe))
        if marker.is_file():
            old = json.loads(marker.read_text(encoding="utf-8"))
            differing += [f"the {key} changed since" for key in inputs if old.get(key) != inputs[key]]
        if differing:
            raise RecipeError(
                f"{output} holds a run of another recipe ({'; '.join(differing)}); choose another `output`, or remove the folder"
            )
    if (output / "done.json").is_file():
        return True
    if is_main():
        write_json(marker, inputs)
        recipes.save(recipe, output)
    return False


@contextmanager
def writing(output: Path) -> Iterator[None]:
    """TPOError where a file cannot be written (a full disk, mostly), in whichever library's words that comes."""
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not any(words in str(error) for words in TORCH_SAVE_FAILED):
            raise
        raise TPOError(
            f"cannot write to {output}: {error}. Free some space and run the same command again: it continues from the last "
            "complete checkpoint."
        ) from error


def is_main() -> bool:
    """Whether this is the first of the processes that a launcher (torchrun, accelerate) started."""
    return os.environ.get("RANK", "0") == "0"
