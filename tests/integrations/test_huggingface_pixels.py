"""Qwen2-VL and Qwen2.5-VL see the frames that `max_pixels` gives, at their true times, in generation, training and evaluation alike."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.models.glm4v.video_processing_glm4v import Glm4vVideoProcessor
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor, smart_resize
from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor
from transformers.models.video_llama_3.video_processing_video_llama_3 import VideoLlama3VideoProcessor
from transformers.video_utils import VideoMetadata

from tpo_plugin.curation.captions import caption_prompt
from tpo_plugin.curation.responses import View, prompt_for
from tpo_plugin.curation.work import Frames
from tpo_plugin.dataset.pairs import Row
from tpo_plugin.errors import TPOError
from tpo_plugin.evaluation.wrappers.hf import TemporalHF
from tpo_plugin.generators.base import Prompt
from tpo_plugin.integrations.huggingface import encode, load_model, load_processor, prompt_text, video_size, write
from tpo_plugin.options import FrameOptions
from tpo_plugin.records import Query
from tpo_plugin.training.data import PairCollator, TrainingPairs
from tpo_plugin.training.policies.hf import encode_prompts
from tpo_plugin.video import probe, sample_times
from tpo_plugin.video.isolated import IsolatedDecoder

PUBLISHED = {"shortest_edge": 3136, "longest_edge": 12845056}  # Qwen2-VL's and Qwen2.5-VL's checkpoints on the hub
FACTOR = 28


@pytest.fixture(scope="module", params=["qwen2_vl", "qwen2_5_vl"])
def folder(request: pytest.FixtureRequest, tiny_family: Any) -> Path:
    return tiny_family(request.param)


def clip(count: int, height: int, width: int, seconds: float, max_pixels: int | None = None) -> Prompt:
    frames = np.random.default_rng(0).integers(0, 255, (count, height, width, 3), dtype=np.uint8)
    times = tuple(seconds * (place + 0.5) / count for place in range(count))
    return Prompt(frames, times, seconds, "Who?", max_pixels=max_pixels)


def metadata(prompt: Prompt) -> VideoMetadata:
    count = len(prompt.frames)
    return VideoMetadata(count, count / prompt.seconds, duration=prompt.seconds, frames_indices=list(range(count)))


def shown(processor: Any, height: int, width: int, max_pixels: int | None, count: int = 4) -> tuple[int, int]:
    """Height and width of the frames that a model with this video processor sees."""
    size = video_size(processor, max_pixels).get("videos_kwargs", {})
    frames = np.zeros((count, height, width, 3), np.uint8)
    grid = processor.video_processor(videos=[frames], do_sample_frames=False, return_tensors="pt", **size)
    _, rows, columns = grid["video_grid_thw"][0].tolist()
    return rows * processor.video_processor.patch_size, columns * processor.video_processor.patch_size


class Only:
    """A processor as far as `video_size` looks at it."""

    def __init__(self, **options: Any) -> None:
        self.video_processor = Qwen2VLVideoProcessor(**options)


def test_what_the_families_processors_do_with_90000_pixels() -> None:
    made_anew, published = Only(), Only(size=PUBLISHED)
    assert shown(made_anew, 225, 400, None) == (252, 448)  # under 128 * 28 * 28 = 100,352 pixels: enlarged
    assert shown(published, 225, 400, None) == (224, 392)
    assert shown(published, 300, 300, None) == (308, 308)  # rounded over the limit
    # The limit for whole videos, where it is on: of 50 tokens' worth of pixels (90 %, two frames a token) 6 frames have too few.
    assert shown(Only(size=PUBLISHED, cap_pixels_per_frame=True), 225, 400, None, count=6) == (224, 392)
    small = Only(size=PUBLISHED, cap_pixels_per_frame=True, max_video_tokens=50)
    assert shown(small, 225, 400, None, count=6) == smart_resize(225, 400, FACTOR, 3136, 11_760) == (56, 140)


@pytest.mark.parametrize("options", [{}, {"size": PUBLISHED}, {"cap_pixels_per_frame": True, "max_video_tokens": 50}])
@pytest.mark.parametrize(
    ("size", "seen"),
    [((225, 400), (224, 392)), ((300, 300), (280, 280)), ((259, 346), (252, 336)), ((120, 160), (112, 168))],
)
def test_with_a_limit_frames_are_only_rounded(
    options: dict[str, Any], size: tuple[int, int], seen: tuple[int, int]
) -> None:
    assert shown(Only(**options), *size, 90_000, count=6) == seen
    assert all(abs(side - given) < FACTOR for side, given in zip(seen, size))


def test_releases_without_the_limit_for_whole_videos(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers 5.0 to 5.12 have none, and refuse what they do not know."""
    processor = Only()
    assert video_size(processor, 90_000)["videos_kwargs"]["cap_pixels_per_frame"] is False
    for owner in (Qwen2VLVideoProcessor, processor.video_processor):
        monkeypatch.delattr(owner, "cap_pixels_per_frame")
    size = {"shortest_edge": FACTOR**2, "longest_edge": 90_000}
    assert video_size(processor, 90_000) == {"videos_kwargs": {"size": size}}


