"""Rows of LLaVA-Video-178K: `conversations`, in which a human asks about a `video` and the answer is given."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from tpo_plugin.errors import TPOError

logger = logging.getLogger(__name__)

# Some scripts write these where the video goes; here the policy puts the video before the prompt.
PLACEHOLDERS = ("<image>", "<video>")


def is_conversation(values: Mapping[str, Any]) -> bool:
    """Whether a row is a conversation: one with a chosen response is a pair, whatever else it holds."""
    return "conversations" in values and values.get("chosen") is None


def answered(values: Mapping[str, Any], where: str) -> list[tuple[str, str]]:
    """The questions of a conversation's row with their answers, to fine-tune on: none of them empty, and none at all without a video.

    TPOError, `where` it is, for a conversation of another form.
    """
    video = values.get("video")
    if not isinstance(video, str) or not video.strip():
        return []
    found = turns(values["conversations"], where)
    stripped = [(strip_placeholders(question), answer) for question, answer in found]
    return [(question, answer) for question, answer in stripped if question and answer]


def warn_of_left_out(name: str, count: int, total: int) -> None:
    """Say that `count` of the `total` rows of the file `name` are conversations without `answered` questions."""
    if count:
        logger.warning(
            "%s: %d of %d rows are left out: they have no video (pictures or text alone) or no answered question",
            name, count, total,
        )  # fmt: skip


def turns(conversation: Sequence[Any], where: str) -> list[tuple[str, str]]:
    """The questions and answers of a conversation, without placeholders; TPOError, `where` it is, for one of another form."""
    try:
        texts = [(turn["from"], turn["value"].replace("<image>", "").strip()) for turn in conversation]
    except (TypeError, KeyError, AttributeError):
        raise TPOError(f"{where}: `conversations` must be a list of {{from, value}}") from None
    return [
        (question, answer)
        for (asker, question), (answerer, answer) in pairwise(texts)
        if asker == "human" and answerer == "gpt" and question
    ]


def strip_placeholders(prompt: str) -> str:
    """The prompt without a video placeholder at its start or end."""
    for mark in PLACEHOLDERS:
        prompt = prompt.removeprefix(mark + "\n").removeprefix(mark).removesuffix("\n" + mark).removesuffix(mark)
    return prompt
