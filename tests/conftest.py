"""Fixtures that several test folders share."""

from __future__ import annotations

import importlib.util
import io
import os
import random
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tpo_plugin.tiny.server import TinyServer

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from tpo_plugin.integrations.checkout import DEFINED, FILES, IMPORTED, LOOKED_UP
from tpo_plugin.integrations.torchvision import repair

repair()  # before any test module imports transformers


@pytest.fixture(scope="session")
def tiny_videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three tiny-world videos: 16 s each, 8 scenes of 2 s, 4 frames a second, 64 px."""
    from tpo_plugin.tiny.world import draw_scenes, frames_at
    from tpo_plugin.video import write_video

    folder = tmp_path_factory.mktemp("videos")
    for index in range(3):
        scenes = draw_scenes(random.Random(index), 8, 2.0)
        write_video(folder / f"video {index}.mp4", frames_at(scenes, [place / 4 for place in range(64)], 64), 4)
    return folder


@pytest.fixture(scope="session")
def tiny_family(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function that makes a small random checkpoint of a Hugging Face family and returns its folder."""
    families = _beside("families")
    return lambda family: families.build(family, tmp_path_factory.mktemp(family))


@pytest.fixture(scope="session")
def benchmark_files() -> ModuleType:
    """benchmark_files.py: writes the benchmarks of the papers in their own schemas."""
    return _beside("benchmark_files")


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a running judge of TempCompass (judge.py), which lmms-eval's tasks ask while the test runs."""
    with _beside("judge").server() as server:
        monkeypatch.setenv("OPENAI_API_URL", f"{server.base_url}/chat/completions")
        monkeypatch.setenv("OPENAI_API_KEY", "none")
        yield server.base_url


@pytest.fixture
def beside_longva(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout `LongVA` in the working directory, as far as it is looked at before anything runs; returns its training script."""
    package = tmp_path / "LongVA" / "longva" / "longva"
    for file in FILES:
        (package / file).parent.mkdir(parents=True, exist_ok=True)
        (package / file).write_text("")
    defined = "\n".join(f"def {name}(): pass" for name in DEFINED)
    script = package / "train" / "train_dpo.py"
    script.write_text(
        f"from longva.train.llava_trainer import {IMPORTED}\n{defined}\n"
        f"def train(): return {', '.join(LOOKED_UP)}\nif __name__ == '__main__': train()\n"
    )
    monkeypatch.chdir(tmp_path)
    return script


def _beside(name: str) -> ModuleType:
    """The module of this name in this folder; tests are no package that could import it."""
    spec = importlib.util.spec_from_file_location(f"tpo_tests_{name}", Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tiny_server() -> Iterator[str]:
    """The address of a running tiny-world server (OpenAI-compatible, real HTTP)."""
    from tpo_plugin.tiny.server import TinyServer

    with TinyServer() as server:
        yield server.base_url


class Faults:
    """A tiny-world server that misbehaves on demand: `fault(handler, number)` sees each chat request (numbered from 1) first.

    It answers by itself and returns True, or returns False for the usual answer. `requests` are the bodies received.
    """

    def __init__(self, server: TinyServer) -> None:
        self.server = server
        self.requests: list[bytes] = []
        self.fault: Callable[[BaseHTTPRequestHandler, int], bool] = lambda handler, number: False

    @property
    def base_url(self) -> str:
        return self.server.base_url

    @staticmethod
    def send(handler: BaseHTTPRequestHandler, status: int, text: str, kind: str = "application/json") -> None:
        """Answer with this body."""
        handler.send_response(status)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(text.encode())))
        handler.end_headers()
        handler.wfile.write(text.encode())


@pytest.fixture
def faults() -> Iterator[Faults]:
    """A server of one's own whose faults a test decides."""
    from tpo_plugin.tiny.server import ChatHandler, TinyServer

    lock = threading.Lock()

    class Handler(ChatHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with lock:
                plan.requests.append(body)
                number = len(plan.requests)
            if not plan.fault(self, number):
                connection, self.rfile = self.rfile, io.BytesIO(body)
                super().do_POST()
                self.rfile = connection

    with TinyServer(handler=Handler) as server:
        plan = Faults(server)
        yield plan
