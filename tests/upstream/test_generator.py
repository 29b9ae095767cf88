"""The in-process generator with upstream's own model classes: what upstream's inference says, in batches too."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from tpo_plugin.errors import TPOError
from tpo_plugin.generators import Prompt, build_generator
from tpo_plugin.generators.llava import LlavaGenerator
from tpo_plugin.integrations.llava_family.model import Loaded
from tpo_plugin.integrations.llava_family.writing import encode, generate
from tpo_plugin.options import GeneratorOptions

TEMPLATE = "qwen_1_5"
GREEDY = {"max_new_tokens": 8, "do_sample": False, "temperature": None, "top_p": None, "top_k": None}


@pytest.fixture(scope="module")
def options(world: Any, forget_upstream: Any) -> Iterator[GeneratorOptions]:
    forget_upstream()
    yield GeneratorOptions(
        "llava",
        str(world.model),
        str(world.checkout.path),
        dtype="float32",
        device="cpu",
        batch_size=3,
        max_new_tokens=8,
    )
    forget_upstream()


@pytest.fixture(scope="module")
def generator(options: GeneratorOptions) -> LlavaGenerator:
    made = build_generator(options, seed=0)
    assert isinstance(made, LlavaGenerator)
    return made


@pytest.fixture(scope="module")
def prompts() -> list[Prompt]:
    """Different numbers and sizes of frames, different lengths of text."""
    rng = np.random.default_rng(0)
    return [
        Prompt(rng.integers(0, 255, (frames, height, 64, 3), np.uint8), tuple(range(frames)), float(frames), text)
        for frames, height, text in [
            (5, 64, "Who is it?"),
            (2, 48, "Where does it go when it is done?"),
            (9, 64, "x"),
            (1, 64, "What shape is shown?"),
        ]
    ]


def copied(options: GeneratorOptions, folder: Path, **config: Any) -> GeneratorOptions:
    """The options with a copy of their checkpoint; `config` replaces values in its config.json, None leaves one out."""
    shutil.copytree(options.model, folder)
    values = json.loads((folder / "config.json").read_text()) | config
    (folder / "config.json").write_text(json.dumps({key: value for key, value in values.items() if value is not None}))
    return replace(options, model=str(folder))


def logits(loaded: Loaded, prompts: list[Prompt], ids: torch.Tensor) -> torch.Tensor:
    """The logits (B, T, vocabulary) with which `ids` (B, T) are written, in one pass without a cache."""
    with torch.inference_mode():
        inputs = encode(loaded, prompts, TEMPLATE)
        embeds = torch.cat([inputs["inputs_embeds"], loaded.model.get_input_embeddings()(ids)], dim=1)
        mask = torch.cat([inputs["attention_mask"], torch.ones_like(ids)], dim=1)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        output = loaded.model(inputs_embeds=embeds, attention_mask=mask, position_ids=positions)
    return output.logits[:, -ids.shape[1] - 1 : -1]


def test_a_batch_of_different_lengths_says_what_each_prompt_says_alone(
    generator: LlavaGenerator, options: GeneratorOptions, prompts: list[Prompt]
) -> None:
    texts = generator.generate_now(prompts)
    assert len(set(texts)) == len(prompts), "the prompts make a difference"
    assert generator.generate_now(prompts) == texts
    assert generator.generate_now(prompts[::-1]) == texts[::-1]
    assert generator.generate_now([]) == []
    assert generator.sharing(replace(options, batch_size=1)).generate_now(prompts) == texts

    together, _ = generate(generator.loaded, prompts, TEMPLATE, GREEDY)
    assert together.shape == (len(prompts), 8), "new tokens only"
    for index, prompt in enumerate(prompts):
        alone, _ = generate(generator.loaded, [prompt], TEMPLATE, GREEDY)
        assert alone.tolist() == [together[index].tolist()]
        in_batch = logits(generator.loaded, prompts, together)[index]
        assert in_batch.std() > 0.1
        assert torch.allclose(in_batch, logits(generator.loaded, [prompt], alone)[0], atol=1e-4, rtol=0)
        # The greedy ids are the ones of these logits, so generation padded and placed its positions alike.
        assert in_batch.argmax(-1).tolist() == alone[0].tolist()


def test_the_ids_of_upstreams_own_loader_and_snippet(
    options: GeneratorOptions, world: Any, prompts: list[Prompt], tmp_path: Path
) -> None:
    """The documented inference (LLaVA-NeXT docs/LLaVA_Video_1003.md, LongVA README.md), greedy, on one video."""
    from safetensors.torch import load_file, save_file

    options = copied(options, tmp_path / "half-longva-llava-qwen")
    weights = (
        Path(options.model) / "model.safetensors"
    )  # values that float16, upstream's loader's only choice here, keeps
    save_file({name: tensor.half().float() for name, tensor in load_file(weights).items()}, weights, {"format": "pt"})
    generator = LlavaGenerator(options, seed=0)
    package = world.checkout.package
    builder, constants, conversation, mm_utils = (
        importlib.import_module(f"{package}.{name}")
        for name in ("model.builder", "constants", "conversation", "mm_utils")
    )
    precision = {} if package == "longva" else {"torch_dtype": "float16"}
    tokenizer, model, processor, _ = builder.load_pretrained_model(
        options.model, None, "llava_qwen", device_map="auto", attn_implementation="sdpa", **precision
    )
    model = model.float().eval()
    assert model.config.__dict__.get("tokenizer_padding_side") != "left", "another model than ours"
    for prompt in prompts:
        talk = conversation.conv_templates[TEMPLATE].copy()
        talk.append_message(talk.roles[0], f"{constants.DEFAULT_IMAGE_TOKEN}\n{prompt.text}")
        talk.append_message(talk.roles[1], None)
        ids = mm_utils.tokenizer_image_token(
            talk.get_prompt(), tokenizer, constants.IMAGE_TOKEN_INDEX, return_tensors="pt"
        )
        video = processor.preprocess(prompt.frames, return_tensors="pt")["pixel_values"]
        expected = model.generate(
            ids.unsqueeze(0),
            images=[video],
            modalities=["video"],
            do_sample=False,
            max_new_tokens=8,
            pad_token_id=tokenizer.pad_token_id,
        )
        found, _ = generate(generator.loaded, [prompt], TEMPLATE, GREEDY)
        assert found.tolist() == expected.tolist()


def test_a_text_without_its_end_is_cut_off(generator: LlavaGenerator, prompts: list[Prompt]) -> None:
    ids = [row.tolist() for row in generate(generator.loaded, prompts, TEMPLATE, GREEDY)[0]]
    assert {reply.problem for reply in generator.generate_now(prompts)} == {"cut_off"}, "noise has no end"
    # What one of them says, but not the first thing that any says, is the end from now on.
    end = next(
        token
        for token in sorted({token for row in ids for token in row})
        if 0 < sum(token in row for row in ids) < len(ids) and token not in [row[0] for row in ids]
    )
    settings = generator.loaded.model.generation_config
    before, settings.eos_token_id = settings.eos_token_id, [end]
    try:
        problems = [reply.problem for reply in generator.generate_now(prompts)]
    finally:
        settings.eos_token_id = before
    assert problems == [None if end in row else "cut_off" for row in ids]


def test_the_templates_end_of_turn_is_an_end_whatever_the_checkpoint_says(
    generator: LlavaGenerator, prompts: list[Prompt]
) -> None:
    """A checkpoint of the base language model's generation config (`<|endoftext|>` alone) would go on with another turn."""
    model, tokenizer = generator.loaded.model, generator.loaded.tokenizer
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    first = generate(generator.loaded, prompts[:1], TEMPLATE, GREEDY)[0][0, 0]
    settings, head = model.generation_config, model.lm_head.weight.data
    before, settings.eos_token_id = settings.eos_token_id, tokenizer.convert_tokens_to_ids("<|endoftext|>")
    kept = head[end].clone()
    head[end] = head[first] * 2  # now the end is what it says first
    try:
        assert generate(generator.loaded, prompts[:1], TEMPLATE, GREEDY)[0].tolist() == [[end]]
        assert generator.generate_now(prompts[:1])[0].problem == "empty_reply"
    finally:
        head[end], settings.eos_token_id = kept, before


