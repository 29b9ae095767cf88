"""A tower that remembers gives the model what it would have seen itself, and processes each frame once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tpo_plugin.errors import EvaluationError
from tpo_plugin.evaluation.needle.asker import load
from tpo_plugin.evaluation.needle.grid import Cell, cells
from tpo_plugin.evaluation.needle.haystack import Scenery, read_scenery
from tpo_plugin.evaluation.needle.needles import read_needles
from tpo_plugin.generators.base import Prompt
from tpo_plugin.options import NeedleRecipe, PromptOptions

FAMILIES = ("llava_onevision", "llava_next_video", "qwen2_vl", "qwen2_5_vl")
TEXTS = ["What shape is shown?", "And which way does it move when the background is red?"]


@pytest.fixture(scope="module", params=FAMILIES)
def checkpoint(request: pytest.FixtureRequest, tiny_family: Callable[[str], Path]) -> Path:
    return tiny_family(request.param)


@pytest.fixture(scope="module")
def recipe(make_needle_recipe: Callable[..., NeedleRecipe], tmp_path_factory: pytest.TempPathFactory) -> NeedleRecipe:
    return make_needle_recipe(tmp_path_factory.mktemp("out"), frames=[5, 8], depths=[0, 0.3, 1], max_side=32)


@pytest.fixture(scope="module")
def scenery(recipe: NeedleRecipe) -> Scenery:
    return read_scenery(recipe, read_needles(recipe.needles))


def clip(scenery: Scenery, keys: tuple[Any, ...], text: str) -> Prompt:
    return Prompt(scenery.pictures(keys), tuple(map(float, range(len(keys)))), float(len(keys)), text)


def whole_call(asker: Any, prompt: Prompt) -> torch.Tensor:
    """Log-probabilities of the next token from the processor's and the model's own full call."""
    from tpo_plugin.integrations.huggingface import encode

    with torch.inference_mode():
        logits = asker.model(**encode(asker.processor, [prompt])).logits
    return logits[0, -1].log_softmax(-1)


@pytest.mark.parametrize("needle_frames", [None, 1], ids=["whole patch", "one frame"])
def test_remembered_frames_give_the_same_log_probabilities(
    checkpoint: Path, recipe: NeedleRecipe, scenery: Scenery, needle_frames: int | None
) -> None:
    asker = load(recipe, str(checkpoint), scenery)
    shown = needle_frames or asker.unit
    needle, other = list(scenery.needles)[:2]
    found = {}
    for cell in cells(recipe):
        for name in (needle, other):
            for text in TEXTS:
                keys = cell.order(name, shown)
                assert len(keys) == cell.frames + shown
                prompt = clip(scenery, keys, text)
                with torch.inference_mode(), asker.memory.shown(keys):
                    logits = asker.model(**asker.inputs(keys, prompt, TEXTS)).logits
                ours = logits[0, -1].log_softmax(-1)
                assert torch.allclose(ours, whole_call(asker, prompt), atol=1e-5, rtol=0), (cell, name, text)
                found[cell.frames, cell.depth, name, text] = ours
    places = [found[8, depth, needle, TEXTS[0]] for depth in (0.0, 1.0)]
    assert not torch.allclose(*places, atol=1e-4), "a needle in another place is another prompt"
    if shown == asker.unit:
        # 8 haystack frames, of the haystack of 5 its last pair anew where frames are joined, and each needle once.
        assert asker.memory.units_seen == (8 + 2 if asker.unit == 1 else 4 + 1 + 2)


def test_an_answer_is_the_wrappers_own(checkpoint: Path, recipe: NeedleRecipe, scenery: Scenery) -> None:
    from tpo_plugin.evaluation.wrappers.hf import TemporalHF
    from tpo_plugin.integrations.huggingface import write

    wrapper = TemporalHF(str(checkpoint), dtype="float32", device="cpu")
    asker = load(recipe, str(checkpoint), scenery)
    keys = Cell(8, 0.5).order(next(iter(scenery.needles)), asker.unit)
    prompt = clip(scenery, keys, TEXTS[0])
    greedy = {"max_new_tokens": 6, "do_sample": False}
    ((text, _),) = write(wrapper.model, wrapper.processor, [prompt], greedy)
    for _ in range(2):
        written = asker.ask(keys, prompt, TEXTS, 6)
        assert written.text == text
        assert written.prompt_tokens == asker.inputs(keys, prompt, TEXTS)["input_ids"].shape[1]
    assert "forward" not in vars(asker.memory.tower), "the tower is its own again"


def test_an_adapter_is_asked_on_its_base(recipe: NeedleRecipe, scenery: Scenery, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    from tpo_plugin.integrations.huggingface import load_model, load_processor

    base = recipe.models["base"]
    model = load_model(base, "float32", "cpu")
    targets = r"model\.language_model\..*\.q_proj"
    get_peft_model(model, LoraConfig(r=2, target_modules=targets, init_lora_weights=False)).save_pretrained(tmp_path)
    load_processor(base).save_pretrained(tmp_path)  # as `tpo train` leaves it
    keys = Cell(8, 0.5).order(next(iter(scenery.needles)))
    prompt = clip(scenery, keys, TEXTS[0])
    found = []
    for checkpoint in (base, str(tmp_path)):
        asker = load(recipe, checkpoint, scenery)
        with torch.inference_mode(), asker.memory.shown(keys):
            logits = asker.model(**asker.inputs(keys, prompt, TEXTS)).logits
        found.append(logits[0, -1].log_softmax(-1))
        assert torch.allclose(found[-1], whole_call(asker, prompt), atol=1e-5, rtol=0)
        assert asker.ask(keys, prompt, TEXTS, 2).ids[0] == int(found[-1].argmax())
    assert not torch.allclose(*found, atol=1e-3)


def test_a_prompt_of_ones_own_stands_around_frames_and_question(
    checkpoint: Path, make_needle_recipe: Callable[..., NeedleRecipe], scenery: Scenery, tmp_path: Path
) -> None:
    own = make_needle_recipe(tmp_path, prompt=PromptOptions('<|im_start|>user "{{x}}"\n', "<|im_end|>\nA:"))
    asker = load(own, str(checkpoint), scenery)
    keys = tuple(range(4))
    ids = asker.inputs(keys, clip(scenery, keys, "\nWho?"), ["\nWho?"])["input_ids"][0].tolist()
    video = asker.processor.video_token_id
    first, last = ids.index(video), len(ids) - 1 - ids[::-1].index(video)
    decode = asker.processor.tokenizer.decode
    inside = ("<|vision_start|>", "<|vision_end|>") if asker.unit == 2 else ("", "")
    assert decode(ids[:first]) == f'<|im_start|>user "{{{{x}}}}"\n{inside[0]}'
    assert decode(ids[last + 1 :]) == f"{inside[1]}\nWho?<|im_end|>\nA:"


def test_a_processor_that_makes_long_videos_smaller_is_refused(
    tiny_family: Callable[[str], Path], recipe: NeedleRecipe, scenery: Scenery
) -> None:
    asker = load(recipe, str(tiny_family("qwen2_vl")), scenery)
    video = asker.processor.video_processor
    video.cap_pixels_per_frame, video.max_video_tokens = True, 6  # two frames keep 32 px, eight get 16
    keys = tuple(range(8))
    with pytest.raises(EvaluationError, match="set `max_pixels`, or cap_pixels_per_frame to false"):
        asker.inputs(keys, clip(scenery, keys, "?"), ["?"])
    limited = load(recipe, str(tiny_family("qwen2_vl")), replace(scenery, max_pixels=1024))
    video = limited.processor.video_processor
    video.cap_pixels_per_frame, video.max_video_tokens = True, 6
    assert limited.inputs(keys, clip(scenery, keys, "?"), ["?"])["video_grid_thw"].tolist() == [[4, 4, 4]]
    with limited.memory.shown(keys), torch.inference_mode():
        ours = limited.model(**limited.inputs(keys, clip(scenery, keys, "?"), ["?"])).logits[0, -1].log_softmax(-1)
    whole = replace(clip(scenery, keys, "?"), max_pixels=1024)
    assert torch.allclose(ours, whole_call(limited, whole), atol=1e-5, rtol=0)
