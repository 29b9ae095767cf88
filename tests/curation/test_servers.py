"""Servers that fail or answer nonsense: the run stops with the reason or counts a drop, and nothing is lost."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from tpo_plugin.curation.pipeline import curate
from tpo_plugin.errors import ServerError
from tpo_plugin.tiny.server import completion


def test_failing_server_stops_the_run_and_loses_nothing(
    faults, recipe_for, same_data, finished, undisturbed: Path, tmp_path: Path
) -> None:
    """One fault after the other, each further into the run; after each, the same call goes on from where it stopped."""
    never = threading.Event()
    plan: list[tuple[int, Callable[[BaseHTTPRequestHandler], Any], str]] = [
        (0, lambda handler: faults.send(handler, 401, '{"error": {"message": "no"}}'), "refuses the key"),
        (4, lambda handler: faults.send(handler, 500, "oops", "text/plain"), "answering 500"),
        (
            12,
            lambda handler: faults.send(handler, 200, "<html>Sign in</html>", "text/html"),
            "form of chat completions",
        ),
        (12, lambda handler: faults.send(handler, 429, "{}"), "answering 429"),
        (12, lambda handler: never.wait(30), "no answer within"),
    ]
    output, done = tmp_path / "out", 0
    for after, fault, says in plan:
        start = len(faults.requests)
        faults.fault = lambda handler, number, fault=fault, good=start + after: (
            number > good and (fault(handler) or True)
        )
        with pytest.raises(ServerError, match=says):
            curate(recipe_for("out", faults.base_url, timeout=1.0))
        assert not (output / "dataset.json").exists()
        assert sum(finished(output).values()) >= done
        done = sum(finished(output).values())
    assert done > 6
    never.set()
    faults.fault = lambda handler, number: False
    before = len(faults.requests)
    curate(recipe_for("out", faults.base_url))
    same_data(output, undisturbed)
    assert len(faults.requests) - before < len(faults.requests) / 2, "what was answered is not asked again"
    one, other = (json.loads((folder / "statistics.json").read_text()) for folder in (output, undisturbed))
    for name in ("calls", "tokens_in", "tokens_out"):
        assert one["llm"][name] == other["llm"][name] > 0, "all runs' together"
    lines = [json.loads(line) for line in (output / "journal.jsonl").read_text().splitlines()]
    assert one["seconds"] == round(sum(line["seconds"] for line in lines), 1)


def test_server_that_is_down(recipe_for, tmp_path: Path) -> None:
    with pytest.raises(ServerError, match=r"cannot be reached; is it running\?"):
        curate(recipe_for("out", "http://127.0.0.1:9/v1"))
    assert not (tmp_path / "out" / "dataset.json").exists()


def test_rejected_requests_cost_a_record_each_until_the_server_is_mended(
    faults, recipe_for, same_data, finished, undisturbed: Path, tmp_path: Path, funnel
) -> None:
    def fault(handler: BaseHTTPRequestHandler, number: int) -> bool:
        return number % 9 == 0 and (faults.send(handler, 400, '{"error": {"message": "too long"}}') or True)

    faults.fault = fault
    curate(recipe_for("out", faults.base_url))
    rows = funnel(tmp_path / "out")
    rejected = [name for row in rows.values() for name in row["dropped"] if name.endswith("rejected_request")]
    assert len(rejected) > 1
    assert sum(finished(tmp_path / "out").values()) < 3 * 6, "what lacks something is not finished"
    faults.fault = lambda handler, number: False
    curate(recipe_for("out", faults.base_url))
    same_data(tmp_path / "out", undisturbed)


@pytest.mark.parametrize("sort", [b"Describe what these frames", b"Write one question", b"max_tokens"])
def test_server_that_rejects_a_whole_sort_of_requests(
    faults, recipe_for, same_data, undisturbed: Path, tmp_path: Path, sort: bytes
) -> None:
    """Such as one that takes fewer pictures than the responses need."""
    faults.fault = lambda handler, number: (
        sort in faults.requests[number - 1]
        and (sort != b"max_tokens" or b"Describe what these frames" not in faults.requests[number - 1])
        and (faults.send(handler, 400, '{"error": {"message": "at most 1 image"}}') or True)
    )
    with pytest.raises(ServerError, match="rejects every request so far"):
        curate(recipe_for("out", faults.base_url))
    faults.fault = lambda handler, number: False
    curate(recipe_for("out", faults.base_url))
    same_data(tmp_path / "out", undisturbed)


def test_odd_replies_are_counted_drops(faults, recipe_for, tmp_path: Path, funnel, candidates) -> None:
    """Empty replies, refusals and rejected requests cost a record each, not the run."""
    texts = {
        "query": iter(["", "I would rather not.", "None", "None."]),
        "judge": iter(["", "Both are fine."]),
    }

    def fault(handler: BaseHTTPRequestHandler, number: int) -> bool:
        request = faults.requests[number - 1].decode()
        stage = "judge" if "Answer 1:" in request else "query" if "Write one question" in request else ""
        text = next(texts[stage], None) if stage else None
        if text is not None:
            faults.send(handler, 200, json.dumps(completion(text, 1)))
        return text is not None

    faults.fault = fault
    curate(recipe_for("out", faults.base_url, filters={"use": ["length", "judge"]}))
    rows = funnel(tmp_path / "out")
    assert rows["query"]["dropped"]["query_empty_reply"] == 1
    assert rows["query"]["dropped"]["query_malformed"] == 1
    assert rows["query"]["dropped"]["none_appropriate"] >= 2
    assert rows["filter"]["dropped"]["judge_empty_reply"] == 1
    assert rows["filter"]["dropped"]["judge_malformed"] == 1
    assert {pair.verdicts.get("reply") for pair in candidates(tmp_path / "out")} >= {"Both are fine."}


def test_empty_captions_are_counted_drops(faults, recipe_for, tmp_path: Path, funnel) -> None:
    faults.fault = lambda handler, number: (
        b"Describe what these frames" in faults.requests[number - 1]
        and (faults.send(handler, 200, json.dumps(completion("", 1))) or True)
    )
    curate(recipe_for("out", faults.base_url, videos={"limit": 1}))
    rows = funnel(tmp_path / "out")
    assert rows["caption"]["dropped"] == {"caption_empty_reply": rows["caption"]["in"]}
    assert rows["query"]["dropped"] == {"no_caption": 6}
    assert json.loads((tmp_path / "out" / "pairs.json").read_text()) == []
