"""Whole runs on the fast path against the plain one: the same losses and weights, in every way to train."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from tpo_plugin import recipe as recipes
from tpo_plugin.errors import RecipeError, TPOError
from tpo_plugin.integrations.huggingface import load_model, load_processor
from tpo_plugin.options import LoraOptions, ObjectiveOptions
from tpo_plugin.training.arguments import training_arguments
from tpo_plugin.training.data import PairCollator, TrainingPairs
from tpo_plugin.training.run import build_trainer, train

# Two epochs of two steps, each of two batches of two pairs.
TWO_EPOCHS = {"num_train_epochs": 2, "gradient_accumulation_steps": 2, "save_strategy": "no"}
LOGGED = ("loss", "loss/dpo", "loss/sft", "rewards/margins", "logps/chosen", "logps/rejected")
# The true gradient of a key's bias is zero: AdamW makes steps of full size from its rounding, which change nothing.
NO_GRADIENT = "k_proj.bias"


def outcome(recipe, output):
    train(replace(recipe, output=str(output)))
    return json.loads((output / "history.json").read_text()), load_model(
        str(output / "model"), "float32", "cpu"
    ).state_dict()


def assert_same_run(one, other):
    assert len(one[0]) == len(other[0])
    for first, second in zip(one[0], other[0]):
        for name in LOGGED:
            assert first[name] == pytest.approx(second[name], rel=1e-5, abs=1e-4 if name != "loss" else 1e-5), name
    for name, weight in one[1].items():
        if not name.endswith(NO_GRADIENT):
            torch.testing.assert_close(weight, other[1][name], rtol=1e-4, atol=1e-4, msg=name)


@pytest.mark.parametrize("checkpointing", [False, True], ids=["", "checkpointing"])
@pytest.mark.parametrize("lora", [None, LoraOptions(r=4, alpha=8)], ids=["full", "lora"])
def test_a_run_is_the_plain_run(make_recipe, tmp_path, lora, checkpointing):
    recipe = make_recipe(lora=lora, arguments={**TWO_EPOCHS, "gradient_checkpointing": checkpointing})
    plain = outcome(replace(recipe, path="plain"), tmp_path / "plain")
    fast = outcome(recipe, tmp_path / "fast")
    assert plain[0][0]["loss"] != pytest.approx(plain[0][-1]["loss"], rel=0.05)
    assert_same_run(fast, plain)


@pytest.mark.parametrize("parts", [("vision_tower",), ("projector", "language_model", "vision_tower")])
def test_a_trained_tower_is_the_plain_run_and_said(make_recipe, tmp_path, parts, caplog):
    recipe = make_recipe(trainable=parts, arguments={"max_steps": 2, "save_strategy": "no"})
    with caplog.at_level("INFO"):
        fast = outcome(recipe, tmp_path / "fast")
    assert "the vision tower is trained: it runs, with gradient, once a video in each step" in caplog.text
    assert_same_run(fast, outcome(replace(recipe, path="plain"), tmp_path / "plain"))


def test_sft_alone_is_the_plain_run_without_a_reference(make_recipe, tmp_path):
    recipe = make_recipe(objective=ObjectiveOptions(dpo_alpha=0.0, gamma=1.0), arguments=TWO_EPOCHS)
    train(replace(recipe, output=str(tmp_path / "fast")))
    train(replace(recipe, path="plain", output=str(tmp_path / "plain")))
    assert not (tmp_path / "fast" / "reference.jsonl").exists()
    losses = [
        [entry["loss"] for entry in json.loads((tmp_path / path / "history.json").read_text())]
        for path in ("fast", "plain")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("count", [1, 2])
def test_two_processes_are_one_with_twice_the_accumulation(make_recipe, ranks, tmp_path, count):
    recipe = make_recipe(arguments={**TWO_EPOCHS, "gradient_accumulation_steps": 1}, pairs_per_video=count)
    recipes.save(replace(recipe, output=str(tmp_path / "two")), tmp_path)
    ranks("train", tmp_path / "recipe.yaml")
    two = (
        json.loads((tmp_path / "two" / "history.json").read_text()),
        load_model(str(tmp_path / "two" / "model"), "float32", "cpu").state_dict(),
    )
    alone = replace(recipe, arguments={**recipe.arguments, "gradient_accumulation_steps": 2})
    one = outcome(alone, tmp_path / "one")
    assert [entry["loss"] for entry in two[0]] == pytest.approx([entry["loss"] for entry in one[0]], rel=1e-5)
    for name, weight in one[1].items():
        if not name.endswith(NO_GRADIENT):
            torch.testing.assert_close(two[1][name], weight, rtol=1e-4, atol=1e-4, msg=name)


def trainer_of(recipe):
    return build_trainer(recipe, training_arguments(recipe), TrainingPairs.of_recipe(recipe))


def shake(model):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.02 * torch.randn(parameter.shape, generator=generator)


def accumulated(trainer, batches):
    """The gradients of one step over these batches of rows."""
    trainer.model.train()
    trainer.model.zero_grad()
    for rows in batches:
        batch = trainer.data_collator([{"row": row} for row in rows])
        (trainer.compute_loss(trainer.model, batch) / len(batches)).backward()
    return {name: one.grad.clone() for name, one in trainer.model.named_parameters() if one.grad is not None}


def assert_same_gradients(one, other):
    norm = torch.stack([value.norm() for value in other.values()]).norm()
    assert one.keys() == other.keys()
    for name, value in other.items():
        if value.abs().max() > 1e-6 * norm:
            assert (one[name] - value).abs().max() <= 1e-5 * value.abs().max(), name
    assert torch.stack([(one[name] - other[name]).norm() for name in other]).norm() <= 1e-5 * norm


def test_grouped_pairs_have_the_gradient_of_single_ones(make_recipe):
    # Rows 0 and 4 are of one video, 1 and 5 of another; their answers differ in length.
    grouped = trainer_of(make_recipe(pairs_per_video=2))
    single = trainer_of(make_recipe(arguments={"per_device_train_batch_size": 1}))
    plain = trainer_of(make_recipe(path="plain", arguments={"per_device_train_batch_size": 1}))
    for trainer in (grouped, single, plain):
        shake(trainer.model)
    expected = accumulated(plain, [[0], [4], [1], [5]])
    assert_same_gradients(accumulated(single, [[0], [4], [1], [5]]), expected)
    assert_same_gradients(accumulated(grouped, [[0, 4], [1, 5]]), expected)
    assert_same_gradients(accumulated(grouped, [[0, 4, 1, 5]]), expected)


def test_grouped_batches_are_of_one_video_and_a_resumed_run_is_the_unbroken_one(make_recipe, tmp_path, monkeypatch):
    seen = []
    collate = PairCollator.__call__

    def watched(collator, features):
        seen.append([collator.pairs.rows[feature["row"]].video for feature in features])
        return collate(collator, features)

    monkeypatch.setattr(PairCollator, "__call__", watched)
    recipe = make_recipe(
        pairs_per_video=2, arguments={"num_train_epochs": 2, "save_steps": 2, "save_total_limit": None}
    )
    unbroken = outcome(recipe, tmp_path / "out")
    assert all(len(set(videos)) == 1 for videos in seen)
    assert sorted(videos[0] for videos in seen[4:8]) == sorted(videos[0] for videos in seen[8:])
    assert seen[4:8] != seen[8:]
    for checkpoint in (4, 6):
        for step in range(checkpoint + 1, 9):
            folder = tmp_path / "out" / f"checkpoint-{step}"
            for file in folder.glob("*"):
                file.unlink()
        (tmp_path / "out" / "done.json").unlink()
        again = outcome(recipe, tmp_path / "out")
        assert [entry["loss"] for entry in again[0]] == [entry["loss"] for entry in unbroken[0]]
        assert all(torch.equal(again[1][name], weight) for name, weight in unbroken[1].items())


@pytest.mark.parametrize(
    ("arguments", "cure"),
    [
        ({"per_device_train_batch_size": 4}, "multiple of 3"),
        ({"per_device_train_batch_size": 3, "train_sampling_strategy": "random"}, "take `arguments.train_sampling"),
    ],
)
def test_what_does_not_fit_groups_is_refused(make_recipe, arguments, cure):
    with pytest.raises(RecipeError, match=cure):
        train(make_recipe(pairs_per_video=3, arguments=arguments))


def test_adapters_drop_out_in_training_and_not_in_the_reference(make_recipe, tmp_path):
    dropping = trainer_of(make_recipe(lora=LoraOptions(r=4, dropout=0.5)))
    certain = trainer_of(make_recipe(lora=LoraOptions(r=4), output=str(tmp_path / "certain")))
    for trainer in (dropping, certain):
        shake(trainer.model)
    assert torch.equal(dropping.reference, certain.reference)
    batch = dropping.data_collator([{"row": 0}, {"row": 1}])

    def loss(trainer, training):
        return trainer.compute_loss(trainer.model.train(training), batch).item()

    assert loss(dropping, True) != loss(dropping, True)
    assert loss(dropping, False) == loss(certain, True)


def test_a_frozen_tower_is_not_differentiated_with_adapters_and_checkpointing(make_recipe):
    arguments = {"gradient_checkpointing": True, "max_steps": 1, "save_strategy": "no"}
    trainer = trainer_of(make_recipe(lora=LoraOptions(r=4), arguments=arguments))
    found = []
    tower = trainer.model.get_base_model().model.vision_tower
    tower.register_forward_hook(lambda module, inputs, output: found.append(output.last_hidden_state.requires_grad))
    trainer.train()
    assert found
    assert not any(found)


def test_a_video_is_read_once_for_its_pairs_and_the_sequences_stay(make_recipe, base):
    pairs = TrainingPairs.of_recipe(make_recipe())
    collator = PairCollator(pairs, load_processor(str(base)), True, trees=True)
    reads = []
    prompt = pairs.prompt
    pairs.prompt = lambda index: reads.append(index) or prompt(index)
    batch = collator([{"row": row} for row in (0, 1, 4, 5)])
    assert reads == [0, 1]
    assert batch["rows"] == [0, 4, 1, 5]
    assert batch["kinds"] == ["localized", "localized", "comprehensive", "comprehensive"]
    for row in (4, 5):
        [_, shared] = collator.encode_group([row - 4, row])
        alone = collator.encode(row)
        assert torch.equal(shared.prompt["input_ids"], alone.prompt["input_ids"])
        assert list(shared.prompt) == ["input_ids"]


def test_a_response_without_tokens_names_its_row(make_recipe, base):
    pairs, processor = TrainingPairs.of_recipe(make_recipe()), load_processor(str(base))
    processor.chat_template = "{% for message in messages %}{% for part in message['content'] %}{{ '<video>' if part['type'] == 'video' else part['text'] }}{% endfor %}{% endfor %}"
    pairs.rows[2] = replace(pairs.rows[2], rejected="")
    with pytest.raises(TPOError, match="row pair2: a response has no tokens"):
        PairCollator(pairs, processor, True, trees=True)([{"row": 2}])
