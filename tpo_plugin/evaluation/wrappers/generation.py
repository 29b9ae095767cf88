"""A task's generation settings, as transformers' `generate` takes them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

logger = logging.getLogger(__name__)

KNOWN = ("max_new_tokens", "min_new_tokens", "num_beams", "repetition_penalty", "length_penalty")
SAMPLING = ("temperature", "top_p", "top_k")
# Where a task samples and does not say: a checkpoint's own limits (Qwen2-VL's `top_k` is 1) would make it greedy.
UNLIMITED = {"top_p": 1.0, "top_k": 0}
# lmms-eval fills this in where a task names no stop string: it separates few-shot examples. The wrappers of the families here do not
# stop there, and an answer that begins with it would be empty.
SEPARATOR = "\n\n"


def generation_arguments(settings: Mapping[str, Any], max_new_tokens: int) -> dict[str, Any]:
    """Arguments for `generate`: greedy unless the task samples, `max_new_tokens` where it names no number."""
    unknown = sorted(set(settings) - {*KNOWN, *SAMPLING, "until", "do_sample"})
    if unknown:
        logger.warning("generation settings that this model does not know are left out: %s", ", ".join(unknown))
    arguments: dict[str, Any] = {"max_new_tokens": max_new_tokens}
    arguments |= {name: settings[name] for name in KNOWN if settings.get(name) is not None}
    if settings.get("do_sample", bool(settings.get("temperature"))):
        named = {name: settings[name] for name in SAMPLING if settings.get(name) is not None}
        return arguments | {"do_sample": True, **UNLIMITED} | named
    return arguments | {"do_sample": False, **dict.fromkeys(SAMPLING)}


def cut(text: str, until: str | Sequence[str] | None) -> str:
    """`text` up to the first of the task's own stop strings."""
    for stop in [until] if isinstance(until, str) else until or ():
        if stop and stop != SEPARATOR:
            text = text.split(stop, 1)[0]
    return text
