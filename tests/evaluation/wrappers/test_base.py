"""What all our lmms-eval models share, on the tiny model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tpo_plugin.errors import EvaluationError, RecipeError, TPOError, VideoError
from tpo_plugin.evaluation.wrappers.base import FACTS, UNREADABLE, GivenFrames
from tpo_plugin.evaluation.wrappers.generation import cut, generation_arguments
from tpo_plugin.evaluation.wrappers.hf import TemporalHF
from tpo_plugin.evaluation.wrappers.messages import video_and_text
from tpo_plugin.video import probe, read_frames, sample_times


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> TemporalHF:
    return TemporalHF(f'"{checkpoint}"', fps=0.5, max_frames_num=10, batch_size="1")


def lines(text: str, prefix: str) -> list[dict]:
    """The JSON of the log's lines with this prefix, whatever a progress bar has written before them."""
    return [json.loads(line.partition(prefix)[2]) for line in text.split("\n") if prefix in line]


def test_batches_keep_the_order_and_the_answers(model, checkpoint, questions, ask):
    one_by_one = model.generate_until(ask(model, questions))
    assert len(set(one_by_one)) > 1, "the questions make a difference"
    batched = TemporalHF(str(checkpoint), fps=0.5, max_frames_num=10, batch_size=3)
    requests = ask(batched, questions)
    assert batched.batches(batched.plan(requests)) == [[0, 2, 4], [1, 3]]
    assert batched.generate_until(requests) == one_by_one


def test_questions_with_other_settings_share_no_batch(model, questions, ask):
    requests = ask(model, questions[:1]) + ask(model, questions[:1], {"max_new_tokens": 1})
    model.batch_size = 2
    try:
        assert model.batches(model.plan(requests)) == [[0], [1]]
    finally:
        model.batch_size = 1


def test_time_instruction_stands_before_the_question(checkpoint, questions, ask):
    model = TemporalHF(str(checkpoint), fps=0.5, max_frames_num=10, time_instruction=True)
    text = model.prompt(model.plan(ask(model, questions[:1]))[0]).text
    assert text.startswith("The video lasts for 4.00 seconds, and 2 frames")
    assert text.endswith("Question 0?")


def test_given_frames_are_shown_as_they_are(checkpoint, questions, ask):
    video = questions[1][0]
    seconds = probe(video).seconds
    times = tuple(seconds * place / 40 for place in range(40))
    given = GivenFrames(read_frames(video, times), times, seconds)
    model = TemporalHF(str(checkpoint), fps=0.5, max_frames_num=10, max_side=16, time_instruction=True)
    prompt = model.prompt(model.plan(ask(model, [(given, "Which?")]))[0])
    assert prompt.frames is given.frames
    assert (prompt.times, prompt.seconds) == (times, seconds)
    assert "40 frames" in prompt.text
    sampled = read_frames(video, sample_times([(0.0, seconds)], model.frames), 16)
    plain, whole = GivenFrames(sampled, tuple(map(float, range(10))), seconds), video
    alone = replace(model.frames, time_instruction=False)
    model.frames = alone
    first, second = model.generate_until(ask(model, [(plain, "Which?"), (whole, "Which?")]))
    assert first == second


def test_given_frames_that_do_not_fit_are_refused():
    frames = np.zeros((2, 8, 8, 3), np.uint8)
    for wrong, times in [(frames, (0.0,)), (frames[:0], ()), (frames / 1, (0.0, 1.0)), (frames[0], (0.0, 1.0))]:
        with pytest.raises(ValueError, match="times for frames"):
            GivenFrames(wrong, times, 2.0)


def test_pixels_are_bounded(checkpoint, questions, ask):
    # The benchmark's videos have 96 x 96 pixels: at most 1,024 are 32 x 32.
    model = TemporalHF(str(checkpoint), fps=0.5, max_frames_num=10, max_pixels=1024)
    assert model.prompt(model.plan(ask(model, questions[:1]))[0]).frames.shape == (2, 32, 32, 3)
    assert model.facts()["max_pixels"] == 1024


@pytest.mark.parametrize("content", [b"", b"not a video", None])
def test_a_bad_video_is_never_an_answer(model, questions, ask, tmp_path, content):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(questions[1][0].read_bytes()[:3000] if content is None else content)
    with pytest.raises(VideoError, match=r"bad\.mp4.*unreadable=count"):
        model.generate_until(ask(model, [*questions, (bad, "Question?")]))


@pytest.fixture
def late(questions, tmp_path) -> Path:
    """A video that a probe finds whole and that cannot be decoded to its end: it is damaged in the middle."""
    content = bytearray(questions[1][0].read_bytes())
    start, length = content.index(b"mdat"), len(content)
    content[start + 3000 : length - 4000] = bytes(length - 7000 - start)
    (tmp_path / "late.mp4").write_bytes(content)
    return tmp_path / "late.mp4"


