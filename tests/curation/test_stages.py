"""What the stages make of replies that are missing or not complete."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from tpo_plugin.curation.pipeline import curate
from tpo_plugin.curation.responses import problem
from tpo_plugin.llm import Reply
from tpo_plugin.tiny.server import completion


def cut(text: str) -> str:
    """A completion that ran out of tokens."""
    reply = completion(text, 1)
    reply["choices"][0]["finish_reason"] = "length"
    return json.dumps(reply)


def test_pairs_need_whole_responses_and_captions_do_not(faults, recipe_for, tmp_path: Path, funnel, candidates) -> None:
    given = iter([cut("The star mo"), json.dumps(completion("", 1))])

    def fault(handler: BaseHTTPRequestHandler, number: int) -> bool:
        request = faults.requests[number - 1]
        if b"image_url" not in request:
            return False
        caption = b"Describe what these frames" in request
        reply = cut("On a red background a star moves left. On a") if caption else next(given, None)
        if reply is not None:
            faults.send(handler, 200, reply)
        return reply is not None

    faults.fault = fault
    curate(recipe_for("out", faults.base_url, videos={"limit": 1}, filters={"use": ["identical"]}))
    rows = funnel(tmp_path / "out")
    assert rows["caption"]["dropped"] == {}
    dropped = rows["respond"]["dropped"]
    # Both may have been sides of one pair: then the chosen side's reason counts.
    assert sum(dropped.values()) in (1, 2)
    assert dropped.keys() <= {"response_cut_off", "response_empty_reply"}
    assert rows["respond"]["in"] == rows["query"]["out"]
    assert len(candidates(tmp_path / "out")) == rows["respond"]["out"] == rows["filter"]["in"]
    assert not [pair for pair in candidates(tmp_path / "out") if "The star mo" in (pair.chosen, pair.rejected)]


def test_an_empty_response_is_none_whatever_its_generator_says() -> None:
    assert [problem(Reply(text)) for text in ("", " \n", "x")] == ["empty_reply", "empty_reply", None]
    assert problem(Reply("", "refused")) == "refused"
