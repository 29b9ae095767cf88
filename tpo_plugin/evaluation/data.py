"""The benchmarks' local files, in the layout in which lmms-eval finds them below one folder.

lmms-eval's tasks name a hub dataset; `datasets` prefers a local folder of that name in the working directory, and the
videos are looked for below HF_HOME. With both set to one folder, its unmodified tasks run without a network.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tpo_plugin.errors import EvaluationError
from tpo_plugin.evaluation.layouts import NEEDLE, OF_VIDEOS, SUBTITLED, Layout, layout_of
from tpo_plugin.integrations.lmms_eval_tasks import base_task
from tpo_plugin.records import stable_id

FACTS = "truth.json"
FACT_NAMES = ("kind", "scenes")
VINOGROUND_PAIRS = 500
LEFTOVERS = ("*.zip", "*.tar", "*.tar.*", "*.part", "*.part-*", "*.incomplete", "*.crdownload")
VINOGROUND = {
    "text": "vinoground_videos/vinoground_textscore.json",
    "video": "vinoground_videos_concated/vinoground_videoscore.json",
}


@dataclass(frozen=True)
class Benchmark:
    """A task's questions in their order with their videos' files, and what they are made of in one number."""

    rows: list[dict[str, Any]]
    digest: str
    videos: list[Path] = field(default_factory=list)
    subtitled: int | None = None  # how many of the videos have subtitles, where the task shows them


def hf_home() -> Path:
    """Where lmms-eval looks for videos, and Hugging Face for everything else, if a recipe names no `data`."""
    return Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface").expanduser().absolute()


def read_benchmark(folder: Path, task: str, rows: list[dict[str, Any]] | None = None) -> Benchmark | None:
    """The questions of `task` below `folder`, each with its video in place; None for a task whose layout is not known here.

    `rows` are the questions if they are not there too. Raises EvaluationError that names what is missing: lmms-eval would go to the
    network for it, or ask without subtitles.
    """
    if task == NEEDLE:
        return _read_needle(folder)
    layout = layout_of(task)
    if layout is None:
        return None
    rows = read_rows(folder, task, layout) if rows is None else rows
    if layout.pairs:
        rows = _with_vinoground_videos(folder / layout.videos, rows)
    digest = hashlib.sha256(repr([sorted(row.items()) for row in rows]).encode())
    videos = _videos(folder / layout.videos, task, layout, rows)
    for video in videos:
        digest.update(f"{video.name} {video.stat().st_size}\n".encode())
    subtitled = None
    if layout.subtitles:
        texts = _subtitles(folder / layout.subtitles, task, videos)
        subtitled = len(texts)
        for text in texts:
            digest.update(f"{text.name} ".encode() + text.read_bytes())
    return Benchmark(_with_facts(rows, folder / FACTS, task), digest.hexdigest()[:16], videos, subtitled)


def _read_needle(folder: Path) -> Benchmark:
    """The grid of our own task, as its pictures are shown. EvaluationError for what is not there, VideoError for a broken haystack."""
    from tpo_plugin.evaluation.needle.task import FILE, questions, read_world

    world = read_world(folder / FILE)
    rows = questions(world)
    return Benchmark(rows, stable_id(rows, world.grid.fps, world.grid.needle_frames), world.videos)


def read_rows(folder: Path, task: str, layout: Layout) -> list[dict[str, Any]]:
    """The local questions of a task, from the files that `datasets` takes for its split. EvaluationError if there are none."""
    import pyarrow.parquet

    place = folder / layout.rows
    if not any(place.rglob("*.parquet")):
        raise EvaluationError(f"{task}: no parquet file in {place}; `data` must hold lmms-eval's layout")
    files = _split_files(place, task, layout)
    rows = [row for file in files for row in pyarrow.parquet.read_table(file).to_pylist()]
    if not rows:
        raise EvaluationError(f"{task}: {files[0]} has no questions")
    return rows


def _split_files(place: Path, task: str, layout: Layout) -> list[str]:
    """The parquet files of the task's configuration and split, as `datasets` resolves them."""
    from datasets import load_dataset_builder

    with tempfile.TemporaryDirectory() as cache:
        try:
            builder = load_dataset_builder(str(place), layout.config, cache_dir=cache)
        except (ValueError, OSError) as error:
            raise EvaluationError(
                f"{task}: `datasets` does not read {place}: {error}. Take the folder as it is on the hub, with its README.md"
            ) from None
        splits: dict[str, list[str]] = dict(builder.config.data_files or {})
    if layout.split not in splits:
        raise EvaluationError(f"{task}: {place} has no split {layout.split}; it has {', '.join(map(str, splits))}")
    return [str(file) for file in splits[layout.split]]


