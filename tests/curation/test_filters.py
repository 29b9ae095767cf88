"""Filters: keep a pair or say why not; the judge's reply is read as it is meant."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from tpo_plugin.curation.filters import Context, Verdict, find_filter
from tpo_plugin.curation.filters.judge import parse_verdicts
from tpo_plugin.errors import RecipeError
from tpo_plugin.llm import ChatClient
from tpo_plugin.options import FilterOptions, ServerOptions
from tpo_plugin.records import Perturbation, PreferencePair, Query, Video
from tpo_plugin.tiny.server import completion

GOOD = {"better": "yes", "contradiction": "no", "correct": "yes"}
CAPTIONS = "[0.0 s] On a red background a star moves left. On a blue background a ring moves up."


def run(
    name: str,
    base_url: str,
    folder: Path,
    chosen: str,
    rejected: str,
    question: str = "",
    captions: str = CAPTIONS,
    times: tuple[float, ...] = (),
) -> Verdict:
    pair = PreferencePair(
        "p", Video("v", "v.mp4", 9.0, 25.0, 64, 64), Query("q", "comprehensive", "object", question),
        Perturbation("drop", ((0.0, 5.0),)), chosen, rejected, (1.0, 2.0), times, captions=captions,
    )  # fmt: skip

    async def ask() -> Verdict:
        llm = ChatClient(ServerOptions(base_url=base_url, model="m", retries=0), folder / "cache.sqlite")
        try:
            return await find_filter(name)(pair, Context(FilterOptions(max_characters=20), llm))
        finally:
            await llm.close()

    return asyncio.run(ask())


@pytest.mark.parametrize(
    ("reply", "verdicts"),
    [
        ("1: Yes\n2: No\n3: Yes", GOOD),
        ("1: yes\n2: no\n3: yes", GOOD),
        ("Task 1: Yes\nTask 2: No\nTask 3: Yes", GOOD),
        ("**Task 1:** Yes.\n**Task 2:** No.\n**Task 3:** Yes.", GOOD),
        ("1. Yes\n2. No\n3. Yes", GOOD),
        ("1) Yes - it names the star\n2) No\n3) Yes", GOOD),
        ("My verdicts are:\n\n- 1: YES\n- 2: NO\n- 3: YES\n\nDone.", GOOD),
        ("3: Yes\n1: Yes\n2: No", GOOD),
        ("1: <Yes>\n2: <No>\n3: <Yes>", GOOD),
        ("1: Equally\n2: No\n3: Yes", {**GOOD, "better": "equally"}),
        ("1: No\n2: Yes\n3: No", {"better": "no", "contradiction": "yes", "correct": "no"}),
        ("1: Yes\n2: Equally\n3: Yes", None),
        ("1: Yes\n2: No", None),
        ("1: Yes\n2: No\n3: Yes\n3: No", None),
        ("1: Yes\n2: No\n3: Yesterday", None),
        ("1: Maybe\n2: No\n3: Yes", None),
        ("Yes\nNo\nYes", None),
        ("Answer 1: Yes is better", None),
        ("", None),
    ],
)
def test_verdicts(reply: str, verdicts: dict[str, str] | None) -> None:
    assert parse_verdicts(reply) == verdicts


@pytest.mark.parametrize(
    ("chosen", "rejected", "drop"),
    [("A star.", "a  star", "identical"), ("star\n", "Star. ", "identical"), ("a star", "two stars", None)],
)
def test_identical(tiny_server: str, tmp_path: Path, chosen: str, rejected: str, drop: str | None) -> None:
    assert run("identical", tiny_server, tmp_path, chosen, rejected).drop == drop


@pytest.mark.parametrize(
    ("chosen", "rejected", "drop"),
    [
        ("", "x", "empty_response"),
        ("x", " \n", "empty_response"),
        ("x" * 21, "x", "too_long"),
        ("x" * 20, "x" * 20, None),
    ],
)
def test_length(tiny_server: str, tmp_path: Path, chosen: str, rejected: str, drop: str | None) -> None:
    assert run("length", tiny_server, tmp_path, chosen, rejected).drop == drop


@pytest.mark.parametrize(
    ("chosen", "rejected", "drop"),
    [
        ("ring", "star", None),
        ("star", "ring", "judge_not_better"),
        ("ring", "Ring.", "judge_equal"),
        ("a", "b", "judge_equal"),
    ],
)
def test_judge(tiny_server: str, tmp_path: Path, chosen: str, rejected: str, drop: str | None) -> None:
    question = "What shape is shown right after the red background?"
    verdict = run("judge", tiny_server, tmp_path, chosen, rejected, question)
    assert verdict.drop == drop
    assert set(verdict.says) == set(GOOD)


def test_the_judge_is_never_blind(faults, tmp_path: Path) -> None:
    assert run("judge", faults.base_url, tmp_path, "a", "b", captions="") == Verdict("no_caption")
    assert faults.requests == []


@pytest.mark.parametrize(
    ("reply", "drop"),
    [
        ("1: Yes\n2: Yes\n3: Yes", "judge_contradiction"),
        ("1: Yes\n2: No\n3: No", "judge_incorrect"),
        ("1: Yes\n2: No\n3: Yes", None),
        ("I like both.", "judge_malformed"),
        ("", "judge_empty_reply"),
    ],
)
def test_each_reason_of_the_judge(faults, tmp_path: Path, reply: str, drop: str | None) -> None:
    faults.fault = lambda handler, number: faults.send(handler, 200, json.dumps(completion(reply, 1))) or True
    assert run("judge", faults.base_url, tmp_path, "{a} {captions}", "b", "What {is}?").drop == drop
    sent = json.loads(faults.requests[0])["messages"][-1]["content"]
    for part in (CAPTIONS, "Question: What {is}?", "Answer 1: {a} {captions}", "Answer 2: b"):
        assert part in sent


LOST, MOVED = (2.0,), (2.0, 1.0)  # frames that the rejected side saw; the chosen one saw those at 1 and 2 s


@pytest.mark.parametrize(
    ("name", "chosen", "rejected", "times", "drop"),
    [
        ("drop_length", "four", "one", LOST, None),
        ("drop_length", "four", "five ", LOST, "drop_not_shorter"),
        ("drop_length", "four", "longer", LOST, "drop_not_shorter"),
        ("drop_length", "four", "longer", MOVED, None),
        ("order_length", "four", "sixsix", MOVED, None),
        ("order_length", "sixsix", "four", MOVED, None),
        ("order_length", "four", "seven77", MOVED, "order_length_ratio"),
        ("order_length", "seven77", "four", MOVED, "order_length_ratio"),
        ("order_length", "four", "seven77", LOST, None),
        ("contained", "A star.", "First a  STAR. Then a ring.", MOVED, "contained"),
        ("contained", "A star. A ring.", "A star.", LOST, None),
        ("contained", "A star. A ring.", "A ring. A star.", MOVED, None),
    ],
)
def test_temples_rules(
    tiny_server: str, tmp_path: Path, name: str, chosen: str, rejected: str, times: tuple[float, ...], drop: str | None
) -> None:
    assert run(name, tiny_server, tmp_path, chosen, rejected, times=times).drop == drop


def test_names() -> None:
    with pytest.raises(RecipeError, match="unknown filter `jugde`; built in: identical, length, judge"):
        find_filter("jugde")
