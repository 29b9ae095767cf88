"""The server generator: frames and text arrive as they were, in order; what is not said has its reason."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest

from tpo_plugin.errors import ServerError
from tpo_plugin.generators import Prompt, build_generator
from tpo_plugin.generators.base import text_prompt
from tpo_plugin.llm import ChatClient, Reply
from tpo_plugin.options import GeneratorOptions, ServerOptions
from tpo_plugin.tiny.server import completion, read_request
from tpo_plugin.tiny.world import Scene, frames_at

SCENES = [Scene("red", "triangle", "left"), Scene("blue", "square", "up")]


def generate(base_url: str, folder: Path, prompts: list[Prompt], **options: float) -> list[Reply]:
    chosen = GeneratorOptions(type="server", server=ServerOptions(base_url, "m", retries=0, concurrency=3), **options)

    async def run() -> list[Reply]:
        client = ChatClient(chosen.server, folder / "cache.sqlite")
        try:
            return await build_generator(chosen, 3, client).generate(prompts)
        finally:
            await client.close()

    return asyncio.run(run())


def prompt(text: str, start: float = 0.0) -> Prompt:
    times = (start + 0.5, start + 3.5)
    return Prompt(frames_at(SCENES, list(times), 64), times, 4.0, text)


def test_answers_in_the_order_of_the_prompts(tiny_server: str, tmp_path: Path) -> None:
    prompts = [
        prompt("What shape is shown when the background is red?"),
        prompt("What shape is shown when the background is blue?", 4.0),
        prompt("Which way does the shape move when the background is blue?", 4.0),
        prompt("Describe this."),
    ]
    replies = generate(tiny_server, tmp_path, prompts)
    assert {reply.problem for reply in replies} == {None}
    assert [reply.text for reply in replies] == [
        "triangle",
        "square",
        "up",
        "On a red background a triangle moves left.",
    ]


def test_request(faults, tmp_path: Path) -> None:
    generate(faults.base_url, tmp_path, [prompt("What?")], max_new_tokens=7, temperature=0.5, top_p=0.9)
    request = json.loads(faults.requests[0])
    assert (request["model"], request["max_tokens"], request["temperature"], request["top_p"]) == ("m", 7, 0.5, 0.9)
    assert request["seed"] == 3, "sampling is seeded"
    kinds = [part["type"] for part in request["messages"][-1]["content"]]
    assert kinds == ["image_url", "image_url", "text"], "frames first, so that the prompts of a video share a prefix"
    text, pictures = read_request(request)
    assert text == "What?"
    for sent, frame in zip(pictures, prompt("What?").frames):
        assert sent.shape == frame.shape
        assert np.abs(sent.astype(int) - frame).mean() < 4, "JPEG loses a little, no more"


def test_words_alone_are_a_plain_message(faults, tmp_path: Path) -> None:
    generate(faults.base_url, tmp_path, [text_prompt("Sum up.")])
    assert json.loads(faults.requests[0])["messages"] == [{"role": "user", "content": "Sum up."}]


def test_greedy_request_has_no_seed(faults, tmp_path: Path) -> None:
    generate(faults.base_url, tmp_path, [prompt("What?")])
    assert "seed" not in json.loads(faults.requests[0])


def test_problems_are_the_servers(faults, tmp_path: Path) -> None:
    def fault(handler, number: int) -> bool:
        text = read_request(json.loads(faults.requests[number - 1]))[0]
        reply = completion("", 1)
        if text == "refuse":
            reply["choices"][0]["message"] = {"role": "assistant", "content": None, "refusal": "no"}
        if text == "long":
            reply["choices"][0] |= {
                "finish_reason": "length",
                "message": {"role": "assistant", "content": "A triangle mo"},
            }
        if text in ("refuse", "nothing", "long"):
            faults.send(handler, 200, json.dumps(reply))
        if text == "reject":
            faults.send(handler, 400, "{}")
        return text in ("refuse", "nothing", "reject", "long")

    faults.fault = fault
    asked = ("refuse", "Hello?", "nothing", "reject", "long")
    assert generate(faults.base_url, tmp_path, [prompt(text) for text in asked]) == [
        Reply("", "refused"),
        Reply("On a red background a triangle moves left."),
        Reply("", "empty_reply"),
        Reply("", "rejected_request"),
        Reply("A triangle mo", "cut_off"),
    ]


def test_first_error_stops_the_others(faults, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    faults.fault = lambda handler, number: number == 4 and (faults.send(handler, 401, "{}") or True)
    with pytest.raises(ServerError, match="refuses the key"):
        generate(faults.base_url, tmp_path, [prompt(f"Question {index}?") for index in range(40)])
    assert len(faults.requests) < 12, "no more than those in flight"
    assert "never retrieved" not in caplog.text
