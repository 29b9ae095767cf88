"""`llava_video_tpo` and `longva_tpo` say what upstream's own inference says, in lmms-eval's own tasks too."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("lmms_eval", reason="lmms-eval is not installed here: pip install 'tpo-plugin[llava,lmms]'")

from lmms_eval.api.instance import Instance

from tpo_plugin.errors import TPOError, VideoError
from tpo_plugin.evaluation.wrappers.base import UNREADABLE
from tpo_plugin.evaluation.wrappers.llava import LlavaVideo, LongVA, TemporalLlava, find_upstream
from tpo_plugin.integrations.llava_family.data import video_prompt
from tpo_plugin.integrations.llava_family.frames import Clip

MODELS = {"llava": LlavaVideo, "longva": LongVA}
GREEDY = {"max_new_tokens": 8, "do_sample": False}
SHORT = {"fps": 1.0, "max_frames_num": 5, "dtype": "float32", "device": "cpu"}


@pytest.fixture(scope="module")
def checkpoint(world: Any, forget_upstream: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The tiny model with weights that float16, upstream's loader's only choice, keeps; its name is one that the loader understands."""
    from safetensors.torch import load_file, save_file

    forget_upstream()
    folder = tmp_path_factory.mktemp("half") / "half-longva-llava-qwen"
    shutil.copytree(world.model, folder)
    weights = load_file(folder / "model.safetensors")
    halved = {name: tensor.half().float() for name, tensor in weights.items()}
    save_file(halved, folder / "model.safetensors", {"format": "pt"})
    yield folder
    forget_upstream()


@pytest.fixture(scope="module")
def make(world: Any, checkpoint: Path) -> Any:
    """A function that makes the wrapper of this code base."""

    def model(**changes: Any) -> TemporalLlava:
        options = {"pretrained": str(checkpoint), "upstream": str(world.checkout.path), **SHORT, **changes}
        return MODELS[world.checkout.package](**options)

    return model


@pytest.fixture(scope="module")
def model(make: Any) -> TemporalLlava:
    return make()


@pytest.fixture(scope="module")
def questions(world: Any) -> list[tuple[str, str]]:
    """Questions of different lengths about videos of 6, 8, 10 and 12 seconds."""
    texts = ("What shape is shown?", "Who?", "Where does the red square go when it is done?", "x", "What is it?")
    return [(str(world.media / f"video {index % 4}.mp4"), text) for index, text in enumerate(texts)]


def ask(model: TemporalLlava, questions: list[tuple[str, str]], settings: dict[str, Any] = GREEDY) -> list[Instance]:
    model.task_dict = {"task": {"test": list(questions)}}

    def messages(doc: tuple[str, str]) -> list[dict[str, Any]]:
        return [{"role": "user", "content": [{"type": "video", "url": doc[0]}, {"type": "text", "text": doc[1]}]}]

    metadata = {"task": "task", "repeats": 1}
    return [
        Instance("generate_until", ("", messages, settings, place, "task", "test"), 0, {**metadata, "doc_id": place})
        for place in range(len(questions))
    ]


def answers_and_logits(model: TemporalLlava, questions: list[tuple[str, str]]) -> tuple[list[str], torch.Tensor]:
    """The answers and, of each step in the order in which they are computed, the logits of the whole batch."""
    seen: list[torch.Tensor] = []
    hook = model.loaded.model.lm_head.register_forward_hook(lambda module, inputs, output: seen.append(output[:, -1]))
    try:
        answers = model.generate_until(ask(model, questions))
    finally:
        hook.remove()
    return answers, torch.stack(seen, dim=1).float()


def upstreams_load_video(path: str, most: int) -> tuple[np.ndarray, list[float], float]:
    """Frames, times and length as the inference example in LLaVA-NeXT's docs takes them, at one frame a second."""
    import decord

    reader = decord.VideoReader(path, ctx=decord.cpu(0))
    total, rate = len(reader), reader.get_avg_fps()
    indices = list(range(0, total, round(rate)))
    if len(indices) > most:
        indices = np.linspace(0, total - 1, most, dtype=int).tolist()
    return reader.get_batch(indices).asnumpy(), [index / rate for index in indices], total / rate


