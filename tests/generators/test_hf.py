"""The in-process generator: the same texts whatever the batches, the order and what was asked before."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tpo_plugin.errors import TPOError
from tpo_plugin.generators import Prompt, build_generator
from tpo_plugin.generators.base import text_prompt
from tpo_plugin.generators.hf import HFGenerator
from tpo_plugin.integrations.huggingface import encode
from tpo_plugin.options import GeneratorOptions


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> GeneratorOptions:
    """An untrained tiny checkpoint: what it says is noise, but always the same noise."""
    from tpo_plugin.tiny.model import build_model, build_processor

    folder = tmp_path_factory.mktemp("checkpoint")
    torch.manual_seed(0)
    processor = build_processor()
    build_model(processor).save_pretrained(folder)
    processor.save_pretrained(folder)
    return GeneratorOptions("hf", str(folder), dtype="float32", device="cpu", batch_size=3, max_new_tokens=6)


@pytest.fixture(scope="module")
def prompts() -> list[Prompt]:
    """Different numbers of frames, different lengths of text."""
    rng = np.random.default_rng(0)
    return [
        Prompt(
            rng.integers(0, 255, (frames, 32, 32, 3), np.uint8), tuple(map(float, range(frames))), float(frames), text
        )
        for frames, text in [
            (2, "What?"),
            (5, "Who is it?"),
            (2, "Where does it go when it is done?"),
            (2, "x"),
            (5, "y"),
        ]
    ]


def test_batches_and_order_change_nothing(options: GeneratorOptions, prompts: list[Prompt]) -> None:
    generator = build_generator(options, seed=0)
    texts = asyncio.run(generator.generate(prompts))
    assert len(set(texts)) > 1, "the prompts make a difference"
    assert asyncio.run(generator.generate(prompts)) == texts
    assert asyncio.run(generator.generate(prompts[::-1])) == texts[::-1]
    single = build_generator(replace(options, batch_size=1), seed=0)
    assert asyncio.run(single.generate(prompts)) == texts
    assert asyncio.run(generator.generate([])) == []


def test_a_text_without_its_end_is_cut_off(options: GeneratorOptions, prompts: list[Prompt]) -> None:
    generator = HFGenerator(options, seed=0)
    assert {reply.problem for reply in generator.generate_now(prompts)} == {"cut_off"}, "noise has no end"
    written = []
    for prompt in prompts:
        inputs = encode(generator.processor, [prompt])
        output = generator.model.generate(**inputs, max_new_tokens=options.max_new_tokens, do_sample=False)
        written.append(output[0, inputs["input_ids"].shape[1] :].tolist())
    # What one of them says, but not the first thing that any says, is the end from now on.
    end = next(
        token
        for token in {token for ids in written for token in ids}
        if 0 < sum(token in ids for ids in written) < len(written) and token not in [ids[0] for ids in written]
    )
    generator.model.generation_config.eos_token_id = [end, generator.processor.tokenizer.pad_token_id]
    problems = [reply.problem for reply in generator.generate_now(prompts)]
    assert problems == [None if end in ids else "cut_off" for ids in written]


def test_sampling_is_seeded(options: GeneratorOptions, prompts: list[Prompt]) -> None:
    warm = replace(options, temperature=1.0)
    first = asyncio.run(build_generator(warm, seed=1).generate(prompts))
    generator = build_generator(warm, seed=1)
    asyncio.run(generator.generate(prompts[:2]))
    assert asyncio.run(generator.generate(prompts)) == first, "whatever was asked before"
    assert asyncio.run(build_generator(warm, seed=2).generate(prompts)) != first


def test_a_checkpoints_own_limits_do_not_undo_sampling(options: GeneratorOptions, prompts: list[Prompt]) -> None:
    """Qwen2-VL's and Qwen2.5-VL's checkpoints come with `top_k: 1`, with which every draw is the most likely token."""
    generator = HFGenerator(replace(options, temperature=1.0, top_p=1.0), seed=0)
    free = generator.generate_now(prompts)
    generator.model.generation_config.update(do_sample=True, temperature=0.01, top_p=0.001, top_k=1)
    assert generator.generate_now(prompts) == free != HFGenerator(options, seed=0).generate_now(prompts)


@pytest.mark.parametrize("family", ["llava_onevision", "qwen2_vl"])
def test_words_alone_are_answered_as_the_model_and_its_tokenizer_do(tiny_family, family: str) -> None:
    """By hand: the template without a video, the tokenizer's ids, the most likely token each time."""
    options = GeneratorOptions("hf", str(tiny_family(family)), dtype="float32", device="cpu", max_new_tokens=5)
    generator = HFGenerator(options, seed=0)
    tokenizer, texts = (
        generator.processor.tokenizer,
        ["What?", "Below are two shots: a red circle, a blue square.", "x"],
    )
    said = []
    for text in texts:
        message = {"role": "user", "content": [{"type": "text", "text": text}]}
        chat = generator.processor.apply_chat_template([message], add_generation_prompt=True, tokenize=False)
        ids = tokenizer(chat, return_tensors="pt")["input_ids"]
        shown = ids.shape[1]
        with torch.inference_mode():
            for _ in range(5):
                ids = torch.cat([ids, generator.model(input_ids=ids).logits[:, -1:].argmax(-1)], dim=1)
        said.append(tokenizer.decode(ids[0, shown:], skip_special_tokens=True).strip())
    assert len(set(said)) > 1
    assert "video" not in chat
    assert [reply.text for reply in generator.generate_now([text_prompt(text) for text in texts])] == said


def test_words_and_clips_in_one_call(options: GeneratorOptions, prompts: list[Prompt]) -> None:
    generator = HFGenerator(options, seed=0)
    words = [text_prompt("What?"), text_prompt("Who is it?")]
    mixed = [words[0], *prompts, words[1]]
    replies = generator.generate_now(mixed)
    assert replies == [
        *generator.generate_now(words[:1]),
        *generator.generate_now(prompts),
        *generator.generate_now(words[1:]),
    ]


def test_missing_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(TPOError, match="no checkpoint folder at"):
        build_generator(GeneratorOptions("hf", str(tmp_path / "missing")), 0)
