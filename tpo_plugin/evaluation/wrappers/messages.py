"""What a task of lmms-eval hands to a chat model: one video with its question, or frames of the task's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tpo_plugin.errors import EvaluationError

Chat = Sequence[dict[str, Any]]


@dataclass(frozen=True, eq=False)
class GivenFrames:
    """Frames to show as they are, without sampling or resizing: the `url` of a message's part of type `video`.

    `frames` is uint8 (T, H, W, 3) RGB, `times` its T ascending times in seconds, `seconds` the length of the video that they stand for,
    `max_pixels` the limit that they were reduced to, if any (see generators.base.Prompt).
    """

    frames: np.ndarray = field(repr=False)
    times: tuple[float, ...]
    seconds: float
    max_pixels: int | None = None

    def __post_init__(self) -> None:
        shape = self.frames.shape
        if len(shape) != 4 or shape[3] != 3 or self.frames.dtype != np.uint8 or not 0 < shape[0] == len(self.times):
            raise ValueError(f"{len(self.times)} times for frames {self.frames.dtype} {shape}; (T, H, W, 3) wanted")


@dataclass(frozen=True)
class Asked:
    """One request: a video's path (None: the task gives its frames), their times (seconds), length and displayed size, the question
    and the task's generation settings. `again` is the task's message; given frames are not kept, since many do not fit into memory."""

    video: str | None
    times: tuple[float, ...]
    seconds: float
    size: tuple[int, int]
    text: str
    settings: dict[str, Any]
    again: Callable[[], Chat] = field(repr=False)

    @property
    def shape(self) -> tuple[Any, ...]:
        """Requests of the same shape have frames of the same number and size."""
        return (len(self.times), *self.size)

    @property
    def sampling(self) -> str:
        """Requests that can share a call of `generate` have the same."""
        return repr(sorted(self.settings.items()))


def video_and_text(messages: Chat) -> tuple[str | GivenFrames, str]:
    """The video and the text of a chat of one message, a video and then its question; EvaluationError for any other chat.

    The benchmarks of the papers all ask so. Anything else would have to be shown in another order than the task has it.
    """
    parts = [part for message in messages for part in _parts(message)]
    kinds = [str(part.get("type")) for part in parts]
    if len(messages) != 1 or kinds[:1] != ["video"] or set(kinds[1:]) != {"text"}:
        raise EvaluationError(
            f"this model answers a question about one video; the task's {len(messages)} messages hold {', '.join(kinds) or 'nothing'}"
        )
    video = parts[0]["url"]
    if not isinstance(video, (str, GivenFrames)):
        raise EvaluationError(f"this model takes a video by its path; the task hands over a {type(video).__name__}")
    return video, "\n".join(part["text"] for part in parts[1:])


def _parts(message: dict[str, Any]) -> list[dict[str, Any]]:
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)
