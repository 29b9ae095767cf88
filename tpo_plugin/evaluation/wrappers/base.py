"""What our lmms-eval models share: planning, frames, batches, unreadable videos, several processes.

A model writes two kinds of lines to standard error for whoever reads the log (search for them: a progress bar may stand before one):

    tpo wrapper: {json}            once, when it is loaded: everything of it that can change a number (`facts`)
    tpo unreadable video: {json}   with `unreadable=count`, once for each video: `video`, `reason`, `text`

Data-parallel (accelerate launch, torchrun): lmms-eval splits the questions, each process takes the GPU of its LOCAL_RANK.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, ClassVar, TypeVar

import torch
from accelerate.state import is_initialized
from lmms_eval.api.model import lmms
from torch import distributed
from tqdm import tqdm

from tpo_plugin.checks import at_least, check_frames
from tpo_plugin.errors import EvaluationError, TPOError, VideoError
from tpo_plugin.evaluation.wrappers.generation import cut, generation_arguments
from tpo_plugin.evaluation.wrappers.messages import Asked, GivenFrames, video_and_text
from tpo_plugin.folders import adapter_base
from tpo_plugin.generators.base import Prompt, with_times
from tpo_plugin.generators.in_process import in_batches
from tpo_plugin.integrations.devices import pick_device
from tpo_plugin.options import FrameOptions
from tpo_plugin.video import VideoInfo, probe, read_frames, sample_times

__all__ = ["FACTS", "PROGRESS", "UNREADABLE", "GivenFrames", "TemporalModel"]

PROGRESS = "Answering"  # the bar's name in the log, by which the parent process finds it
FACTS, UNREADABLE = "tpo wrapper: ", "tpo unreadable video: "
T = TypeVar("T")


class TemporalModel(lmms):
    """A chat model that answers one question about one video, or about frames that the task gives (`GivenFrames`).

    A video that cannot be decoded raises VideoError and so ends the evaluation. With `unreadable="count"` its questions get the empty answer
    instead, and the log names it. That scores nothing, except where a task draws an option for an answer that names none (LongVideoBench,
    EgoSchema) or has an LLM judge it (TempCompass): `tpo evaluate` refuses these with it. Vinoground's own code fails at an empty answer;
    under `tpo evaluate` it counts as wrong.
    """

    is_simple = False
    # lmms-eval's name for it, and how long an answer may be where the task does not say: as in lmms-eval's own wrapper of the family.
    model_id: ClassVar[str]
    new_tokens: ClassVar[int]

    def __init__(self, frames: FrameOptions, batch_size: int | str, unreadable: str) -> None:
        super().__init__()
        check_frames(frames)
        at_least("batch_size", int(batch_size), 1)
        self.frames, self.batch_size, self.unreadable = frames, int(batch_size), unreadable
        if unreadable not in ("error", "count"):
            raise TPOError(
                f"unreadable={unreadable} is not known: error (end the evaluation) or count (as a wrong answer)"
            )
        _check_processes()
        self._reported: set[str | None] = set()
        self._last: tuple[str, Prompt] | None = None

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the model is; lmms-eval asks."""

    @abstractmethod
    def write(self, prompts: Sequence[Prompt], arguments: Mapping[str, Any]) -> list[str]:
        """What the model writes after each prompt of a batch; `arguments` are those of transformers' `generate`."""

    @abstractmethod
    def details(self) -> dict[str, Any]:
        """What `facts` says of the loaded model itself: checkpoint, pooling, newline, template, tokens a frame, precision."""

    def facts(self) -> dict[str, Any]:
        """Everything of this wrapper that can change a number, with the values in use."""
        return {
            "model": self.model_id,
            "max_frames_num": self.frames.max,
            "fps": self.frames.fps,
            "max_side": self.frames.max_side,
            "max_pixels": self.frames.max_pixels,
            "time_instruction": self.frames.time_instruction,
            "batch_size": self.batch_size,
            "max_new_tokens": self.new_tokens,
            "unreadable": self.unreadable,
            **self.details(),
        }

    def announce(self) -> None:
        """Write the facts to the log; a subclass calls it when its model is loaded."""
        if int(os.environ.get("RANK", 0)) == 0:
            tqdm.write(FACTS + json.dumps(self.facts()), file=sys.stderr)

    def batches(self, asked: Sequence[Asked]) -> list[list[int]]:
        """Indices of `asked`, each once, in batches that `write` can take: here of frames of one number and size."""
        return in_batches([(one.shape, one.sampling) for one in asked], self.batch_size)

    def read_video(self, video: str, one: Asked) -> Prompt:
        """The frames of the video that `one` asks about, with an empty text. VideoError for one that cannot be decoded."""
        frames = read_frames(video, one.times, self.frames.max_side, self.frames.max_pixels)
        return Prompt(frames, one.times, one.seconds, "", max_pixels=self.frames.max_pixels)

    def prompt(self, one: Asked) -> Prompt:
        """The frames and the text that the model is asked with. VideoError for a video that cannot be decoded."""
        if one.video is None:
            given = video_and_text(one.again())[0]
            assert isinstance(given, GivenFrames)
            clip = Prompt(given.frames, given.times, given.seconds, "", max_pixels=given.max_pixels)
        else:
            clip = self._clip(one.video, one)
        return replace(clip, text=with_times(one.text, clip.seconds, clip.times, self.frames))

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """One answer for each of lmms-eval's requests, in their order. VideoError for a video that cannot be used."""
        with ExitStack() as stack:
            if self.world_size > 1:
                stack.push(_end_process)
            asked = self.plan(requests)
            answers = [""] * len(asked)
            usable = [index for index, one in enumerate(asked) if one is not None]
            planned = [one for one in asked if one is not None]
            with tqdm(total=len(asked), desc=PROGRESS, unit="question", mininterval=1.0, disable=self.rank > 0) as bar:
                bar.update(len(asked) - len(planned))
                for batch in self.batches(planned):
                    for place, answer in self._answer({usable[place]: planned[place] for place in batch}).items():
                        answers[place] = answer
                    bar.update(len(batch))
        return answers

    def plan(self, requests: Sequence[Any]) -> list[Asked | None]:
        """All videos are probed before the first answer, so most unusable ones end the run in seconds; None for one that is counted."""
        infos: dict[str, VideoInfo | None] = {}
        return [self._plan_one(request, infos) for request in requests]

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Not offered: lmms-eval hands chat models generative tasks only."""
        raise EvaluationError(f"{self.model_id} answers generate_until tasks only")

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        """Not offered: the video benchmarks ask once."""
        raise EvaluationError(f"{self.model_id} answers one-round tasks only")

    def _plan_one(self, request: Any, infos: dict[str, VideoInfo | None]) -> Asked | None:
        _, doc_to_messages, settings, doc_id, task, split = request.args

        def again() -> Any:
            return doc_to_messages(self.task_dict[task][split][doc_id])

        video, text = video_and_text(again())
        if isinstance(video, GivenFrames):
            size = (video.frames.shape[2], video.frames.shape[1])
            return Asked(None, video.times, video.seconds, size, text, dict(settings), again)
        if video not in infos:
            infos[video] = self._unless_counted(video, lambda: probe(video))
        info = infos[video]
        if info is None:
            return None
        times = sample_times([(0.0, info.seconds)], self.frames)
        return Asked(video, times, info.seconds, (info.width, info.height), text, dict(settings), again)

    def _answer(self, batch: Mapping[int, Asked]) -> dict[int, str]:
        """The answers to a batch of requests, by their places; those about a video that is counted as unreadable are left out."""
        prompts = {}
        for place, one in batch.items():
            prompt = self._unless_counted(one.video, partial(self.prompt, one))
            if prompt is not None:
                prompts[place] = prompt
        if not prompts:
            return {}
        settings = next(iter(batch.values())).settings
        written = self.write(list(prompts.values()), generation_arguments(settings, self.new_tokens))
        return {place: cut(text, settings.get("until")).strip() for place, text in zip(prompts, written)}

    def _clip(self, video: str, one: Asked) -> Prompt:
        """The frames of a video. The last ones are kept: a benchmark's questions about one video follow each other."""
        if self._last is None or self._last[0] != video:
            self._last = (video, self.read_video(video, one))
        return self._last[1]

    def _unless_counted(self, video: str | None, read: Callable[[], T]) -> T | None:
        """What `read` gives; None, with a line in the log, for a VideoError where those are counted."""
        try:
            return read()
        except VideoError as error:
            if self.unreadable == "error":
                cure = "mend the file, or count the questions about such videos as wrong: unreadable=count"
                raise VideoError(error.reason, f"{error}; {cure}") from None
            if video not in self._reported:
                line = {"video": video, "reason": error.reason, "text": str(error)}
                tqdm.write(UNREADABLE + json.dumps(line), file=sys.stderr)
                self._reported.add(video)
            return None


