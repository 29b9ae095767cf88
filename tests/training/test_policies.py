"""The plain policy on every supported family: tiny random models, real processors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tpo_plugin.errors import RecipeError, TPOError
from tpo_plugin.generators.base import Prompt
from tpo_plugin.integrations.huggingface import encode
from tpo_plugin.options import LoraOptions
from tpo_plugin.training.policies.hf import collate, encode_pair, score
from tpo_plugin.training.policies.parts import check_trainable, find_parts, lora_config, set_trainable


def prompts():
    rng = np.random.default_rng(0)
    texts = (
        "What shape is shown?",
        "Which way does the shape move when the background is red?",
        "List the shapes in order.",
    )
    return [
        Prompt(rng.integers(0, 255, (count, 32, 32, 3), dtype=np.uint8), tuple(range(count)), 2.0 * count, text)
        for count, text in zip((4, 7, 4), texts)
    ]


def test_scores_of_a_batch_are_those_of_each_response_alone(family):
    model, processor = family
    sides = ("circle", "a square moves left, then a star")
    pairs = [encode_pair(processor, prompt, sides) for prompt in prompts()]
    batch = collate(pairs, processor.tokenizer.pad_token_id)
    with torch.no_grad():
        found = score(model, batch["groups"])
        expected = {side: [] for side in sides}
        for prompt in prompts():
            for side in sides:
                inputs = encode(processor, [prompt])
                answer = processor.tokenizer(side + "<|im_end|>", return_tensors="pt").input_ids
                inputs["input_ids"] = torch.cat([inputs["input_ids"], answer], dim=1)
                inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
                if "mm_token_type_ids" in inputs:
                    inputs["mm_token_type_ids"] = torch.cat(
                        [inputs["mm_token_type_ids"], torch.zeros_like(answer)], dim=1
                    )
                logps = model(**inputs).logits[0, -answer.shape[1] - 1 : -1].log_softmax(-1)
                expected[side].append(logps.gather(1, answer[0][:, None]).sum().item())
    # One group of equal frame counts after the other: LlavaOnevision's order is 0, 2, 1; Qwen's batches mix them.
    order = [0, 2, 1] if len(batch["groups"]) == 2 else [0, 1, 2]
    assert found.chosen.tolist() == pytest.approx([expected[sides[0]][index] for index in order], abs=1e-4)
    assert found.rejected.tolist() == pytest.approx([expected[sides[1]][index] for index in order], abs=1e-4)
    assert found.tokens.tolist() == [len(processor.tokenizer(sides[0] + "<|im_end|>").input_ids)] * 3


@pytest.mark.parametrize("part", ["projector", "language_model", "vision_tower"])
def test_parts_cover_the_model_and_do_not_overlap(family, part):
    model, _ = family
    tower, projector = find_parts(model)
    set_trainable(model, (part,))
    learning = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    prefixes = {"projector": projector, "vision_tower": tower}
    assert learning
    for name, _ in model.named_parameters():
        inside = {key for key, prefix in prefixes.items() if name.startswith(prefix + ".")}
        owner = "projector" if "projector" in inside else "vision_tower" if inside else "language_model"
        assert (name in learning) == (owner == part), name


def test_adapters_stay_out_of_the_tower(family):
    from peft import get_peft_model

    model, _ = family
    # Qwen2.5-VL's tower has a `gate_proj`, LlavaOnevision's a `q_proj` of its own.
    adapted = get_peft_model(model, lora_config(model, LoraOptions(r=2), ("language_model", "projector")))
    try:
        learning = [name for name, parameter in adapted.named_parameters() if parameter.requires_grad]
        adapters = [name for name in learning if "lora_" in name]
        assert len(adapters) == 2 * 7 * model.config.get_text_config().num_hidden_layers
        assert all("language_model" in name for name in adapters)
        projector = "merger" if "qwen" in model.config.model_type else "multi_modal_projector"
        assert all(projector in name for name in learning if "lora_" not in name)
    finally:
        adapted.unload()


@pytest.mark.parametrize(
    "trainable", [("language_model", "vision_tower"), ("projector", "language_model", "vision_tower")]
)
def test_a_tower_with_adapters(family, trainable):
    """All linear layers of the tower learn by adapters, its other weights and the projector's not, unless that is named."""
    from peft import get_peft_model

    model, processor = family
    tower, projector = find_parts(model)
    linear = {name for name, module in model.named_modules() if type(module) is nn.Linear}
    wanted = {name for name in linear if name.startswith(tower + ".") and not name.startswith(projector + ".")}
    batch = collate(
        [encode_pair(processor, prompt, ("a", "b")) for prompt in prompts()], processor.tokenizer.pad_token_id
    )
    adapted = get_peft_model(model, lora_config(model, LoraOptions(r=2, vision_tower="adapters"), trainable))
    try:
        score(adapted, batch["groups"]).chosen.sum().backward()
        learning = {name: parameter for name, parameter in adapted.named_parameters() if parameter.requires_grad}
        with_adapters = {
            name.split(".lora_")[0].removeprefix("base_model.model.") for name in learning if ".lora_" in name
        }
        assert {name for name in with_adapters if name.startswith(tower + ".")} == wanted
        assert wanted
        assert all(parameter.grad is not None for parameter in learning.values())
        rest = {name for name in learning if ".lora_" not in name}
        assert bool(rest) == ("projector" in trainable)
        assert all(projector in name for name in rest)
    finally:
        adapted.unload()


def test_an_unknown_structure_is_refused():
    with pytest.raises(TPOError, match="cannot tell tower, projector and language model of Linear apart"):
        find_parts(nn.Linear(1, 1))


@pytest.mark.parametrize(
    ("trainable", "lora", "cure"),
    [
        (("projecter",), None, "choose from projector, language_model, vision_tower"),
        ((), None, "choose from"),
        (("projector",), LoraOptions(), "add `language_model` to `trainable`"),
        (("vision_tower", "projector"), LoraOptions(), "add `language_model` to `trainable`"),
    ],
)
def test_choices_that_cannot_be_trained_are_refused(trainable, lora, cure):
    with pytest.raises(RecipeError, match=cure):
        check_trainable(trainable, lora)
