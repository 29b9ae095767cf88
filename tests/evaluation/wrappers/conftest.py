"""lmms-eval's requests for questions about videos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SETTINGS = {"max_new_tokens": 6, "temperature": 0, "do_sample": False, "until": ["\n\n"]}


@pytest.fixture(scope="session")
def ask() -> Callable[..., list[Any]]:
    """A function that gives lmms-eval's requests to `model` for (video, text) pairs; a video is a path or given frames."""
    from lmms_eval.api.instance import Instance

    def make(model: Any, questions: list[tuple[Any, str]], settings: dict[str, Any] = SETTINGS) -> list[Any]:
        videos = [str(video) if isinstance(video, Path) else video for video, _ in questions]
        docs = [{"video": video, "text": text} for video, (_, text) in zip(videos, questions)]
        model.task_dict = {"task": {"test": docs}}

        def messages(doc: dict[str, Any]) -> list[dict[str, Any]]:
            parts = [{"type": "video", "url": doc["video"]}, {"type": "text", "text": doc["text"]}]
            return [{"role": "user", "content": parts}]

        return [
            Instance(
                "generate_until",
                ("", messages, settings, index, "task", "test"),
                0,
                {"task": "task", "doc_id": index, "repeats": 1},
            )
            for index in range(len(questions))
        ]

    return make


@pytest.fixture(scope="session")
def questions(benchmark_folder: Path) -> list[tuple[Path, str]]:
    """Five questions about a short and a long video in turn."""
    videos = benchmark_folder / "videomme" / "data"
    order = ["short-000", "long-000", "short-000", "long-000", "short-000"]
    return [(videos / f"{name}.mp4", f"Question {number}?") for number, name in enumerate(order)]
