"""Rows of LLaVA-Video-178K: `conversations`, in which a human asks about a `video` and the answer is given."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from tpo_plugin.errors import TPOError


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
