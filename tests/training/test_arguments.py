"""A recipe's `arguments` are DPOConfig's fields, and nothing in them is silently without effect."""

from __future__ import annotations

from dataclasses import fields

import pytest
from trl import DPOConfig

from tpo_plugin.errors import RecipeError
from tpo_plugin.options import LoraOptions, ObjectiveOptions
from tpo_plugin.training.arguments import DEFAULTS, ELSEWHERE, UNUSED, training_arguments


def test_the_defaults_are_the_papers_schedule(make_recipe):
    config = training_arguments(make_recipe(seed=7, objective=ObjectiveOptions(beta=0.2, dpo_alpha=2.0, gamma=1.0)))
    assert config.lr_scheduler_type == "cosine"
    assert config.get_warmup_steps(100) == 10
    assert (config.num_train_epochs, config.bf16, config.report_to) == (1.0, False, [])
    assert (config.seed, config.data_seed, config.beta, config.loss_weights) == (7, 7, 0.2, [2.0, 1.0])
    assert config.remove_unused_columns is False


def test_every_field_named_here_exists_in_trl():
    known = {item.name for item in fields(DPOConfig)}
    # `do_*` and the evaluation's fields are transformers'; a field that trl drops must be dropped here.
    assert set(DEFAULTS) | set(ELSEWHERE) | set(UNUSED) <= known


def test_an_unknown_field_names_the_nearest(make_recipe):
    with pytest.raises(RecipeError, match=r"`arguments.learning_rat`; did you mean `learning_rate`"):
        training_arguments(make_recipe(arguments={"learning_rat": 1e-5}))


@pytest.mark.parametrize(("field", "place"), [("beta", "objective.beta"), ("seed", "seed"), ("output_dir", "output")])
def test_a_field_that_the_recipe_sets_elsewhere_says_where(make_recipe, field, place):
    with pytest.raises(RecipeError, match=rf"`arguments.{field}` is set by the recipe's `{place}`"):
        training_arguments(make_recipe(arguments={field: 1}))


@pytest.mark.parametrize("field", ["label_smoothing", "label_smoothing_factor"])
def test_a_field_without_effect_is_refused(make_recipe, field):
    with pytest.raises(RecipeError, match=rf"`arguments.{field}` has no effect"):
        training_arguments(make_recipe(arguments={field: 0.1}))


def test_a_token_has_no_place_in_a_recipe(make_recipe):
    with pytest.raises(RecipeError, match="environment variable HF_TOKEN") as caught:
        training_arguments(make_recipe(arguments={"hub_token": "hf_s3cret"}))
    assert "s3cret" not in str(caught.value)


def test_numbers_as_yaml_reads_them(make_recipe):
    # YAML 1.1 reads 4e-6 as a text and 2 as a whole number.
    config = training_arguments(make_recipe(arguments={"learning_rate": "4e-6", "num_train_epochs": 2}))
    assert (config.learning_rate, config.num_train_epochs) == (4e-6, 2.0)


@pytest.mark.parametrize(
    ("field", "value"),
    [("learning_rate", "fast"), ("max_steps", 2.5), ("use_cpu", "yes"), ("lr_scheduler_type", "cosin")],
)
def test_a_wrong_type_is_an_error_of_the_recipe(make_recipe, field, value):
    with pytest.raises(RecipeError, match=r"`?arguments"):
        training_arguments(make_recipe(arguments={field: value}))


def test_lora_dropout_is_not_switched_off(make_recipe):
    assert training_arguments(make_recipe()).disable_dropout is True
    assert training_arguments(make_recipe(lora=LoraOptions(dropout=0.1))).disable_dropout is False
