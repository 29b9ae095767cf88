"""Fixtures that several test folders share."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

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
def tiny_server() -> Iterator[str]:
    """The address of a running tiny-world server (OpenAI-compatible, real HTTP)."""
    from tpo_plugin.tiny.server import TinyServer

    with TinyServer() as server:
        yield server.base_url