def adapter_and_base(pretrained: str, peft: str | None, base: str | None) -> tuple[str | None, str]:
    """The adapter's folder, None without one, and the checkpoint that it belongs on: `peft` on `pretrained`, or `pretrained` itself
    on `base` or on what it names. TPOError where they do not fit together."""
    if peft is None:
        named = adapter_base(pretrained)
        if base is not None and named is None:
            raise TPOError(f"base={base} has no effect: {pretrained} holds no adapter")
        return (None, pretrained) if named is None else (pretrained, base or named)
    if adapter_base(peft) is None:
        raise TPOError(f"peft={peft} holds no adapter (adapter_config.json)")
    if base is not None or adapter_base(pretrained) is not None:
        raise TPOError(
            f"with peft={peft}, `pretrained` is the checkpoint that the adapter belongs on, and `base` is not given"
        )
    return peft, pretrained


def place_of(device: str) -> torch.device:
    """Where this process's model goes: `auto` is the first GPU, with several processes that of LOCAL_RANK, else the CPU.

    TPOError if there are fewer GPUs than processes.
    """
    if device != "auto" or int(os.environ.get("WORLD_SIZE", 1)) == 1 or not torch.cuda.is_available():
        return pick_device(device)
    rank, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if (processes := int(os.environ.get("LOCAL_WORLD_SIZE", rank + 1))) > gpus:
        raise TPOError(f"{processes} processes were started on this machine, which has {gpus} GPUs: start one for each")
    return torch.device("cuda", rank)


def _check_processes() -> None:
    """TPOError where several processes were started and accelerate, which lmms-eval gathers their answers with, runs each alone."""
    if int(os.environ.get("WORLD_SIZE", 1)) > 1 and is_initialized() and not distributed.is_initialized():
        raise TPOError(
            "several processes were started, but accelerate does not connect them, since there is no GPU and it was not told so: "
            "set ACCELERATE_USE_CPU=true"
        )


def _end_process(kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
    """As an `__exit__`: after an error this process ends with status 1, so that the launcher ends the others.

    lmms-eval would catch it and end with status 0, while the others wait for this one's answers: up to 16 hours.
    """
    if error is not None:
        traceback.print_exception(error)
        raise SystemExit(f"tpo: {error}") from error
