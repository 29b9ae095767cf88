"""When an answer is right."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

PUNCTUATION = " \t\r\n.,:;!?\"'`()[]{}*"


def teacher_forced(written: Sequence[int], answer: Sequence[int]) -> bool:
    """Whether the most likely token is the answer's at each of its places when the answer itself is what the model continues.

    That is so exactly if greedy decoding writes the answer's tokens first: up to the first token that differs, both see the same
    text. So one generation gives both scores. `written` are token ids of greedy decoding, at least as many as the answer's.
    """
    return list(written[: len(answer)]) == list(answer)


def greedy(new_tokens: int) -> dict[str, Any]:
    """Arguments of `generate` that write the most likely tokens, whatever the checkpoint's generation config says."""
    return {
        "max_new_tokens": new_tokens,
        "do_sample": False,
        "num_beams": 1,
        "repetition_penalty": 1.0,
        **dict.fromkeys(("temperature", "top_p", "top_k")),
    }


def generated(response: str, answer: str) -> bool:
    """Whether the response is the answer or begins with it as a whole word or number.

    Case, spaces and the punctuation around both do not count: 'b) San Diego' and '(B)' are the answer 'B', 'Bird' is not;
    '200 mg' is the answer '200', '200.5' is not. A letter alone must be marked as an option: 'A yellow cat' is not the answer 'A'.
    """
    given, true = _normalised(response), _normalised(answer)
    if re.fullmatch("[a-z]", true):
        given, ends = _normalised(response.strip().partition("\n")[0]), r"(?=[).:,]|$)"
    else:
        ends = r"(?![.,]?\d)" if true[-1:].isdigit() else r"(?!\w)"
    return bool(true) and re.match(re.escape(true) + ends, given) is not None


def _normalised(text: str) -> str:
    return " ".join(text.casefold().split()).strip(PUNCTUATION)
