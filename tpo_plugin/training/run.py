"""`tpo train`: from a recipe to a trained checkpoint, continued where an earlier run of it was stopped."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from peft import PeftModel

from tpo_plugin.checks import at_least, check_frames, checkpoint_named
from tpo_plugin.dataset.selection import check_ratio, difficulty_of
from tpo_plugin.errors import RecipeError, TPOError
from tpo_plugin.folders import checkpoint_digest, last_checkpoint
from tpo_plugin.integrations.huggingface import load_model, load_processor
from tpo_plugin.options import TrainRecipe
from tpo_plugin.records import stable_id, write_json
from tpo_plugin.training.arguments import training_arguments
from tpo_plugin.training.claims import claim, held, writing
from tpo_plugin.training.curriculum import check_curriculum, keeping, order_of, release, staged, train_stages
from tpo_plugin.training.data import PairCollator, TrainingPairs
from tpo_plugin.training.hf_reference import StoredReference
from tpo_plugin.training.hf_trainer import HFTemporalDPOTrainer
from tpo_plugin.training.history import KeepHistory, save_history
from tpo_plugin.training.policies.hf_tree import HFFamily
from tpo_plugin.training.policies.parts import check_trainable, lora_config, parts_in_full, set_trainable
from tpo_plugin.training.policies.tree import install
from tpo_plugin.training.reference import FILE
from tpo_plugin.training.trainer import absent, needs_reference

logger = logging.getLogger(__name__)


def train(recipe: TrainRecipe, moved: bool = False) -> Path:
    """Train and return the folder of the final checkpoint. `moved`: the run may have been begun in another folder (`claims.changes`).

    A finished run of the same recipe on the same inputs is reused, an unfinished one continued from its last complete
    checkpoint; so is each stage of a curriculum. Raises TPOError (RecipeError, VideoError) for anything the user can mend; the data is
    checked before a model is loaded.
    """
    check_recipe(recipe)
    arguments = training_arguments(recipe)
    with held(Path(recipe.output)):
        pairs = TrainingPairs.of_recipe(recipe)
        if not staged(recipe):
            return _train(recipe, pairs, moved)
        _ = arguments.device  # joins the other processes, if there are any
        return train_stages(
            recipe,
            pairs,
            _inputs(recipe, pairs),
            _train,
            lambda whole, rows: fill_reference(whole, rows, arguments),
            moved,
        )


def _train(recipe: TrainRecipe, pairs: TrainingPairs, moved: bool) -> Path:
    """One run of a recipe without stages, in a folder that is held."""
    output, inputs = Path(recipe.output), _inputs(recipe, pairs)
    if claim(output, recipe, inputs, moved):
        logger.info("%s is finished: reusing %s", output, output / "model")
        return output / "model"
    trainer = build_trainer(recipe, training_arguments(recipe), pairs)
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
    trainer.accelerator.wait_for_everyone()  # what runs next in another process may start from this model
    return output / "model"


def _inputs(recipe: TrainRecipe, pairs: TrainingPairs) -> dict[str, str]:
    """Digests of what a run depends on beside its recipe."""
    inputs = {"pairs": stable_id([asdict(row) for row in pairs.rows]), "model": checkpoint_digest(recipe.model)}
    if recipe.reference_model is not None:
        inputs["reference model"] = checkpoint_digest(recipe.reference_model)
    return inputs


def reference(recipe: TrainRecipe) -> Path:
    """Compute the reference log-probabilities that the recipe's table on disk lacks, and return the file.

    TPOError as `train`; RecipeError where the recipe needs no such table, or makes its reference while it trains.
    """
    check_recipe(recipe)
    if recipe.path == "plain" or not needs_reference(recipe.objective):
        raise RecipeError(
            "`tpo reference` is for `path: fast` with `objective.dpo_alpha` above 0; this recipe needs no reference on disk"
        )
    if staged(recipe):
        assert recipe.curriculum is not None
        if recipe.curriculum.reference == "reset":
            raise RecipeError("each stage's reference is the model of the one before, so `tpo train` computes it")
        recipe = keeping(recipe, recipe)
    with held(Path(recipe.output)):
        pairs, arguments = TrainingPairs.of_recipe(recipe), training_arguments(recipe)
        if recipe.reference_model is None:
            build_trainer(recipe, arguments, pairs)
        else:
            fill_reference(recipe, pairs, arguments)
    return Path(recipe.reference or recipe.output) / FILE


def fill_reference(recipe: TrainRecipe, pairs: TrainingPairs, arguments: Any) -> None:
    """Complete the table of a recipe's `reference_model`, with that model alone in memory; nothing where no table is used.

    `arguments` are the run's own: under DeepSpeed, transformers divides models over the processes as the last made ones say, while they live.
    TPOError for a reference that reads texts otherwise than the model.
    """
    if recipe.path == "plain" or not needs_reference(recipe.objective):
        return
    assert recipe.reference_model is not None
    _ = arguments.device  # joins the other processes, which ask for the table together
    processor = load_processor(recipe.reference_model)
    check_words(recipe, load_processor(recipe.model), processor)
    if StoredReference.of_recipe(recipe, arguments, pairs, processor).is_complete():
        return
    build_trainer(replace(recipe, model=recipe.reference_model, reference_model=None, lora=None), arguments, pairs)
    release()


def check_recipe(recipe: TrainRecipe) -> None:
    """RecipeError for values that do not fit together."""
    checkpoint_named("model", recipe.model)
    check_frames(recipe.frames)
    at_least("max_pairs", recipe.max_pairs, 1)
    check_ratio("ratio", recipe.ratio)
    at_least("max_length", recipe.max_length, 1)
    check_trainable(recipe.trainable, recipe.lora)
    check_grouping(recipe)
    check_curriculum(recipe)
    if recipe.reference_model is not None:
        checkpoint_named("reference_model", recipe.reference_model)
    goal = recipe.objective
    if goal.dpo_alpha < 0 or goal.gamma < 0 or goal.beta <= 0 or goal.dpo_alpha == goal.gamma == 0:
        raise RecipeError(
            "`objective` needs beta > 0 and non-negative dpo_alpha and gamma, at least one of them above 0; "
            f"it has beta {goal.beta}, dpo_alpha {goal.dpo_alpha}, gamma {goal.gamma}"
        )
    if recipe.reference_model is not None and not needs_reference(goal):
        raise RecipeError("`reference_model` has no effect with `objective.dpo_alpha` 0: take it out")
    if recipe.dtype in ("bfloat16", "float16") and parts_in_full(recipe.trainable, recipe.lora):
        logger.warning(
            "weights are held in %s: updates below about 0.4 %% of a weight are lost in rounding; leave `dtype` out and set "
            "`arguments.bf16: true` to compute in bfloat16 with float32 weights",
            recipe.dtype,
        )


def check_words(recipe: TrainRecipe, processor: Any, reference: Any) -> None:
    """TPOError where the processors of the model and of its `reference_model` have other vocabularies."""
    words = [len(one.tokenizer) for one in (reference, processor)]
    if reference.tokenizer.get_vocab() != processor.tokenizer.get_vocab():
        raise TPOError(
            f"`reference_model` {recipe.reference_model} has another vocabulary ({words[0]} words) than `model` ({words[1]}): name a "
            "checkpoint of the same model"
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

    Its reference (the recipe's `reference_model`, or that checkpoint too) is a second model on the plain path; on the fast one the table on
    disk, filled here where it lacks something.
    """
    processor, fast = load_processor(recipe.model), recipe.path == "fast"
    if recipe.max_length:
        pairs.check_lengths(processor, recipe.max_length, needs_reference(recipe.objective))
    stored, reference = None, None
    if needs_reference(recipe.objective) and fast:
        if recipe.reference_model is not None:
            fill_reference(recipe, pairs, arguments)
        stored = StoredReference.of_recipe(recipe, arguments, pairs, processor)
    elif needs_reference(recipe.objective):
        if recipe.reference_model is not None:
            check_words(recipe, processor, load_processor(recipe.reference_model))
        reference = _load(recipe.reference_model or recipe.model, recipe, arguments).requires_grad_(False)
    model = _load(recipe.model, recipe, arguments)
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
        levels=order_of(recipe, [difficulty_of(row) for row in pairs.rows]),
        peft_config=lora_config(model, recipe.lora, recipe.trainable) if recipe.lora else None,
        callbacks=[KeepHistory()],
    )


def _load(checkpoint: str, recipe: TrainRecipe, arguments: Any) -> Any:
    """A checkpoint as a plain model (an adapter it brings is merged); weights in float32 unless it says otherwise."""
    dtype = "float32" if recipe.dtype == "auto" else recipe.dtype
    model = load_model(checkpoint, dtype, str(arguments.device), recipe.attn_implementation)
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
    rates = [entry["learning_rate"] for entry in trainer.state.log_history if "learning_rate" in entry]
    if rates and not any(rates):
        logger.warning(
            "nothing was learned: the learning rate was 0 in every logged step (%d steps, of which the warm-up takes the first); train on "
            "more pairs, in smaller batches, or with arguments.warmup_steps=0",
            steps,
        )
    logger.info("trained %d steps in %.0f s, saved %s", steps, about["seconds"], output / "model")
