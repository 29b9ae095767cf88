"""`tpo_hf` says what the model itself says, of what training shows, for all four families."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.video_utils import VideoMetadata

from tpo_plugin.dataset.pairs import Row
from tpo_plugin.errors import TPOError
from tpo_plugin.evaluation.wrappers import hf
from tpo_plugin.evaluation.wrappers.hf import FAMILIES, TemporalHF
from tpo_plugin.integrations.huggingface import encode, load_model
from tpo_plugin.options import FrameOptions
from tpo_plugin.training.data import PairCollator, TrainingPairs
from tpo_plugin.video import probe, read_frames, sample_times

FRAMES = FrameOptions(fps=0.5, max=10)


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tiny_family: Any) -> Path:
    return tiny_family(request.param)


@pytest.fixture(scope="module")
def model(folder: Path) -> TemporalHF:
    return TemporalHF(str(folder), fps=0.5, max_frames_num=10)


def directly(folder: Path, video: Path, text: str, tokens: int) -> Any:
    """What transformers' own processor and model generate about the video, with the logits (step, vocabulary)."""
    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    seconds = probe(video).seconds
    frames = read_frames(video, sample_times([(0.0, seconds)], FRAMES))
    messages = [{"role": "user", "content": [{"type": "video"}, {"type": "text", "text": text}]}]
    inputs = processor(
        text=[processor.apply_chat_template(messages, add_generation_prompt=True)],
        videos=[list(frames)],
        video_metadata=[VideoMetadata(len(frames), len(frames) / seconds, duration=seconds, frames_indices=list(range(len(frames))))],
        do_sample_frames=False,
        return_tensors="pt",
    )  # fmt: skip
    with torch.inference_mode():
        return (
            processor,
            model.generate(
                **inputs, max_new_tokens=tokens, do_sample=False, output_logits=True, return_dict_in_generate=True
            ),
            inputs,
        )


def test_logits_and_answers_are_those_of_processor_and_model(folder, model, questions, ask):
    seen: list[torch.Tensor] = []
    hook = model.model.register_forward_hook(lambda module, inputs, output: seen.append(output.logits[:, -1]))
    for video, text in questions[:2]:
        seen.clear()
        answer = model.generate_until(ask(model, [(video, text)]))[0]
        processor, written, inputs = directly(folder, video, text, 6)
        ids = written.sequences[:, inputs["input_ids"].shape[1] :]
        assert answer == processor.batch_decode(ids, skip_special_tokens=True)[0].strip()
        assert torch.allclose(torch.cat(seen), torch.cat(written.logits), atol=1e-5, rtol=0)
        assert torch.cat(seen).std() > 0.05
    hook.remove()


def test_a_batch_says_what_each_question_says_alone(folder, model, questions, ask):
    batched = TemporalHF(str(folder), fps=0.5, max_frames_num=10, batch_size=3)
    alone = model.generate_until(ask(model, questions))
    assert batched.generate_until(ask(batched, questions)) == alone
    assert len(set(alone)) > 1


@pytest.mark.parametrize("times", [False, True])
def test_frames_times_and_prompt_are_those_of_training(folder, questions, ask, times):
    frames = FrameOptions(fps=0.5, max=10, max_side=40, time_instruction=times)
    model = TemporalHF(str(folder), fps=0.5, max_frames_num=10, max_side=40, time_instruction=times)
    video, text = questions[1]
    pairs = TrainingPairs([Row("a", video.name, text, "yes", "no")], video.parent, frames)
    trained, shown = pairs.prompt(0), model.prompt(model.plan(ask(model, [(video, text)]))[0])
    assert (shown.frames == trained.frames).all()
    assert shown.frames.shape == (10, 40, 40, 3)
    assert (shown.times, shown.seconds, shown.text) == (trained.times, trained.seconds, trained.text)
    inputs, encoded = encode(model.processor, [shown]), PairCollator(pairs, model.processor, True).encode(0).prompt
    assert set(inputs) == set(encoded)
    assert all(torch.equal(inputs[key], encoded[key]) for key in inputs)


