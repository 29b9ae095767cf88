"""A real HTTP server with the OpenAI chat completions interface; behind it the tiny world's language model."""

from __future__ import annotations

import base64
import io
import json
import logging
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

import numpy as np
from PIL import Image

from tpo_plugin.tiny import llm

logger = logging.getLogger(__name__)
MODEL = "tiny-world"


class TinyServer:
    """The server in a thread of its own: `with TinyServer() as server: ... server.base_url`. Port 0 takes a free one."""

    def __init__(self, port: int = 0, handler: type[BaseHTTPRequestHandler] | None = None) -> None:
        self._http = ThreadingHTTPServer(("127.0.0.1", port), handler or ChatHandler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), daemon=True)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}/v1"

    def __enter__(self) -> TinyServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._http.server_close()

    def wait(self) -> None:
        """Serve until interrupted."""
        self._thread.join()


class ChatHandler(BaseHTTPRequestHandler):
    """POST /v1/chat/completions and GET /v1/models."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        if self.path.endswith("/models"):
            self.send(200, {"object": "list", "data": [{"id": MODEL, "object": "model"}]})
        else:
            self.send(404, {"error": {"message": f"no such path: {self.path}"}})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not self.path.endswith("/chat/completions"):
            self.send(404, {"error": {"message": f"no such path: {self.path}"}})
            return
        try:
            text, frames = read_request(json.loads(body))
        except (ValueError, KeyError, TypeError, IndexError, OSError) as error:
            self.send(400, {"error": {"message": f"not a chat completion request: {error}"}})
            return
        self.send(200, completion(llm.answer(text, frames), len(text.split()) + 64 * len(frames)))

    def send(self, status: int, value: Any) -> None:
        """Answer with JSON."""
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        logger.debug(format, *args)


def read_request(request: dict[str, Any]) -> tuple[str, list[np.ndarray]]:
    """The last message's text and its pictures, uint8 (H, W, 3)."""
    content = request["messages"][-1]["content"]
    if isinstance(content, str):
        return content, []
    texts = [part["text"] for part in content if part["type"] == "text"]
    uris = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
    pictures = [Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB") for uri in uris]
    return "\n".join(texts), [np.asarray(picture) for picture in pictures]


def completion(text: str, tokens_in: int) -> dict[str, Any]:
    """A chat completion; a token is a word here, and 64 of them a picture."""
    tokens_out = len(text.split())
    return {
        "id": "chatcmpl-tiny",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": MODEL,
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out},
    }
