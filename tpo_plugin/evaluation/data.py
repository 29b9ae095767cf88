"""The benchmarks' local files, in the layout in which lmms-eval finds them below one folder.

lmms-eval's tasks name a hub dataset; `datasets` prefers a local folder of that name in the working directory, and the
videos are looked for below HF_HOME. With both set to one folder, its unmodified tasks run without a network.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tpo_plugin.errors import EvaluationError


@dataclass(frozen=True)
class Layout:
    """Where a task's rows and videos are below the data folder; `video` is the column that names the file."""

    rows: str
    videos: str
    video: str
    suffixes: tuple[str, ...] = ("",)


FACTS = "truth.json"
FACT_NAMES = ("kind", "scenes")
LAYOUTS = {
    "videomme": Layout("lmms-eval/Video-MME", "videomme/data", "videoID", (".mp4", ".MP4", ".mkv")),
    "mlvu_dev": Layout("sy1998/MLVU_dev", "mlvu", "video_name"),
}


@dataclass(frozen=True)
class Benchmark:
    """A task's questions in their order, and what they are made of in one number."""

    rows: list[dict[str, Any]]
    digest: str


def read_benchmark(folder: Path, task: str) -> Benchmark | None:
    """The local questions of `task`, each with its video in place; None for a task whose layout is not known here.

    Raises EvaluationError that names the first missing file: lmms-eval would go to the network for it.
    """
    layout = LAYOUTS.get(task)
    if layout is None:
        return None
    import pyarrow.parquet

    files = sorted((folder / layout.rows).rglob("*.parquet"))
    if not files:
        raise EvaluationError(f"{task}: no parquet file in {folder / layout.rows}; `data` must hold lmms-eval's layout")
    rows = [row for file in files for row in pyarrow.parquet.read_table(file).to_pylist()]
    if not rows:
        raise EvaluationError(f"{task}: {files[0]} has no questions")
    digest = hashlib.sha256(repr([sorted(row.items()) for row in rows]).encode())
    for name in sorted({str(row[layout.video]) for row in rows}):
        video = _video(folder / layout.videos, name, layout.suffixes)
        if video is None:
            raise EvaluationError(f"{task}: no video {name} in {folder / layout.videos}")
        digest.update(f"{video.name} {video.stat().st_size}\n".encode())
    return Benchmark(_with_facts(rows, folder / FACTS, task), digest.hexdigest()[:16])


def _with_facts(rows: list[dict[str, Any]], file: Path, task: str) -> list[dict[str, Any]]:
    """The rows with what a made-up benchmark knows of its questions (`kind`, `scenes`), by question id or row number."""
    if not file.is_file():
        return rows
    facts = json.loads(file.read_text(encoding="utf-8"))[task]
    return [
        {**row, **{name: facts[str(row.get("question_id", number))][name] for name in FACT_NAMES}}
        for number, row in enumerate(rows)
    ]


def _video(folder: Path, name: str, suffixes: tuple[str, ...]) -> Path | None:
    return next((path for suffix in suffixes if (path := folder / f"{name}{suffix}").is_file()), None)
