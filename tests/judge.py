"""The judge that TempCompass's tasks ask, by rules, behind the tiny world's server: real HTTP, no model."""

from __future__ import annotations

import json
import re

from tpo_plugin.tiny.server import ChatHandler, TinyServer, completion, read_request

PREDICTION = re.compile(r"Ground-Truth Answer: (.*)\nModel Prediction: (.*)", re.DOTALL)
CAPTION = re.compile(r".*\nVideo Description:(.*)\nMulti-Choice Question:\n(.*)\nAnswer:", re.DOTALL)


def verdict(text: str) -> str:
    """Correct or Incorrect about a prediction; about a caption, the one option that it names."""
    if found := PREDICTION.search(text):
        answer, prediction = (part.strip() for part in found.groups())
        return "Correct" if answer in prediction else "Incorrect"
    found = CAPTION.fullmatch(text)
    assert found, text
    caption, question = found.groups()
    named = [option for option in question.split("\n")[1:] if option.partition(". ")[2] in caption]
    answer = named[0] if len(named) == 1 else "None of the choices are correct"
    return f"Reasoning: the description says so.\nAnswer: {answer}"


class Judge(ChatHandler):
    """POST /v1/chat/completions."""

    def do_POST(self) -> None:
        text, _ = read_request(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send(200, completion(verdict(text), len(text.split())))


def server() -> TinyServer:
    """The server, to be entered; lmms-eval takes its full address, `base_url`/chat/completions, from OPENAI_API_URL."""
    return TinyServer(handler=Judge)
