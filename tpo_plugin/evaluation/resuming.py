"""A model's answers kept on disk while it answers, so that a killed evaluation continues where it was."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tpo_plugin.records import append_line, whole_lines, write_bytes

logger = logging.getLogger(__name__)

PROGRESS = "Questions"  # the bar's name in the log, by which the parent process finds it
AT_ONCE = (
    64  # questions between two lines; a multiple of the batch size is taken, and always the same ones share a line
)


def keep_answers(model: Any, file: Path, batch_size: int) -> None:
    """Let `model.generate_until` add its answers to `file` as they come, and take from there what it holds already.

    The requests of a line are asked together with or without a stop in between, so the answers are the same. Nothing is kept of a
    task that samples: its answers depend on all random numbers drawn before. A model of ours probes the videos of all remaining
    questions before the first answer.

    A line is known by what was to be asked before the model saw any of it: lmms-eval's own models change the settings in place.
    """
    from lmms_eval.api.instance import unwrap_generation_output

    ask, count = model.generate_until, batch_size * -(-AT_ONCE // batch_size)

    def generate_until(requests: Sequence[Any]) -> list[Any]:
        if any(_samples(_settings(request)) for request in requests):
            return list(ask(requests))
        groups = [requests[start : start + count] for start in range(0, len(requests), count)]
        asked = [_asked(group) for group in groups]
        answers = _kept(file, asked)
        if hasattr(model, "plan"):
            model.plan(requests[len(answers) :])
        with (
            file.open("ab", buffering=0) as journal,
            tqdm(total=len(requests), initial=len(answers), desc=PROGRESS, unit="question") as bar,
        ):
            for place in range(-(-len(answers) // count), len(groups)):
                written = list(ask(groups[place]))
                line = json.dumps(
                    {"asked": asked[place], "answers": [unwrap_generation_output(answer)[0] for answer in written]}
                )
                append_line(journal, line.encode() + b"\n")
                answers += written
                bar.update(len(written))
        return answers

    model.generate_until = generate_until


def _kept(file: Path, asked: Sequence[str]) -> list[Any]:
    """The answers to the first groups, by their hashes, that `file` holds. Lines about other questions are dropped, with all after them."""
    answers: list[Any] = []
    lines = whole_lines(file)
    good = 0
    for line, group in zip(lines, asked):
        row = json.loads(line)
        if row["asked"] != group:
            break
        answers += row["answers"]
        good += 1
    write_bytes(file, b"".join(lines[:good]))
    if answers:
        logger.info("%d answers of a run that was stopped are kept", len(answers))
    return answers


def _asked(group: Sequence[Any]) -> str:
    """A hash of what a group of requests asks."""
    asked = repr([(request.doc_id, request.args[0], sorted(_settings(request).items())) for request in group])
    return hashlib.sha256(asked.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _settings(request: Any) -> dict[str, Any]:
    """A request's generation settings; where they stand differs between lmms-eval's kinds of models."""
    return next(argument for argument in request.args if isinstance(argument, dict))


def _samples(settings: dict[str, Any]) -> bool:
    return bool(settings.get("do_sample") or settings.get("temperature"))
