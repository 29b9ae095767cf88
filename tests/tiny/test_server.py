"""The tiny world's server speaks the OpenAI interface over real HTTP."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request

import openai
import pytest

from tpo_plugin.generators.server import data_uri
from tpo_plugin.tiny.server import TinyServer
from tpo_plugin.tiny.world import Scene, frames_at


def post(base_url: str, path: str, body: bytes) -> tuple[int, dict]:
    request = urllib.request.Request(base_url + path, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_official_client(tiny_server: str) -> None:
    client = openai.OpenAI(base_url=tiny_server, api_key="any")
    assert [model.id for model in client.models.list()] == ["tiny-world"]
    frame = frames_at([Scene("pink", "cross", "down")], [1.0], 64)[0]
    picture = {"type": "image_url", "image_url": {"url": data_uri(frame)}}
    content = [picture, {"type": "text", "text": "What shape is shown when the background is pink?"}]
    answer = client.chat.completions.create(model="x", messages=[{"role": "user", "content": content}])
    assert answer.choices[0].message.content == "cross"
    assert answer.usage.prompt_tokens == 9 + 64
    assert answer.usage.completion_tokens == 1


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/chat/completions", b"{", 400),
        ("/chat/completions", b"[]", 400),
        ("/chat/completions", b'{"messages": []}', 400),
        (
            "/chat/completions",
            b'{"messages": [{"content": [{"type": "image_url", "image_url": {"url": "data:,x"}}]}]}',
            400,
        ),
        ("/embeddings", b"{}", 404),
    ],
)
def test_bad_requests(tiny_server: str, path: str, body: bytes, status: int) -> None:
    code, answer = post(tiny_server, path, body)
    assert code == status
    assert answer["error"]["message"]


def test_stops_and_frees_its_port() -> None:
    with TinyServer() as server:
        port = int(server.base_url.split(":")[2].split("/")[0])
    with TinyServer(port) as again:
        assert again.base_url == server.base_url


def test_served_by_the_command_line() -> None:
    run = subprocess.Popen(
        [sys.executable, "-m", "tpo_plugin.cli", "tiny", "serve", "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    try:
        base_url = run.stdout.readline().strip()
        assert post(base_url, "/chat/completions", b'{"messages": [{"role": "user", "content": "Hello"}]}')[0] == 200
    finally:
        run.kill()
        run.communicate()