def test_sampling_is_seeded(generator: LlavaGenerator, options: GeneratorOptions, prompts: list[Prompt]) -> None:
    warm = generator.sharing(replace(options, temperature=1.0))
    first = warm.generate_now(prompts)
    warm.generate_now(prompts[:2])
    assert warm.generate_now(prompts) == first, "whatever was asked before"
    assert warm.loaded is generator.loaded
    warm.seed = 1
    assert warm.generate_now(prompts) != first


def test_a_placeholder_in_a_question_takes_no_other_prompts_frames(
    generator: LlavaGenerator, prompts: list[Prompt]
) -> None:
    marked = [replace(prompts[0], text=f"<image>{prompts[0].text}"), *prompts[1:]]
    assert generator.generate_now(marked) == generator.generate_now(prompts)


@pytest.mark.parametrize("parts", [None, "mm_vision_tower,mm_mlp_adapter"])
def test_the_checkpoints_tower_goes_before_the_towers_own_folder(
    options: GeneratorOptions, tmp_path: Path, parts: str | None
) -> None:
    from safetensors.torch import load_file, save_file

    prefix = "model.vision_tower.vision_tower."
    name = f"{prefix}vision_model.encoder.layers.0.mlp.fc1.weight"
    other = copied(options, tmp_path / "checkpoint", mm_tunable_parts=parts)
    file = Path(other.model) / "model.safetensors"
    weights = load_file(file)

    def loaded() -> torch.Tensor:
        return dict(LlavaGenerator(other, seed=0).loaded.model.named_parameters())[name]

    save_file({**weights, name: weights[name] * 2}, file, {"format": "pt"})
    assert torch.equal(loaded(), weights[name] * 2)
    save_file({key: value for key, value in weights.items() if not key.startswith(prefix)}, file, {"format": "pt"})
    assert torch.equal(loaded(), weights[name]), "a checkpoint without a tower"
    del weights[name]
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(TPOError, match=f"cannot load .* lacks 1 weights, the first is {name}"):
        loaded()