def test_upstreams_own_loader_and_snippet(make: Any, world: Any, checkpoint: Path, questions: Any) -> None:
    ours = make(sampler="upstream", time_instruction=True)
    package = world.checkout.package
    builder, constants, conversation, mm_utils = (
        importlib.import_module(f"{package}.{name}")
        for name in ("model.builder", "constants", "conversation", "mm_utils")
    )
    precision = {} if package == "longva" else {"torch_dtype": "float16"}
    tokenizer, model, processor, _ = builder.load_pretrained_model(
        str(checkpoint), None, "llava_qwen", device_map="auto", attn_implementation="sdpa", **precision
    )
    model = model.float().eval()
    for video, text in questions[:4]:
        frames, times, seconds = upstreams_load_video(video, 5)
        talk = conversation.conv_templates["qwen_1_5"].copy()
        talk.append_message(talk.roles[0], video_prompt(text, Clip(frames, seconds, times)))
        talk.append_message(talk.roles[1], None)
        ids = mm_utils.tokenizer_image_token(
            talk.get_prompt(), tokenizer, constants.IMAGE_TOKEN_INDEX, return_tensors="pt"
        )
        expected = model.generate(
            ids.unsqueeze(0),
            images=[processor.preprocess(frames, return_tensors="pt")["pixel_values"]],
            modalities=["video"],
            pad_token_id=tokenizer.pad_token_id,
            output_logits=True,
            return_dict_in_generate=True,
            **GREEDY,
        )
        answers, logits = answers_and_logits(ours, [(video, text)])
        assert answers == [tokenizer.batch_decode(expected.sequences, skip_special_tokens=True)[0].strip()]
        assert torch.allclose(logits, torch.stack(expected.logits, dim=1).float(), atol=1e-4, rtol=0)
        assert logits.std() > 0.1


def test_frames_times_and_prompt_are_those_of_the_scripts(make: Any, questions: Any) -> None:
    """`--tpo_time_instruction` in training; the sampler's rule for short and long videos and with `force_sample`."""
    few, forced = make(sampler="upstream", time_instruction=True), make(
        sampler="upstream", max_frames_num=30, force_sample=True
    )  # fmt: skip
    video, text = questions[3]
    frames, times, seconds = upstreams_load_video(video, 5)
    prompt = few.prompt(few.plan(ask(few, [(video, text)]))[0])
    assert (prompt.frames == frames).all()
    assert f"<image>\n{prompt.text}" == video_prompt(text, Clip(frames, seconds, times))
    assert "5 frames are uniformly sampled" in prompt.text
    more = forced.prompt(forced.plan(ask(forced, [(video, text)]))[0])
    assert (len(more.frames), more.text) == (30, text)
    assert few.facts()["sampler"] == forced.facts()["sampler"] == "upstream"
    assert (few.facts()["force_sample"], forced.facts()["force_sample"], few.facts()["max_side"]) == (False, True, None)


def test_a_batch_says_what_each_question_says_alone(make: Any, model: TemporalLlava, questions: Any) -> None:
    batched = make(batch_size=2, max_frames_num=9)
    model.frames = batched.frames
    alone = [answers_and_logits(model, [question]) for question in questions]
    assert len({answer for (answer,), _ in alone}) > 2, "the questions make a difference"
    assert batched.generate_until(ask(batched, questions)) == [answer for (answer,), _ in alone]
    # 6 s and 10 s give 6 and 9 frames: one is padded.
    plan = batched.plan(ask(batched, [questions[2], questions[0]]))
    assert [len(one.times) for one in plan] == [9, 6]
    _, logits = answers_and_logits(batched, [questions[0], questions[2]])
    for row, place in enumerate((0, 2)):
        assert torch.allclose(logits[row], alone[place][1][0], atol=1e-4, rtol=0)


def test_pooling_and_newline_replace_the_checkpoints_where_given(make: Any, model: TemporalLlava, world: Any) -> None:
    facts = model.facts()
    assert facts["upstream"]["name"] == world.checkout.title
    assert (facts["mm_spatial_pool_stride"], facts["conv_template"]) == (2, "qwen_1_5")
    # 56 px in patches of 14 are 4 x 4, pooled to 2 x 2.
    if world.checkout.package == "longva":
        assert (facts["mm_spatial_pool_mode"], facts["mm_newline_position"], facts["tokens_per_frame"]) == (
            "average",
            "no_token",
            4,
        )
        assert make(mm_spatial_pool_mode="max").loaded.model.config.mm_spatial_pool_mode == "max"
        with pytest.raises(TPOError, match="mm_spatial_pool_mode=bilinear: LongVA knows average, max"):
            make(mm_spatial_pool_mode="bilinear")
        with pytest.raises(TPOError, match="mm_newline_position has no effect"):
            make(mm_newline_position="grid")
        return
    assert (facts["mm_spatial_pool_mode"], facts["mm_newline_position"], facts["tokens_per_frame"]) == (
        "bilinear",
        "grid",
        6,
    )
    for newline, tokens in (("frame", 5), ("one_token", 4), ("no_token", 4)):
        assert make(mm_newline_position=newline).facts()["tokens_per_frame"] == tokens
    other = make(mm_spatial_pool_mode="average")
    assert other.facts()["mm_spatial_pool_mode"] == "average"
    with pytest.raises(TPOError, match="mm_newline_position=row: LLaVA-NeXT knows grid"):
        make(mm_newline_position="row")


