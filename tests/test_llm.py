"""The chat client against a real HTTP server that misbehaves in every way we know."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import sqlite3
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from tpo_plugin.concurrency import together
from tpo_plugin.errors import ServerError, TPOError
from tpo_plugin.llm import ChatClient, Reply, Usage
from tpo_plugin.options import ServerOptions
from tpo_plugin.tiny.server import completion

KEY = "sk-very-secret-0123456789"
MESSAGES = [{"role": "user", "content": "Hello"}]
Fault = Callable[[BaseHTTPRequestHandler, int], bool]


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", KEY)


def ask(base_url: str, folder: Path, count: int = 1, kind: str = "", **options: Any) -> list[Reply]:
    """The replies to `count` different messages, asked together."""
    server = ServerOptions(**{"base_url": base_url, "model": "m", "key_env": "TEST_KEY", "retries": 0, **options})

    async def run() -> list[Reply]:
        client = ChatClient(server, folder / "cache.sqlite", kind)
        try:
            return await together(
                client.complete([*MESSAGES, {"role": "user", "content": str(i)}], temperature=0) for i in range(count)
            )
        finally:
            await client.close()

    return asyncio.run(run())


def usage(folder: Path) -> Usage:
    """What all clients of the folder's cache have used."""
    client = ChatClient(ServerOptions(), folder / "cache.sqlite")
    used = client.usage()
    asyncio.run(client.close())
    return used


def status(code: int, **headers: str) -> Fault:
    """Answers with an error that quotes the key, as some servers do."""

    def fault(handler: BaseHTTPRequestHandler, number: int) -> bool:
        body = json.dumps({"error": {"message": f"{'x' * 250} {handler.headers['Authorization']} is no good"}}).encode()
        handler.send_response(code)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)
        return True

    return fault


def body(text: str, kind: str = "application/json") -> Fault:
    """Answers 200 with this body."""

    def fault(handler: BaseHTTPRequestHandler, number: int) -> bool:
        handler.send_response(200)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(text.encode())))
        handler.end_headers()
        handler.wfile.write(text.encode())
        return True

    return fault


def message(finish_reason: str = "stop", **fields: Any) -> Fault:
    """Answers with a completion whose message has these fields."""
    reply = completion("", 3)
    reply["choices"][0] = {"index": 0, "finish_reason": finish_reason, "message": {"role": "assistant", **fields}}
    return body(json.dumps(reply))


def hang_up(handler: BaseHTTPRequestHandler, number: int) -> bool:
    handler.connection.shutdown(socket.SHUT_RDWR)
    return True


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (status(401), "refuses the key in TEST_KEY"),
        (status(403), "refuses the key in TEST_KEY"),
        (status(404), "has no model 'm'"),
        (status(429), "keeps answering 429"),
        (status(500), "keeps answering 500"),
        (status(503), "keeps answering 503"),
        (body("<html>Sign in</html>", "text/html"), "form of chat completions"),
        (body("<html>Sign in</html>"), "form of chat completions"),
        (body('{"hello": 1}'), "form of chat completions"),
        (body('{"choices": []}'), "form of chat completions"),
        (body('{"choices": [{"index": 0}]}'), "form of chat completions"),
        (body('{"choices": [{"index": 0, "message": {"content": [1]}}]}'), "form of chat completions"),
        (body("[1, 2]"), "form of chat completions"),
        (body("null"), "form of chat completions"),
        (body(""), "form of chat completions"),
        (hang_up, "cannot be reached"),
    ],
)
def test_unusable_server(faults, tmp_path: Path, caplog: pytest.LogCaptureFixture, fault: Fault, says: str) -> None:
    caplog.set_level(logging.INFO)
    faults.fault = fault
    with pytest.raises(ServerError) as caught:
        ask(faults.base_url, tmp_path)
    assert says in str(caught.value)
    assert faults.base_url in str(caught.value)
    assert "run the same command again" in str(caught.value)
    assert "sk-very" not in str(caught.value) + caplog.text
    assert not any(b"sk-very" in file.read_bytes() for file in tmp_path.iterdir())
    # When the server is mended, the same question is asked again: the failure was not remembered.
    faults.fault = lambda handler, number: False
    assert ask(faults.base_url, tmp_path)[0].problem is None


def test_server_that_never_answers(faults, tmp_path: Path) -> None:
    released = threading.Event()
    faults.fault = lambda handler, number: released.wait(30) or True
    started = time.monotonic()
    with pytest.raises(ServerError, match=r"no answer within 0\.3 s"):
        ask(faults.base_url, tmp_path, timeout=0.3)
    assert time.monotonic() - started < 5
    released.set()


def test_server_that_is_down(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        with pytest.raises(ServerError, match="cannot be reached; is it running"):
            ask(f"http://127.0.0.1:{taken.getsockname()[1]}/v1", tmp_path)
    with pytest.raises(ServerError, match="cannot be reached"):
        ask("http://no-such-host.invalid/v1", tmp_path)


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        (message(content=""), "empty_reply"),
        (message(content=None), "empty_reply"),
        (message(content=" \n"), "empty_reply"),
        (message(content=None, refusal="I cannot help with that."), "refused"),
        (message("content_filter", content="I ca"), "refused"),
        (status(400), "rejected_request"),
        (status(422), "rejected_request"),
    ],
)
def test_reply_without_text(
    faults, tmp_path: Path, caplog: pytest.LogCaptureFixture, fault: Fault, problem: str
) -> None:
    faults.fault = fault
    assert ask(faults.base_url, tmp_path) == [Reply("", problem)]
    assert "sk-very" not in caplog.text
    assert ("rejects a request" in caplog.text) == (problem == "rejected_request")