@pytest.mark.parametrize("other", [Qwen3VLVideoProcessor, Glm4vVideoProcessor, VideoLlama3VideoProcessor])
def test_other_processors_that_resize_are_refused_with_a_limit(other: type) -> None:
    """Qwen3-VL's limits are those of a whole video, and the others' `size` is of another form."""
    processor = SimpleNamespace(video_processor=other())
    assert video_size(processor, None) == {}
    with pytest.raises(TPOError, match=rf"{other.__name__}.*leave out `frames\.max_pixels`"):
        video_size(processor, 90_000)


def test_100_frames_of_90000_pixels_fit_into_8192_tokens() -> None:
    """Heights of 100 to 899 pixels (every 7th), each as wide as 90,000 pixels allow: at most 114 tokens of 28 x 28 for two frames."""
    tokens = 0
    for height in range(100, 900, 7):
        width = 90_000 // height
        rows, columns = smart_resize(height, width, FACTOR, FACTOR**2, 90_000)
        tokens = max(tokens, rows * columns // FACTOR**2)
    assert (tokens, 90_000 // FACTOR**2) == (114, 114)
    assert 100 // 2 * tokens == 5700 < 8192


@pytest.mark.parametrize(("max_pixels", "size"), [(None, (48, 64)), (1500, (30, 40)), (2000, (40, 50))])
def test_logits_are_those_of_processor_and_model(folder: Path, max_pixels: int | None, size: tuple[int, int]) -> None:
    prompt = clip(5, *size, 5.0, max_pixels)
    model, processor = load_model(str(folder), "float32", "cpu"), load_processor(str(folder))
    own = AutoProcessor.from_pretrained(folder)
    if max_pixels is not None:
        own.video_processor.size = {"shortest_edge": 16 * 16, "longest_edge": max_pixels}
    direct = own(
        text=[prompt_text(processor, "Who?")],
        videos=[list(prompt.frames)],
        video_metadata=[metadata(prompt)],
        do_sample_frames=False,
        return_tensors="pt",
    )
    other = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        ours, theirs = model(**encode(processor, [prompt])).logits, other(**direct).logits
    assert torch.equal(ours, theirs)
    with torch.inference_mode():
        assert not torch.allclose(ours, model(**encode(processor, [replace(prompt, text="Why?")])).logits[:, -1:])


@pytest.mark.parametrize(
    ("count", "seconds", "a_grid"),
    [
        (8, 8.0, 2.0),  # 1 frame a second: two of them are 2 s
        (16, 8.0, 1.0),  # 2 frames a second
        (7, 7.0, 2.0),  # the last of an odd number is shown twice; the others keep their times
        (15, 7.5, 1.0),
        (10, 60.0, 12.0),  # as many as `max` allows of a long video: 6 s from frame to frame
    ],
)
def test_the_time_base_of_qwen2_5_vl(tiny_family: Any, count: int, seconds: float, a_grid: float) -> None:
    folder = tiny_family("qwen2_5_vl")
    processor, model = load_processor(str(folder)), load_model(str(folder), "float32", "cpu")
    inputs = encode(processor, [clip(count, 16, 16, seconds)])
    assert inputs["second_per_grid_ts"].tolist() == [a_grid]
    grids = -(-count // 2)
    assert inputs["video_grid_thw"].tolist() == [[grids, 2, 2]]
    positions, _ = model.model.get_rope_index(
        inputs["input_ids"],
        mm_token_type_ids=inputs["mm_token_type_ids"],
        video_grid_thw=inputs["video_grid_thw"],
        second_per_grid_ts=inputs["second_per_grid_ts"],
    )
    video = inputs["input_ids"][0] == processor.video_token_id
    at = positions[0, 0, video]
    # 4 positions a second (`tokens_per_second`), one token a grid.
    assert (at - at[0]).tolist() == [int(4 * a_grid * place) for place in range(grids)]


def test_bfloat16_does_not_round_the_times(tiny_family: Any) -> None:
    """100 frames of 357 s: 14 positions each 3.57 s... up to 1,399, and bfloat16 counts in eights there."""
    folder = tiny_family("qwen2_5_vl")
    processor, model = load_processor(str(folder)), load_model(str(folder), "bfloat16", "cpu")
    prompt, seen = clip(100, 16, 16, 357.0), []
    hook = model.model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["position_ids"]), with_kwargs=True
    )
    write(model, processor, [prompt], {"max_new_tokens": 1, "do_sample": False})
    hook.remove()
    inputs = encode(processor, [prompt])
    video = inputs["input_ids"][0] == processor.video_token_id
    at = seen[0][-3, 0, video]  # time, before height and width
    assert (at - at[0]).tolist() == [int(4 * 7.14 * place) for place in range(50)]


def test_training_and_evaluation_show_the_same(folder: Path, tiny_videos: Path) -> None:
    """A 64 x 64 video with at most 2,000 pixels: 44 x 44, which the processor rounds to 48 x 48 and, over the limit, to 32 x 32."""
    video = tiny_videos / "video 0.mp4"
    frames = FrameOptions(fps=0.5, max=5, max_pixels=2000)
    pairs = TrainingPairs([Row("a", video.name, "Who?", "yes", "no")], tiny_videos, frames)
    wrapper = TemporalHF(str(folder), fps=0.5, max_frames_num=5, max_pixels=2000, device="cpu", dtype="float32")
    processor = wrapper.processor
    collator = PairCollator(pairs, processor, True)
    trained = collator.encode(0).prompt
    asked = type("One", (), {"times": sample_times([(0.0, probe(video).seconds)], frames), "seconds": 16.0})
    evaluated = encode(processor, [replace(wrapper.read_video(str(video), asked), text="Who?")])
    assert pairs.prompt(0).frames.shape == (5, 44, 44, 3)
    assert trained["video_grid_thw"].tolist() == [[3, 4, 4]]
    assert all(torch.equal(trained[name], evaluated[name]) for name in trained)
    assert wrapper.facts()["max_pixels"] == 2000
    second = encode_prompts(processor, pairs.prompt(0), ["Who?", "Why?"])[1]["input_ids"]
    assert torch.equal(second, encode(processor, [replace(pairs.prompt(0), text="Why?")])["input_ids"])


def test_curation_shows_the_same(tiny_videos: Path) -> None:
    frames = FrameOptions(fps=0.5, max=5, max_pixels=2000)
    spans = ((0.0, 16.0),)
    times = sample_times(spans, frames)

    async def look() -> np.ndarray:
        with IsolatedDecoder(workers=1, timeout=60.0) as decoder:
            return await Frames(decoder, tiny_videos / "video 0.mp4", set(times), frames).at(times)

    query = Query("q", "localized", "action", "Who?", "", None)
    asked = prompt_for(query, View(spans, times), asyncio.run(look()), frames)
    trained = TrainingPairs([Row("a", "video 0.mp4", "Who?", "yes", "no")], tiny_videos, frames).prompt(0)
    assert (asked.frames == trained.frames).all()
    assert asked.frames.shape == (5, 44, 44, 3)
    assert asked.max_pixels == trained.max_pixels == caption_prompt(asked.frames, times, frames).max_pixels == 2000
