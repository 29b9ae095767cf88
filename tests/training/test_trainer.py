"""The trainer against a computation of its own kind: one pair at a time, whole logits, no batch."""

from __future__ import annotations

import inspect
from dataclasses import replace
from math import log

import pytest
import torch
from trl import DPOTrainer

from tpo_plugin.options import LoraOptions, ObjectiveOptions
from tpo_plugin.training.arguments import training_arguments
from tpo_plugin.training.data import TrainingPairs
from tpo_plugin.training.run import build_trainer
from tpo_plugin.video import probe, read_frames, sample_times


def trainer_of(recipe):
    recipe = replace(recipe, path="plain")
    return build_trainer(recipe, training_arguments(recipe), TrainingPairs.of_recipe(recipe))


def shake(model, scale=0.02):
    """Move the trained parameters away from the reference's."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += scale * torch.randn(parameter.shape, generator=generator)


def token_logps(model, processor, pairs, row, response):
    """Log-probabilities of a response's tokens: one sequence, straight from the video file and the chat template."""
    path = pairs.root / row.video
    frames = read_frames(path, sample_times([(0.0, probe(path).seconds)], pairs.frames))
    head = f"<|im_start|>user\n<video>\n{row.prompt}<|im_end|>\n<|im_start|>assistant\n"
    inputs = processor(text=[head], videos=[frames], do_sample_frames=False, return_tensors="pt")
    answer = processor.tokenizer(response + "<|im_end|>", return_tensors="pt").input_ids
    ids = torch.cat([inputs["input_ids"], answer], dim=1)
    logits = model(input_ids=ids, pixel_values_videos=inputs["pixel_values_videos"]).logits[0]
    length = answer.shape[1]
    return torch.stack([logits[-length - 1 + i].log_softmax(-1)[answer[0, i]] for i in range(length)])


def plain_loss(trainer, pairs, rows, objective):
    """The loss of `rows`, by the formula."""
    preference, chosen_tokens = 0.0, []
    for row in rows:
        sides = {}
        for side in ("chosen", "rejected"):
            response = getattr(row, side)
            tokens = token_logps(trainer.model, trainer.processing_class, pairs, row, response)
            with torch.no_grad():
                before = token_logps(trainer.ref_model, trainer.processing_class, pairs, row, response)
            sides[side] = objective.beta * (tokens.sum() - before.sum())
            if side == "chosen":
                chosen_tokens.append(tokens)
        preference = preference - torch.log(torch.sigmoid(sides["chosen"] - sides["rejected"])) / len(rows)
    return objective.dpo_alpha * preference - objective.gamma * torch.cat(chosen_tokens).mean()


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters() if parameter.grad is not None}


def assert_close(left, right, bound=1e-5):
    """Per tensor, relative to its largest entry (left out where the gradient is pure rounding), and over all."""
    assert left.keys() == right.keys()
    norm = torch.cat([value.flatten() for value in right.values()]).norm()
    difference = torch.cat([(left[name] - right[name]).flatten() for name in right]).norm()
    assert difference < bound * norm
    for name, value in right.items():
        if value.abs().max() > 1e-6 * norm:
            assert (left[name] - value).abs().max() <= bound * value.abs().max(), name


@pytest.mark.parametrize("rows", [[0], [0, 1, 2, 3], [1, 2]], ids=["one", "mixed lengths", "equal lengths"])
def test_loss_and_gradients_equal_the_straightforward_computation(make_recipe, rows):
    objective = ObjectiveOptions(beta=0.7, dpo_alpha=1.5, gamma=0.4)
    trainer = trainer_of(make_recipe(objective=objective))
    shake(trainer.model)
    trainer.model.train()
    pairs = trainer.data_collator.pairs
    loss = trainer.compute_loss(trainer.model, trainer.data_collator([{"row": row} for row in rows]))
    expected = plain_loss(trainer, pairs, [pairs.rows[row] for row in rows], objective)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    ours, plain = gradients(trainer.model, loss), gradients(trainer.model, expected)
    assert_close(ours, plain)
    assert not any("vision_tower" in name for name in ours)