def _videos(folder: Path, task: str, layout: Layout, rows: list[dict[str, Any]]) -> list[Path]:
    """The videos' files, sorted by name. EvaluationError names those that are missing or empty."""
    names = sorted({str(row[layout.video]) for row in rows})
    found = {name: _video(folder, name, layout.suffixes) for name in names}
    missing = [name for name, file in found.items() if file is None]
    empty = [file.name for file in found.values() if file is not None and not file.stat().st_size]
    if not missing and not empty:
        return [file for file in found.values() if file is not None]
    first = f"no video {missing[0]} in {folder}" if missing else f"the video {empty[0]} in {folder} is empty"
    counts = f"{len(missing)} of {len(names)} videos are missing, {len(empty)} are empty"
    raise EvaluationError(f"{task}: {first} ({counts}){_leftovers(folder)}")


def _leftovers(folder: Path) -> str:
    """What a download or an extraction that did not end has left in the folder of the videos or above it."""
    places = [place for place in (folder, folder.parent) if place.is_dir()]
    found = sorted({file.name for place in places for pattern in LEFTOVERS for file in place.glob(pattern)})
    if not found:
        return ""
    shown = ", ".join(found[:3]) + (", ..." if len(found) > 3 else "")
    return f"; {shown} beside them: finish the download and extract the archives again"


def _subtitles(folder: Path, task: str, videos: list[Path]) -> list[Path]:
    """The subtitles that are there. EvaluationError if more videos have none than in the benchmark itself."""
    files = [folder / f"{video.stem}.srt" for video in videos]
    missing = [file.name for file in files if not file.is_file() or not file.stat().st_size]
    if len(missing) * OF_VIDEOS > (OF_VIDEOS - SUBTITLED) * len(files):
        raise EvaluationError(
            f"{task}: no subtitles {missing[0]} in {folder} ({len(missing)} of {len(files)} videos have none, in Video-MME "
            f"itself {OF_VIDEOS - SUBTITLED} of {OF_VIDEOS}): lmms-eval would ask without them; extract its subtitle.zip there"
        )
    return [file for file in files if file.name not in missing]


def vinoground_truth(folder: Path) -> dict[str, dict[str, Any]]:
    """By the index of a question (`0_pos_text`): its video (`video_name`) and the right answer (`GT`), from Vinoground's two lists."""
    found = {}
    for kind, name in VINOGROUND.items():
        file = folder / name
        if not file.is_file():
            raise EvaluationError(f"vinoground: no {name} in {folder}{_leftovers(folder)}")
        for item in json.loads(file.read_text(encoding="utf-8")):
            found[f"{item['idx']}_{kind}"] = item
    return found


def _with_vinoground_videos(folder: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    truth = vinoground_truth(folder)
    numbers = {int(row["index"].split("_")[0]) for row in rows}
    if numbers != set(range(VINOGROUND_PAIRS)):
        raise EvaluationError(
            f"vinoground: {folder} has {len(numbers)} pairs; lmms-eval scores all {VINOGROUND_PAIRS} or none"
        )
    unknown = [row["index"] for row in rows if row["index"] not in truth]
    if unknown:
        raise EvaluationError(f"vinoground: {unknown[0]} is in none of the lists in {folder} ({len(unknown)} are not)")
    return [{**row, "video": truth[row["index"]]["video_name"]} for row in rows]


def _with_facts(rows: list[dict[str, Any]], file: Path, task: str) -> list[dict[str, Any]]:
    """The rows with what a made-up benchmark knows of its questions (`kind`, `scenes`), by question id or row number."""
    if not file.is_file():
        return rows
    known = json.loads(file.read_text(encoding="utf-8"))
    facts = known.get(base_task(task)) or known.get(base_task(task).removesuffix("_w_subtitle"))
    if not facts:
        return rows
    return [
        {**row, **{name: facts[str(row.get("question_id", number))][name] for name in FACT_NAMES}}
        for number, row in enumerate(rows)
    ]


def _video(folder: Path, name: str, suffixes: tuple[str, ...]) -> Path | None:
    return next((path for suffix in suffixes if (path := folder / f"{name}{suffix}").is_file()), None)