def test_an_adapter_and_the_weights_beside_it(
    generator: LlavaGenerator, options: GeneratorOptions, prompts: list[Prompt], tmp_path: Path
) -> None:
    """The folder that the DPO scripts write with --lora_enable, for the language model and the projector."""
    from peft import LoraConfig, get_peft_model

    trained = LlavaGenerator(options, seed=0).loaded
    config = LoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=r"(?!.*(vision_tower|mm_projector)).*\.(q_proj|up_proj)",
        task_type="CAUSAL_LM",
        base_model_name_or_path=options.model,
    )
    wrapped = get_peft_model(trained.model, config)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_" in name or "mm_projector" in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    wrapped.save_pretrained(tmp_path)
    torch.save(
        {name: tensor for name, tensor in wrapped.state_dict().items() if "mm_projector" in name},
        tmp_path / "non_lora_trainables.bin",
    )
    assert not (tmp_path / "config.json").exists(), "its base's will do"
    adapted = LlavaGenerator(replace(options, model=str(tmp_path)), seed=0)
    ids, _ = generate(adapted.loaded, prompts, TEMPLATE, GREEDY)
    expected = logits(trained, prompts, ids)
    assert torch.allclose(logits(adapted.loaded, prompts, ids), expected, atol=1e-4, rtol=0)
    assert not torch.allclose(logits(generator.loaded, prompts, ids), expected, atol=1e-1, rtol=0)

    torch.save({"model.mm_projector.9.weight": torch.zeros(1)}, tmp_path / "non_lora_trainables.bin")
    with pytest.raises(TPOError, match=r"does not belong to this model: it has no model\.mm_projector\.9\.weight"):
        LlavaGenerator(replace(options, model=str(tmp_path)), seed=0)


def test_precision_of_a_loaded_model(options: GeneratorOptions, prompts: list[Prompt]) -> None:
    loaded = LlavaGenerator(replace(options, dtype="bfloat16"), seed=0).loaded
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.bfloat16}
    written, _ = generate(loaded, prompts, TEMPLATE, GREEDY)
    assert written.shape == (len(prompts), 8)


def test_errors_name_the_cure(
    generator: LlavaGenerator, options: GeneratorOptions, prompts: list[Prompt], world: Any, tmp_path: Path
) -> None:
    with pytest.raises(TPOError, match=r"no conversation template `qwen`; it has .*qwen_1_5"):
        generator.sharing(replace(options, conv_template="qwen")).generate_now(prompts)
    short = LlavaGenerator(copied(options, tmp_path / "short", tokenizer_model_max_length=60), seed=0)
    assert short.generate_now(prompts[3:]), "this one fits"
    with pytest.raises(TPOError, match=r"[59] frames fills the model's context of 60 tokens: lower `frames\.max`"):
        short.generate_now(prompts)
    with pytest.raises(TPOError, match=r"cannot load .*no-such-tower"):
        LlavaGenerator(copied(options, tmp_path / "blind", mm_vision_tower="/no-such-tower"), seed=0)
    root, package = world.checkout.root.relative_to(world.checkout.path), world.checkout.package
    shutil.copytree(world.checkout.root / package, tmp_path / "other" / root / package)
    with pytest.raises(TPOError, match=r"comes from .*: start a new process"):
        LlavaGenerator(replace(options, upstream=str(tmp_path / "other")), seed=0)


def test_one_process_holds_one_code_base(
    options: GeneratorOptions, world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, title = ("longva", "LongVA") if world.checkout.package == "llava" else ("llava", "LLaVA-NeXT")
    monkeypatch.setitem(sys.modules, other, ModuleType(other))
    with pytest.raises(TPOError, match=f"has loaded {title} already, .* use one of them in a recipe"):
        LlavaGenerator(options, seed=0)


def test_a_package_that_upstream_lacks_is_named(
    options: GeneratorOptions, world: Any, forget_upstream: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forget_upstream()
    root, package = world.checkout.root.relative_to(world.checkout.path), world.checkout.package
    copy = tmp_path / root / package
    shutil.copytree(world.checkout.root / package, copy)
    (copy / "mm_utils.py").write_text("import no_such_package")
    try:
        with pytest.raises(TPOError, match=r"cannot import .* printed above .*; `tpo doctor") as caught:
            LlavaGenerator(replace(options, upstream=str(tmp_path)), seed=0)
        assert "No module named 'no_such_package'" in f"{caught.value}{capsys.readouterr().out}"
    finally:
        forget_upstream()
