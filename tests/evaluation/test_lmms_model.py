from __future__ import annotations

import pytest
from lmms_eval.api.instance import Instance

from tpo_plugin.errors import EvaluationError, TPOError, VideoError
from tpo_plugin.evaluation import lmms_model
from tpo_plugin.evaluation.lmms_model import TemporalHF, cut, generation_arguments, video_and_text
from tpo_plugin.generators.base import Prompt
from tpo_plugin.generators.hf import HFGenerator
from tpo_plugin.options import FrameOptions, GeneratorOptions
from tpo_plugin.video import probe, read_frames, sample_times

FRAMES = FrameOptions(fps=0.5, max=10)
SETTINGS = {"max_new_tokens": 6, "temperature": 0, "do_sample": False, "until": ["\n\n"]}


@pytest.fixture(scope="module")
def model(checkpoint) -> TemporalHF:
    return TemporalHF(f'"{checkpoint}"', fps=0.5, max_frames_num=10, batch_size="1")


def requests_for(model, questions):
    """lmms-eval's requests for (video, text) pairs."""
    model.task_dict = {"task": {"test": [{"video": str(video), "text": text} for video, text in questions]}}

    def messages(doc):
        return [
            {"role": "user", "content": [{"type": "video", "url": doc["video"]}, {"type": "text", "text": doc["text"]}]}
        ]

    def metadata(index):
        return {"task": "task", "doc_id": index, "repeats": 1}

    return [
        Instance("generate_until", ("", messages, SETTINGS, index, "task", "test"), 0, metadata(index))
        for index in range(len(questions))
    ]


@pytest.fixture
def questions(benchmark_folder):
    videos = benchmark_folder / "videomme" / "data"
    order = ["short-000", "long-000", "short-000", "long-000", "short-000"]
    return [(videos / f"{name}.mp4", f"Question {number}?") for number, name in enumerate(order)]


def test_answers_are_those_of_curation(model, checkpoint, questions):
    generator = HFGenerator(GeneratorOptions(model=str(checkpoint), max_new_tokens=6), seed=0)
    prompts = []
    for video, text in questions:
        seconds = probe(video).seconds
        times = sample_times([(0.0, seconds)], FRAMES)
        prompts.append(Prompt(read_frames(video, times, FRAMES.max_side), times, seconds, text))
    assert {len(prompt.times) for prompt in prompts} == {2, 10}
    answers = model.generate_until(requests_for(model, questions))
    assert answers == [reply.text for reply in generator.generate_now(prompts)]
    assert any(answers)


def test_batches_keep_the_order(model, checkpoint, questions):
    one_by_one = model.generate_until(requests_for(model, questions))
    batched = TemporalHF(str(checkpoint), fps=0.5, max_frames_num=10, batch_size=3)
    assert batched.generate_until(requests_for(batched, questions)) == one_by_one


def test_time_instruction_stands_before_the_question(checkpoint, questions):
    model = TemporalHF(str(checkpoint), fps=0.5, max_frames_num=10, time_instruction=True)
    text = model._plan(requests_for(model, questions[:1]))[0].text
    assert text.startswith("The video lasts for 4.00 seconds, and 2 frames")
    assert text.endswith("Question 0?")


def test_adapters_are_loaded(checkpoint, questions, tmp_path):
    from peft import LoraConfig, get_peft_model

    from tpo_plugin.integrations.huggingface import load_model, load_processor

    adapted = get_peft_model(
        load_model(str(checkpoint)), LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False)
    )
    adapted.save_pretrained(tmp_path)
    load_processor(str(checkpoint)).save_pretrained(tmp_path)
    model = TemporalHF(str(tmp_path), fps=0.5, max_frames_num=10)
    assert list(model.model.peft_config) == ["default"]
    assert len(model.generate_until(requests_for(model, questions[:2]))) == 2


@pytest.mark.parametrize("content", [b"", b"not a video", None])
def test_a_bad_video_is_never_an_answer(model, questions, tmp_path, content):
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(questions[1][0].read_bytes()[:3000] if content is None else content)
    with pytest.raises(VideoError, match=r"bad\.mp4"):
        model.generate_until(requests_for(model, [*questions, (bad, "Question?")]))


def test_an_untried_family_is_refused(checkpoint, monkeypatch):
    monkeypatch.setattr(lmms_model, "FAMILIES", ("qwen2_vl",))
    with pytest.raises(TPOError, match="llava_onevision model; tpo_hf was tried with qwen2_vl"):
        TemporalHF(str(checkpoint))


def test_the_tasks_settings_are_honoured(caplog):
    greedy = generation_arguments(
        {"max_new_tokens": 16, "temperature": 0, "top_p": 1.0, "num_beams": 1, "until": ["x"]}
    )
    assert greedy["max_new_tokens"] == 16
    assert not greedy["do_sample"]
    assert greedy["temperature"] is None
    sampled = generation_arguments({"max_new_tokens": 8, "temperature": 0.7, "top_p": 0.9})
    assert (sampled["do_sample"], sampled["temperature"], sampled["top_p"]) == (True, 0.7, 0.9)
    assert not generation_arguments({"temperature": 0.7, "do_sample": False})["do_sample"]
    assert "image_aspect_ratio" not in generation_arguments({"image_aspect_ratio": "pad"})
    assert "image_aspect_ratio" in caplog.text


def test_answers_end_at_the_stop_string():
    assert cut("B\n\nbecause", ["\n\n"]) == "B"
    assert cut("B\n\nbecause", "c") == "B\n\nbe"
    assert cut("B", None) == "B"


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "text", "text": "no video"}],
        [{"type": "image", "url": "a.png"}, {"type": "video", "url": "a.mp4"}],
        [{"type": "video", "url": "a.mp4"}, {"type": "video", "url": "b.mp4"}],
    ],
)
def test_other_chats_are_refused(content):
    with pytest.raises(EvaluationError, match="one video"):
        video_and_text([{"role": "user", "content": content}])