def test_reply_that_ran_out_of_tokens_says_so(faults, tmp_path: Path) -> None:
    faults.fault = message("length", content=" It begins with ")
    assert ask(faults.base_url, tmp_path) == [Reply("It begins with", "cut_off")]
    assert ask(faults.base_url, tmp_path) == [Reply("It begins with", "cut_off")], "from the cache too"
    assert len(faults.requests) == 1


def test_passing_faults_are_tried_again(faults, tmp_path: Path) -> None:
    """A cut connection, 429 (with the time to wait), 500 and garbage, then an answer."""
    plan = [hang_up, status(429, **{"Retry-After": "0.01"}), status(500, **{"Retry-After": "0.01"}), body("garbage")]
    faults.fault = lambda handler, number: number <= len(plan) and plan[number - 1](handler, number)
    assert ask(faults.base_url, tmp_path, retries=4)[0].problem is None
    assert len(faults.requests) == 5


def test_cache_asks_once_and_counts(faults, tmp_path: Path) -> None:
    assert usage(tmp_path) == Usage()
    first = ask(faults.base_url, tmp_path, 3, price_in=1000.0)
    again = ask(faults.base_url, tmp_path, 3, "another kind")
    assert first == again
    assert len(faults.requests) == 3
    used = usage(tmp_path)
    assert (used.calls, used.cached) == (3, 3)
    assert used.tokens_in > 0
    assert used.cost == pytest.approx(used.tokens_in / 1000)
    ask(faults.base_url, tmp_path, 3, model="another")
    assert len(faults.requests) == 6, "another model is another question"
    assert (usage(tmp_path).calls, usage(tmp_path).tokens_in) == (6, 2 * used.tokens_in)


def test_rejected_request_is_not_remembered(faults, tmp_path: Path) -> None:
    faults.fault = status(400)
    assert ask(faults.base_url, tmp_path) == [Reply("", "rejected_request")]
    assert usage(tmp_path) == Usage()
    faults.fault = lambda handler, number: False
    assert ask(faults.base_url, tmp_path)[0].problem is None


def test_server_that_rejects_everything(faults, tmp_path: Path) -> None:
    faults.fault = lambda handler, number: (
        faults.send(handler, 400, '{"error": {"message": "at most 1 image"}}') or True
    )
    with pytest.raises(ServerError, match=r"rejects every request so far \(.*at most 1 image.*Mend what it names"):
        ask(faults.base_url, tmp_path, 20)
    assert 3 <= len(faults.requests) < 6
    # What one kind of requests was answered says nothing of another; an answer in an earlier run or in the cache counts.
    faults.fault = lambda handler, number: False
    ask(faults.base_url, tmp_path, 1, "text")
    faults.fault = status(422)
    with pytest.raises(ServerError, match="rejects every request so far"):
        ask(faults.base_url, tmp_path, 9, "images", model="another")
    for kind in ("text", "text of a changed recipe"):
        replies = ask(faults.base_url, tmp_path, 9, kind)
        assert [reply.problem for reply in replies] == [None] + 8 * ["rejected_request"]


def test_single_rejected_requests_cost_themselves(faults, tmp_path: Path) -> None:
    faults.fault = lambda handler, number: number in (1, 2, 4, 5) and status(400)(handler, number)
    replies = ask(faults.base_url, tmp_path, 8, concurrency=1)
    assert [index for index, reply in enumerate(replies, 1) if reply.problem] == [1, 2, 4, 5]


def test_concurrency_is_bounded(faults, tmp_path: Path) -> None:
    lock, now, most = threading.Lock(), 0, 0

    def slow(handler: BaseHTTPRequestHandler, number: int) -> bool:
        nonlocal now, most
        with lock:
            now, most = now + 1, max(most, now + 1)
        time.sleep(0.05)
        with lock:
            now -= 1
        return False

    faults.fault = slow
    ask(faults.base_url, tmp_path, 9, concurrency=3)
    assert most == 3


def test_missing_key_is_told_at_the_first_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEST_KEY")
    with pytest.raises(ServerError, match="set the environment variable TEST_KEY"):
        ask("https://api.openai.com/v1", tmp_path)


def test_key_with_a_line_break_still_works(faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", KEY + "\r\n")
    assert ask(faults.base_url, tmp_path)[0].problem is None


@pytest.mark.parametrize("key", ["sk-\u0141\u00f3d\u017a-secret", "sk-secret\nline"])
def test_impossible_key(faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("TEST_KEY", key)
    with pytest.raises(ServerError) as caught:
        ask(faults.base_url, tmp_path)
    assert "TEST_KEY" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_damaged_cache_names_the_cure(faults, tmp_path: Path) -> None:
    (tmp_path / "cache.sqlite").write_bytes(b"this is no database " * 500)
    with pytest.raises(TPOError, match="delete it"):
        ask(faults.base_url, tmp_path)


def test_cache_that_cannot_be_written(faults, tmp_path: Path) -> None:
    ask(faults.base_url, tmp_path)
    with sqlite3.connect(tmp_path / "cache.sqlite") as cache:
        # What sqlite says on a full disk, said by the data base itself.
        cache.execute("CREATE TRIGGER full BEFORE INSERT ON replies BEGIN SELECT RAISE(FAIL, 'disk is full'); END")
    with pytest.raises(TPOError, match=r"disk is full.*Free some space"):
        ask(faults.base_url, tmp_path, 2)