def test_another_pooling_gives_other_logits(make: Any, model: TemporalLlava, questions: Any) -> None:
    _, plain = answers_and_logits(model, questions[:1])
    _, pooled = answers_and_logits(make(mm_spatial_pool_mode="max"), questions[:1])
    assert not torch.allclose(plain[:, 0], pooled[:, 0], atol=1e-2, rtol=0)


def test_an_adapter_says_what_the_merged_weights_say(
    make: Any, model: TemporalLlava, world: Any, checkpoint: Path, questions: Any, tmp_path: Path
) -> None:
    from peft import LoraConfig, get_peft_model

    targets = r"(?!.*(vision_tower|mm_projector)).*\.(q_proj|up_proj)"
    config = LoraConfig(r=4, lora_alpha=8, target_modules=targets, task_type="CAUSAL_LM", init_lora_weights=False)
    torch.manual_seed(0)
    wrapped = get_peft_model(make().loaded.model, config)
    wrapped.save_pretrained(tmp_path / "adapter")
    merged = wrapped.merge_and_unload()
    shutil.copytree(checkpoint, tmp_path / "merged")
    merged.save_pretrained(tmp_path / "merged")
    settings = tmp_path / "adapter" / "adapter_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "base_model_name_or_path": "moved/away"}))
    adapted = make(peft=str(tmp_path / "adapter"))
    assert (adapted.facts()["peft"], adapted.facts()["checkpoint"]) == (str(tmp_path / "adapter"), str(checkpoint))
    whole = make(pretrained=str(tmp_path / "merged"))
    (answers, logits), (expected, wanted) = (answers_and_logits(one, questions[:1]) for one in (adapted, whole))
    assert answers == expected
    assert torch.allclose(logits, wanted, atol=1e-4, rtol=0)
    assert not torch.allclose(logits[:, 0], answers_and_logits(model, questions[:1])[1][:, 0], atol=1e-1, rtol=0)


@pytest.mark.parametrize("sampler", ["shared", "upstream"])
def test_a_bad_video_is_an_error_or_counted(
    make: Any, questions: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str], sampler: str
) -> None:
    content = bytearray(Path(questions[3][0]).read_bytes())
    start = content.index(b"mdat") + 100
    content[start:-3000] = bytes(len(content) - 3000 - start)
    (tmp_path / "late.mp4").write_bytes(content)
    asked = [(str(tmp_path / "late.mp4"), "A?"), questions[0], (str(tmp_path / "late.mp4"), "B?")]
    counting = make(unreadable="count", sampler=sampler, batch_size=2)
    expected = counting.generate_until(ask(counting, [questions[0]]))
    capfd.readouterr()
    assert counting.generate_until(ask(counting, asked)) == ["", *expected, ""]
    assert capfd.readouterr().err.count(UNREADABLE) == 1
    counting.unreadable = "error"
    with pytest.raises(VideoError, match=r"late\.mp4.*unreadable=count"):
        counting.generate_until(ask(counting, asked))


def test_where_upstream_comes_from(world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package, root = world.checkout.package, world.checkout.root
    variable = MODELS[package].variable
    other = MODELS["longva" if package == "llava" else "llava"]
    monkeypatch.setenv(variable, str(world.checkout.path))
    assert find_upstream(package, variable, None) == world.checkout
    with pytest.raises(TPOError, match="is not there"):
        find_upstream(package, variable, str(tmp_path / "missing"))
    with pytest.raises(TPOError, match=f"is a checkout of {world.checkout.title}; this model needs one of"):
        find_upstream(other.package, other.variable, str(world.checkout.path))
    monkeypatch.delenv(variable)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if Path(path).resolve() != root.resolve()])
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    importlib.invalidate_caches()
    with pytest.raises(TPOError, match=f"no {world.checkout.title} here: .*{variable}, or install it"):
        find_upstream(package, variable, None)
    monkeypatch.syspath_prepend(str(root))
    assert find_upstream(package, variable, None) == world.checkout
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(root)])
    shutil.copytree(root / package, tmp_path / "site" / package)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    copied = find_upstream(package, variable, None)
    assert (copied.root, copied.package) == (tmp_path / "site", package)