def test_unreadable_videos_are_counted_where_that_is_allowed(model, checkpoint, questions, ask, tmp_path, late, capfd):
    probe(late)
    (tmp_path / "early.mp4").write_bytes(b"not a video")
    asked = [(tmp_path / "early.mp4", "A?"), (late, "B?"), *questions, (late, "C?")]
    counting = TemporalHF(str(checkpoint), fps=0.5, max_frames_num=10, batch_size=4, unreadable="count")
    capfd.readouterr()
    answers = counting.generate_until(ask(counting, asked))
    assert answers == ["", "", *model.generate_until(ask(model, questions)), ""]
    found = lines(capfd.readouterr().err, UNREADABLE)
    assert [(Path(line["video"]).name, line["reason"]) for line in found] == [
        ("early.mp4", "unreadable"),
        ("late.mp4", "corrupt"),
    ]
    with pytest.raises(VideoError, match=r"late\.mp4"):
        model.generate_until(ask(model, asked[1:2]))


def test_what_can_change_a_number_is_announced(checkpoint, capfd):
    model = TemporalHF(str(checkpoint), max_frames_num=8, unreadable="count")
    announced = lines(capfd.readouterr().err, FACTS)
    assert announced == [json.loads(json.dumps(model.facts()))]
    expected = {
        "model": "tpo_hf", "checkpoint": str(checkpoint), "peft": None, "max_frames_num": 8, "fps": 1.0, "max_side": 768,
        "time_instruction": False, "mm_spatial_pool_mode": "bilinear", "mm_newline_position": "one_token",
        "tokens_per_frame": 4.0, "dtype": "float32", "device": "cpu", "batch_size": 1, "unreadable": "count",
    }  # fmt: skip
    assert {name: model.facts()[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"unreadable": "skip"}, TPOError, "unreadable=skip is not known"),
        ({"batch_size": 0}, RecipeError, "`batch_size` must be 1 or more"),
        ({"max_pixels": 1}, RecipeError, r"`frames\.max_pixels` must be 256 or more"),
        ({"fps": 0}, RecipeError, r"`frames\.fps` must be over 0"),
        ({"base": "x"}, TPOError, "base=x has no effect"),
        ({"peft": "x"}, TPOError, "peft=x holds no adapter"),
    ],
)
def test_arguments_that_make_no_sense(checkpoint, arguments, error, says):
    with pytest.raises(error, match=says):
        TemporalHF(str(checkpoint), **arguments)


def test_processes_that_accelerate_does_not_connect(checkpoint, monkeypatch):
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, is_initialized

    fresh = not is_initialized()
    if fresh:
        Accelerator(cpu=True)
    monkeypatch.setenv("WORLD_SIZE", "2")
    try:
        with pytest.raises(TPOError, match="ACCELERATE_USE_CPU=true"):
            TemporalHF(str(checkpoint))
    finally:
        if fresh:
            AcceleratorState._reset_state(True)


def test_the_tasks_settings_are_honoured(caplog):
    greedy = generation_arguments(
        {"max_new_tokens": 16, "temperature": 0, "top_p": 1.0, "num_beams": 1, "until": ["x"]}, 128
    )
    assert greedy["max_new_tokens"] == 16
    assert not greedy["do_sample"]
    assert greedy["temperature"] is None
    sampled = generation_arguments({"temperature": 0.7, "top_p": 0.9}, 128)
    assert (sampled["do_sample"], sampled["temperature"], sampled["top_p"]) == (True, 0.7, 0.9)
    assert sampled["max_new_tokens"] == 128
    assert sampled["top_k"] == 0, "a checkpoint's own limit does not count beside what the task says"
    unnamed = generation_arguments({"temperature": 0.7, "top_p": None, "top_k": 5}, 128)
    assert (unnamed["top_p"], unnamed["top_k"]) == (1.0, 5)
    assert not generation_arguments({"temperature": 0.7, "do_sample": False}, 128)["do_sample"]
    assert "image_aspect_ratio" not in generation_arguments({"image_aspect_ratio": "pad"}, 128)
    assert "image_aspect_ratio" in caplog.text


def test_answers_end_at_the_tasks_own_stop_string():
    assert cut("B\n\nbecause", "c") == "B\n\nbe"
    assert cut("B. because. Yes", ["because", "."]) == "B"
    assert cut("B", None) == "B"
    # What lmms-eval fills in for a task without stop strings: the wrappers of these families do not stop there.
    assert cut("\n\nB", ["\n\n"]) == "\n\nB"


VIDEO, TEXT = {"type": "video", "url": "a.mp4"}, {"type": "text", "text": "a"}


def test_a_chat_of_a_video_and_texts():
    assert video_and_text([{"role": "user", "content": [VIDEO, TEXT, {**TEXT, "text": "b"}]}]) == ("a.mp4", "a\nb")


@pytest.mark.parametrize(
    "content",
    [
        [TEXT],
        [VIDEO],
        [TEXT, VIDEO],
        [TEXT, TEXT],
        [{"type": "image", "url": "a.png"}, TEXT],
        [{"type": "image", "url": "a.png"}, VIDEO, TEXT],
        [VIDEO, VIDEO, TEXT],
        [{"type": "video", "url": {"video_start": 1}}, TEXT],
        "a",
    ],
)
def test_other_chats_are_refused(content):
    with pytest.raises(EvaluationError, match=r"question about one video|by its path"):
        video_and_text([{"role": "user", "content": content}])


def test_only_generative_one_round_tasks(model):
    for method in (model.loglikelihood, model.generate_until_multi_round):
        with pytest.raises(EvaluationError, match="tpo_hf answers"):
            method([])
