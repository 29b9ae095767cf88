"""Prompts of words alone, with upstream's own model classes."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import torch

from tpo_plugin.generators import Prompt
from tpo_plugin.generators.base import text_prompt
from tpo_plugin.generators.llava import LlavaGenerator
from tpo_plugin.integrations.llava_family.writing import generate
from tpo_plugin.options import GeneratorOptions

TEMPLATE = "qwen_1_5"
GREEDY = {"max_new_tokens": 8, "do_sample": False, "temperature": None, "top_p": None, "top_k": None}


def test_words_alone_are_answered_by_upstreams_generate_without_images(world: Any, forget_upstream: Any) -> None:
    forget_upstream()
    paths = str(world.model), str(world.checkout.path)
    options = GeneratorOptions("llava", *paths, dtype="float32", device="cpu", batch_size=3, max_new_tokens=8)
    generator = LlavaGenerator(options, seed=0)
    loaded = generator.loaded
    conversation = importlib.import_module(f"{world.checkout.package}.conversation")
    words = [text_prompt(text) for text in ("What?", "Below are two shots: a red circle, a blue square.", "x")]
    together, _ = generate(loaded, words, TEMPLATE, GREEDY)
    for row, prompt in zip(together, words):
        talk = conversation.conv_templates[TEMPLATE].copy()
        talk.append_message(talk.roles[0], prompt.text)
        talk.append_message(talk.roles[1], None)
        ids = loaded.tokenizer(talk.get_prompt(), return_tensors="pt").input_ids
        with torch.inference_mode():
            alone = loaded.model.generate(ids, pad_token_id=loaded.tokenizer.pad_token_id, **GREEDY)
        assert alone[0].tolist() == row.tolist()
    clips = [Prompt(np.full((frames, 64, 64, 3), 90, np.uint8), (0.0,) * frames, 1.0, "Who?") for frames in (2, 5)]
    said = generator.generate_now(words)
    assert len({reply.text for reply in said}) > 1
    assert generator.generate_now([*words, *clips]) == [*said, *generator.generate_now(clips)]
    forget_upstream()
