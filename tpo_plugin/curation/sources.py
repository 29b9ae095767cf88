"""Finding the videos that a recipe names."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tpo_plugin.dataset.conversations import turns
from tpo_plugin.errors import TPOError
from tpo_plugin.options import VideoOptions
from tpo_plugin.records import read_jsonl
from tpo_plugin.video import SUFFIXES

DIGEST_BYTES = 1 << 16


@dataclass(frozen=True)
class Source:
    """A video file, `path` relative to the root; `qa` holds the questions and answers that came with it."""

    path: str
    qa: tuple[tuple[str, str], ...] = ()


def find_videos(options: VideoOptions, qa_file: str | None = None) -> tuple[Path, list[Source]]:
    """The root folder and the videos in a fixed order; TPOError if there are none.

    `qa_file` (LLaVA-Video-178K form) adds questions to the videos that it names.
    """
    source = Path(options.source)
    if not source.exists():
        raise TPOError(f"no videos at {source}: `videos.source` is a folder, a .txt list, or a .json / .jsonl file")
    root = Path(options.root) if options.root else source if source.is_dir() else source.parent
    if not root.is_dir():
        raise TPOError(f"no folder at {root}: `videos.root` is the folder that video paths start from")
    if source.is_dir():
        prefix = Path(os.path.relpath(source, root))
        if ".." in prefix.parts:
            raise TPOError(f"`videos.source` {source} does not lie in `videos.root` {root}")
        paths = [path for path in sorted(source.rglob("*")) if _is_video(path)]
        found = [Source((prefix / path.relative_to(source)).as_posix()) for path in paths]
    elif source.suffix in (".json", ".jsonl"):
        found = _from_rows(source, root)
    else:
        lines = (line.strip() for line in _lines(source))
        found = [Source(path) for path in dict.fromkeys(_relative(line, root) for line in lines if line)]
    elsewhere = next((row.path for row in found if os.path.isabs(row.path)), None)
    if elsewhere is not None:
        raise TPOError(
            f"{source} names {elsewhere}, which does not lie in {root}: set `videos.root` to a folder above all videos"
        )
    if qa_file is not None:
        asked = {row.path: row.qa for row in _from_rows(Path(qa_file), root)}
        found = [Source(row.path, asked.get(row.path, row.qa)) for row in found]
    if not found:
        raise TPOError(f"no videos in {source}: looked for {', '.join(sorted(SUFFIXES))}")
    return root, found[: options.limit]


def content_id(root: Path, path: str) -> list[Any]:
    """What makes a file this file: name, size, first and last 64 KiB. A file that cannot be read is its name alone."""
    file = root / path
    if not file.is_file():
        return [path]
    try:
        with file.open("rb") as data:
            size = data.seek(0, os.SEEK_END)
            data.seek(0)
            digest = hashlib.sha256(data.read(DIGEST_BYTES))
            data.seek(max(0, size - DIGEST_BYTES))
            digest.update(data.read())
    except OSError:
        return [path]
    return [path, size, digest.hexdigest()]


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.is_dir()


def _relative(path: str, root: Path) -> str:
    """An absolute path as seen from `root`; one that lies elsewhere stays as it is."""
    for folder in (root.absolute(), root.resolve()):
        if os.path.isabs(path) and Path(path).is_relative_to(folder):
            return Path(path).relative_to(folder).as_posix()
    return path


def _from_rows(file: Path, root: Path) -> list[Source]:
    """Rows of LLaVA-Video-178K: `video` and `conversations` of human and gpt turns; several rows may share a video."""
    asked: dict[str, list[tuple[str, str]]] = {}
    for number, row in enumerate(_rows(file)):
        if not isinstance(row, dict) or not isinstance(row.get("video"), str):
            raise TPOError(
                f'{file}, row {number} has no `video`; rows look like {{"video": PATH, "conversations": [...]}}'
            )
        asked.setdefault(_relative(row["video"], root), []).extend(
            turns(row.get("conversations") or [], f"{file}, row {number}")
        )
    return [Source(path, tuple(dict.fromkeys(turns))) for path, turns in asked.items()]


def _rows(file: Path) -> list[Any]:
    if not file.is_file():
        raise TPOError(f"no file at {file}")
    if file.suffix == ".jsonl":
        return list(read_jsonl(file))
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise TPOError(f"{file} is not JSON: {error}") from None
    if not isinstance(rows, list):
        raise TPOError(f"{file} must hold a list of rows, it holds {type(rows).__name__}")
    return rows


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise TPOError(
            f"{file} is no list of videos: `videos.source` is a folder, a .txt list, or a .json / .jsonl file"
        ) from None