def test_before_the_first_step_the_loss_is_log_2_plus_sft(make_recipe):
    objective = ObjectiveOptions(beta=0.3, dpo_alpha=2.0, gamma=0.5)
    trainer = trainer_of(make_recipe(objective=objective))
    loss = trainer.compute_loss(trainer.model, trainer.data_collator([{"row": row} for row in range(4)]))
    pairs = trainer.data_collator.pairs
    with torch.no_grad():
        tokens = [
            token_logps(trainer.model, trainer.processing_class, pairs, row, row.chosen) for row in pairs.rows[:4]
        ]
    assert loss.item() == pytest.approx(2.0 * log(2) - 0.5 * torch.cat(tokens).mean().item(), rel=1e-6)


def test_metrics_are_those_of_the_rows_and_apart_by_kind(make_recipe):
    trainer = trainer_of(make_recipe())
    shake(trainer.model)
    trainer.model.train()
    pairs, beta = trainer.data_collator.pairs, 0.3
    trainer.compute_loss(trainer.model, trainer.data_collator([{"row": row} for row in range(4)]))
    margins = []
    with torch.no_grad():
        for row in pairs.rows[:4]:
            change = {}
            for side in ("chosen", "rejected"):
                scored = [
                    token_logps(model, trainer.processing_class, pairs, row, getattr(row, side)).sum().item()
                    for model in (trainer.model, trainer.ref_model)
                ]
                change[side] = beta * (scored[0] - scored[1])
            margins.append(change["chosen"] - change["rejected"])
    logged = {name: values[-1] for name, values in trainer._metrics["train"].items()}
    assert logged["rewards/margins"] == pytest.approx(sum(margins) / 4, abs=1e-4)
    assert logged["rewards/margins/localized"] == pytest.approx((margins[0] + margins[2]) / 2, abs=1e-4)
    assert logged["rewards/margins/comprehensive"] == pytest.approx((margins[1] + margins[3]) / 2, abs=1e-4)
    assert logged["rewards/accuracies"] == sum(margin > 0 for margin in margins) / 4
    assert "rewards/margins/caption" not in logged


def test_two_accumulated_single_pairs_equal_a_batch_of_two(make_recipe):
    # Rows 0 and 7 have the same responses, so equally many chosen tokens: then the token means agree too.
    trainer = trainer_of(make_recipe())
    shake(trainer.model)
    batch = trainer.compute_loss(trainer.model, trainer.data_collator([{"row": 0}, {"row": 7}]))
    whole = gradients(trainer.model, batch)
    halves = [trainer.compute_loss(trainer.model, trainer.data_collator([{"row": row}])) / 2 for row in (0, 7)]
    assert_close(gradients(trainer.model, halves[0] + halves[1]), whole)


def test_sft_alone_needs_no_reference_and_no_rejected_side(make_recipe):
    trainer = trainer_of(make_recipe(objective=ObjectiveOptions(dpo_alpha=0.0, gamma=1.0)))
    assert trainer.ref_model is None
    trainer.model.train()
    batch = trainer.data_collator([{"row": 0}, {"row": 1}])
    assert [group["labels"].shape[0] for group in batch["groups"]] == [1, 1]
    loss = trainer.compute_loss(trainer.model, batch)
    pairs = trainer.data_collator.pairs
    tokens = [token_logps(trainer.model, trainer.processing_class, pairs, row, row.chosen) for row in pairs.rows[:2]]
    assert loss.item() == pytest.approx(-torch.cat(tokens).mean().item(), rel=1e-6)
    assert set(trainer._metrics["train"]) == {"loss/sft", "logps/chosen"}


