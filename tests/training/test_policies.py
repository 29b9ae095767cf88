"""The plain policy on every supported family: tiny random models, real processors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
)
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

from tpo_plugin.errors import RecipeError, TPOError
from tpo_plugin.generators.base import Prompt
from tpo_plugin.integrations.huggingface import encode, load_model, load_processor
from tpo_plugin.options import LoraOptions
from tpo_plugin.tiny.model import build_tokenizer
from tpo_plugin.training.policies.hf import collate, encode_pair, score
from tpo_plugin.training.policies.parts import check_trainable, find_parts, lora_config, set_trainable

FAMILIES = ("llava_onevision", "qwen2_vl", "qwen2_5_vl")
QWEN_TOKENS = {
    "vision_start_token_id": "<|vision_start|>",
    "vision_end_token_id": "<|vision_end|>",
    "image_token_id": "<|image_pad|>",
    "video_token_id": "<|video_pad|>",
}
QWEN_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def build_qwen(family, folder):
    """Save a tiny Qwen2-VL or Qwen2.5-VL with its processor."""
    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": list(QWEN_TOKENS.values())})
    ids = {key: tokenizer.convert_tokens_to_ids(token) for key, token in QWEN_TOKENS.items()}
    size = {"shortest_edge": 16 * 16, "longest_edge": 32 * 32 * 64}
    tools = {
        "image_processor": Qwen2VLImageProcessor(patch_size=8, size=size),
        "video_processor": Qwen2VLVideoProcessor(patch_size=8, size=size),
        "tokenizer": tokenizer,
        "chat_template": QWEN_TEMPLATE,
    }
    text = {
        "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id,
        "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0},
        "initializer_range": 0.2,
    }  # fmt: skip
    vision = {"depth": 2, "hidden_size": 32, "num_heads": 2, "patch_size": 8}
    torch.manual_seed(0)
    if family == "qwen2_vl":
        config = Qwen2VLConfig(text_config=text, vision_config={**vision, "embed_dim": 32, "mlp_ratio": 2}, **ids)
        model, processor = Qwen2VLForConditionalGeneration(config), Qwen2VLProcessor(**tools)
    else:
        vision |= {"out_hidden_size": 32, "intermediate_size": 64, "window_size": 32, "fullatt_block_indexes": [1]}
        config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, **ids)
        model, processor = Qwen2_5_VLForConditionalGeneration(config), Qwen2_5_VLProcessor(**tools)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, base, tmp_path_factory):
    """Model and processor of a family."""
    folder = base
    if request.param != "llava_onevision":
        folder = tmp_path_factory.mktemp(request.param)
        build_qwen(request.param, folder)
    return load_model(str(folder), "float32", "cpu"), load_processor(str(folder))


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
    assert found.chosen_tokens.sum().item() == pytest.approx(sum(expected[sides[0]]), abs=1e-4)


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


def test_an_unknown_structure_is_refused():
    with pytest.raises(TPOError, match="cannot tell tower, projector and language model of Linear apart"):
        find_parts(nn.Linear(1, 1))


@pytest.mark.parametrize(
    ("trainable", "lora", "cure"),
    [
        (("projecter",), None, "choose from projector, language_model, vision_tower"),
        ((), None, "choose from"),
        (("projector",), LoraOptions(), "add `language_model` to `trainable`"),
        (("language_model", "vision_tower"), LoraOptions(), "take `vision_tower` out"),
    ],
)
def test_choices_that_cannot_be_trained_are_refused(trainable, lora, cure):
    with pytest.raises(RecipeError, match=cure):
        check_trainable(trainable, lora)