def test_pooling_newline_and_tokens_are_in_the_facts(model):
    # 32 px in patches of 8 are 16, pooled by 2 to 4. Qwen's number of tokens depends on the frame.
    expected = {
        "llava_onevision": ("bilinear", "one_token", 4.0),
        "llava_next_video": ("average", "no_token", 4.0),
        "qwen2_vl": ("merger", "no_token", None),
        "qwen2_5_vl": ("merger", "no_token", None),
    }
    facts = model.facts()
    found = tuple(facts[name] for name in ("mm_spatial_pool_mode", "mm_newline_position", "tokens_per_frame"))
    assert found == expected[facts["family"]]


@pytest.fixture(scope="module")
def adapter(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folder of an adapter that changes what the tiny model says, and one of the whole checkpoint with it merged."""
    from peft import LoraConfig, get_peft_model

    adapter, merged = tmp_path_factory.mktemp("adapter"), tmp_path_factory.mktemp("merged")
    torch.manual_seed(0)
    adapted = get_peft_model(
        load_model(str(checkpoint)),
        LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", "up_proj"], init_lora_weights=False),
    )
    adapted.save_pretrained(adapter)
    adapted.merge_and_unload().save_pretrained(merged)
    AutoProcessor.from_pretrained(checkpoint).save_pretrained(merged)
    return adapter, merged


def test_an_adapter_says_what_the_merged_weights_say(checkpoint, adapter, questions, ask):
    folder, merged = adapter
    options = {"fps": 0.5, "max_frames_num": 10}
    asked = [(video, "Who?") for video, _ in questions[:2]]
    base, lora, whole = (
        TemporalHF(str(checkpoint), **options),
        TemporalHF(str(checkpoint), peft=str(folder), **options),
        TemporalHF(str(merged), **options),
    )
    prompts = [[model.prompt(one) for one in model.plan(ask(model, asked))] for model in (base, lora, whole)]

    def logits(model: TemporalHF, prompt: Any) -> torch.Tensor:
        with torch.inference_mode():
            return model.model(**encode(model.processor, [prompt])).logits

    for of_base, of_lora, of_whole in zip(*prompts):
        expected = logits(whole, of_whole)
        assert torch.allclose(logits(lora, of_lora), expected, atol=1e-4, rtol=0)
        assert not torch.allclose(logits(base, of_base), expected, atol=1e-1, rtol=0)
    assert lora.generate_until(ask(lora, asked)) == whole.generate_until(ask(whole, asked))
    assert (lora.facts()["checkpoint"], lora.facts()["peft"]) == (str(checkpoint), str(folder))


def test_a_folder_with_an_adapter_names_its_own_base(checkpoint, adapter, tmp_path):
    import json
    import shutil

    folder = tmp_path / "adapter"
    shutil.copytree(adapter[0], folder)
    AutoProcessor.from_pretrained(checkpoint).save_pretrained(folder)
    model = TemporalHF(str(folder))
    assert list(model.model.peft_config) == ["default"]
    assert model.facts()["checkpoint"] == str(checkpoint)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "moved/away"}))
    with pytest.raises(TPOError, match="moved/away"):
        TemporalHF(str(folder))
    assert TemporalHF(str(folder), base=str(checkpoint)).facts()["peft"] == str(folder)
    with pytest.raises(TPOError, match="`pretrained` is the checkpoint"):
        TemporalHF(str(folder), peft=str(folder))


def test_an_untried_family_is_refused(checkpoint, monkeypatch):
    monkeypatch.setattr(hf, "FAMILIES", ("qwen2_vl",))
    with pytest.raises(TPOError, match="llava_onevision model; tpo_hf was tried with qwen2_vl"):
        TemporalHF(str(checkpoint))


def test_an_older_transformers_is_refused(checkpoint, monkeypatch):
    monkeypatch.setattr(hf.transformers, "__version__", "4.57.6")
    with pytest.raises(TPOError, match=r"tpo_hf needs transformers 5, here is 4\.57\.6: .* or use llava_video_tpo"):
        TemporalHF(str(checkpoint))