def test_frozen_tower_stays_and_the_rest_moves(make_recipe):
    trainer = trainer_of(make_recipe(arguments={"max_steps": 2, "save_strategy": "no"}))
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train()
    after = trainer.model.state_dict()
    moved = {name for name in after if not torch.equal(before[name], after[name])}
    assert not any("vision_tower" in name for name in moved)
    assert {name for name in after if "multi_modal_projector" in name} <= moved
    assert sum("language_model" in name for name in moved) > 40
    for name, value in trainer.ref_model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_lora_with_a_fully_trained_projector_keeps_a_true_reference(make_recipe):
    lora = LoraOptions(r=4, alpha=8)
    trainer = trainer_of(make_recipe(lora=lora, arguments={"max_steps": 3, "save_strategy": "no", "warmup_steps": 0}))
    trained = [name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad]
    assert all(("lora_" in name) != ("multi_modal_projector" in name) for name in trained)
    assert all("language_model" in name for name in trained if "lora_" in name)
    batch = trainer.data_collator([{"row": 0}, {"row": 1}])
    start = {name: value.clone() for name, value in trainer.ref_model.state_dict().items()}
    trainer.train()
    for name, value in trainer.ref_model.state_dict().items():
        assert torch.equal(value, start[name]), name
    merged = trainer.model.merge_and_unload().state_dict()
    assert not torch.equal(
        merged["model.multi_modal_projector.linear_1.weight"], start["model.multi_modal_projector.linear_1.weight"]
    )
    assert torch.equal(
        merged["model.vision_tower.embeddings.patch_embedding.weight"],
        start["model.vision_tower.embeddings.patch_embedding.weight"],
    )
    assert len(batch["groups"]) == 2


def test_lora_alone_trains_adapters_only(make_recipe):
    recipe = make_recipe(
        lora=LoraOptions(r=4), trainable=("language_model",), objective=ObjectiveOptions(dpo_alpha=0.0)
    )
    trainer = trainer_of(recipe)
    assert all("lora_" in name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad)
    assert trainer.ref_model is None


def test_the_vision_tower_learns_where_it_is_asked_to(make_recipe):
    trainer = trainer_of(replace(make_recipe(), trainable=("vision_tower",)))
    shaken = trainer.compute_loss(trainer.model, trainer.data_collator([{"row": 0}]))
    assert all("vision_tower" in name for name in gradients(trainer.model, shaken))


def test_the_seams_of_trl_are_where_this_trainer_hooks_in():
    for name, parameters in {
        "_prepare_dataset": ["self", "dataset", "processing_class", "args", "dataset_name"],
        "_set_signature_columns_if_needed": ["self"],
        "_precompute_ref_logps": ["self", "dataset", "name", "batch_size"],
        "_get_train_sampler": ["self", "train_dataset"],
        "_load_from_checkpoint": ["self", "resume_from_checkpoint", "model"],
        "_compute_loss": ["self", "model", "inputs", "return_outputs"],
    }.items():
        assert list(inspect.signature(getattr(DPOTrainer, name)).parameters) == parameters, name
    assert "_compute_loss" in DPOTrainer.compute_loss.__code__.co_names
    assert "create_model_card" in DPOTrainer._save_checkpoint.__code__.co_names
    assert "_metrics" in DPOTrainer.log.__code__.co_names
    made = DPOTrainer.__init__.__code__.co_names
    assert {
        "_prepare_dataset",
        "_precompute_ref_logps",
        "precompute_ref_log_probs",
        "ref_model",
        "_metrics",
        "hash_module",
    } <= set(made)
    assert DPOTrainer.loss_is_scaled_for_ga is False


def test_gradient_checkpointing_changes_nothing(make_recipe):
    losses = []
    for on in (False, True):
        trainer = trainer_of(
            make_recipe(arguments={"gradient_checkpointing": on, "max_steps": 3, "save_strategy": "no"})
        )
        trainer.train()
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
