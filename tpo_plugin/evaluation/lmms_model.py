"""lmms-eval's model `tpo_hf`: a Hugging Face video LMM that sees the frames that curation and training sample."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lmms_eval.api.model import lmms
from tqdm import tqdm

from tpo_plugin.checks import check_frames
from tpo_plugin.errors import EvaluationError, TPOError
from tpo_plugin.generators.base import Prompt, with_times
from tpo_plugin.integrations.huggingface import in_batches, load_model, load_processor, write
from tpo_plugin.options import FrameOptions
from tpo_plugin.video import VideoInfo, probe, read_frames, sample_times

logger = logging.getLogger(__name__)

FAMILIES = ("llava_onevision", "llava_next_video", "qwen2_vl", "qwen2_5_vl")
PROGRESS = "Answering"  # the bar's name in the log, by which the parent process finds it


@dataclass(frozen=True)
class Asked:
    """One request: the video, the frames' times (seconds), the text and the task's generation settings."""

    video: str
    info: VideoInfo
    times: tuple[float, ...]
    text: str
    settings: dict[str, Any]

    @property
    def shape(self) -> tuple[Any, ...]:
        """Requests of the same shape can share a batch."""
        return (len(self.times), self.info.width, self.info.height, repr(sorted(self.settings.items())))


class TemporalHF(lmms):
    """Chat wrapper for the families in `FAMILIES`, full checkpoints and LoRA adapters (`base`: what the adapter belongs on).

    A video that cannot be decoded raises VideoError and so ends the evaluation: it never becomes an answer or a zero.
    """

    is_simple = False

    def __init__(
        self,
        pretrained: str,
        fps: float = 1.0,
        max_frames_num: int = 32,
        max_side: int = 768,
        time_instruction: bool = False,
        dtype: str = "auto",
        device: str = "auto",
        attn_implementation: str = "sdpa",
        batch_size: int | str = 1,
        base: str | None = None,
    ) -> None:
        super().__init__()
        checkpoint = str(pretrained).strip('"')
        self.frames = FrameOptions(float(fps), int(max_frames_num), int(max_side), bool(time_instruction))
        check_frames(self.frames)
        self.batch_size = int(batch_size)
        self.processor = load_processor(checkpoint)
        self.model = load_model(checkpoint, dtype, device, attn_implementation, base)
        family = self.model.config.model_type
        if family not in FAMILIES:
            raise TPOError(
                f"{checkpoint} is a {family} model; tpo_hf was tried with {', '.join(FAMILIES)}. "
                "Use lmms-eval's own wrapper for other families"
            )

    @property
    def device(self) -> torch.device:
        """Where the model is; lmms-eval asks."""
        place: torch.device = self.model.device
        return place

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """One answer for each of lmms-eval's requests, in their order. VideoError for a video that cannot be used."""
        asked = self._plan(requests)
        answers = [""] * len(asked)
        clips = _LastClip(self.frames.max_side)
        with tqdm(total=len(asked), desc=PROGRESS, unit="question", mininterval=1.0) as bar:
            for indices in in_batches([one.shape for one in asked], self.batch_size):
                batch = [asked[index] for index in indices]
                prompts = [
                    Prompt(clips.read(one.video, one.times), one.times, one.info.seconds, one.text) for one in batch
                ]
                settings = batch[0].settings
                written = write(self.model, self.processor, prompts, generation_arguments(settings))
                for index, (answer, _) in zip(indices, written):
                    answers[index] = cut(answer, settings.get("until")).strip()
                bar.update(len(batch))
        return answers

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Not offered: the video benchmarks are generative."""
        raise EvaluationError("tpo_hf answers generate_until tasks only")

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        """Not offered: the video benchmarks ask once."""
        raise EvaluationError("tpo_hf answers one-round tasks only")

    def _plan(self, requests: Sequence[Any]) -> list[Asked]:
        """All videos are probed before the first answer, so most unusable ones end the run in seconds."""
        infos: dict[str, VideoInfo] = {}
        asked = []
        for request in requests:
            _, doc_to_messages, settings, doc_id, task, split = request.args
            video, text = video_and_text(doc_to_messages(self.task_dict[task][split][doc_id]))
            info = infos.get(video) or infos.setdefault(video, probe(video))
            times = sample_times([(0.0, info.seconds)], self.frames)
            text = with_times(text, info.seconds, times, self.frames)
            asked.append(Asked(video, info, times, text, dict(settings)))
        return asked


class _LastClip:
    """Decodes clips and keeps the last one: a benchmark's questions about one video follow each other."""

    def __init__(self, max_side: int) -> None:
        self.max_side = max_side
        self._key: Any = None
        self._frames = np.empty(0, np.uint8)

    def read(self, video: str, times: tuple[float, ...]) -> np.ndarray:
        if self._key != (video, times):
            self._frames = read_frames(video, times, self.max_side)
            self._key = (video, times)
        return self._frames


def video_and_text(messages: Sequence[dict[str, Any]]) -> tuple[str, str]:
    """The video's path and the text of a chat of one message with one video; EvaluationError for any other chat."""
    parts = [part for message in messages for part in message["content"]]
    videos = [part["url"] for part in parts if part["type"] == "video"]
    texts = [part["text"] for part in parts if part["type"] == "text"]
    if len(messages) != 1 or len(videos) != 1 or len(videos) + len(texts) != len(parts):
        kinds = ", ".join(part["type"] for part in parts)
        raise EvaluationError(f"tpo_hf answers questions about one video; this task's message holds {kinds}")
    return str(videos[0]), "\n".join(texts)


def generation_arguments(settings: dict[str, Any]) -> dict[str, Any]:
    """transformers' `generate` arguments for a task's generation settings; greedy unless the task samples."""
    known = ("max_new_tokens", "min_new_tokens", "num_beams", "repetition_penalty", "length_penalty")
    sampling = ("temperature", "top_p", "top_k")
    unknown = sorted(set(settings) - {*known, *sampling, "until", "do_sample"})
    if unknown:
        logger.warning("generation settings that tpo_hf does not know are left out: %s", ", ".join(unknown))
    arguments = {"max_new_tokens": 128} | {name: settings[name] for name in known if settings.get(name) is not None}
    if settings.get("do_sample", bool(settings.get("temperature"))):
        return arguments | {"do_sample": True} | {name: settings[name] for name in sampling if name in settings}
    return arguments | {"do_sample": False, **dict.fromkeys(sampling)}


def cut(text: str, until: str | Sequence[str] | None) -> str:
    """`text` up to the first of the stop strings `until`."""
    for stop in [until] if isinstance(until, str) else until or ():
        if stop:
            text = text.split(stop, 1)[0]
    return text
