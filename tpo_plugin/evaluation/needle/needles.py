"""Needles: pictures, each with a question and its answer.

A folder in one of three forms, or the file itself:
    needles.json or .jsonl   one's own: {"image", "question", "answer"} each
    dataset.json             V-NIAH's: {"path", "prompt", "answer"} each
    *.parquet                a data set as `datasets` writes it: columns image (with bytes), question, answer
Pictures lie beside the file or in `images` there.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from tpo_plugin.errors import EvaluationError
from tpo_plugin.records import read_jsonl, stable_id

FILES = ("needles.json", "needles.jsonl", "dataset.json")
NAMES = {"image": ("image", "path"), "question": ("question", "prompt"), "answer": ("answer",)}


@dataclass(frozen=True, eq=False)
class Needle:
    """`picture` is uint8 (H, W, 3) RGB; `id` depends on picture, question and answer, `name` is the picture's file."""

    id: str
    name: str
    picture: np.ndarray = field(repr=False)
    question: str
    answer: str


def read_needles(source: str | Path) -> list[Needle]:
    """The needles of a folder or a file, in its order. EvaluationError names the entry that has no usable picture or no answer."""
    file = _file(Path(source))
    needles = []
    for number, entry in enumerate(_entries(file), 1):
        where = f"{file}, needle {number}"
        if not isinstance(entry, dict):
            raise EvaluationError(f"{where} is not an object with image, question and answer")
        found = {key: next((entry[name] for name in names if name in entry), None) for key, names in NAMES.items()}
        question, answer = (_text(found[key], key, where) for key in ("question", "answer"))
        name, content = _content(found["image"], file, where)
        identity = stable_id(hashlib.sha256(content).hexdigest(), question, answer)
        needles.append(Needle(identity, name, _picture(content, name, where), question, answer))
    if not needles:
        raise EvaluationError(f"{file} holds no needles")
    if len({needle.id for needle in needles}) < len(needles):
        raise EvaluationError(f"{file} holds a needle twice (same picture, question and answer)")
    return needles


def _file(source: Path) -> Path:
    if source.is_file():
        return source
    names = [source / name for name in FILES]
    found = next((path for path in names if path.is_file()), None) or next(
        iter(sorted(source.rglob("*.parquet"))), None
    )
    if found is None:
        what = f"none of {', '.join(FILES)} and no parquet file" if source.is_dir() else "no such file or folder"
        raise EvaluationError(f"`needles`: {source}: {what}")
    return found


def _entries(file: Path) -> Iterator[Any]:
    if file.suffix == ".parquet":
        import pyarrow.parquet

        for part in sorted(file.parent.glob("*.parquet")):
            yield from pyarrow.parquet.read_table(part).to_pylist()
    elif file.suffix == ".jsonl":
        yield from read_jsonl(file)
    else:
        try:
            entries = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise EvaluationError(f"{file} is not JSON: {error}") from None
        if not isinstance(entries, list):
            raise EvaluationError(f"{file} must hold a list of needles, it holds {type(entries).__name__}")
        yield from entries


def _text(value: Any, key: str, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise EvaluationError(f"{where} has no {key} (a text under {' or '.join(NAMES[key])})")
    return value


def _content(image: Any, file: Path, where: str) -> tuple[str, bytes]:
    """Name and bytes of a needle's picture file."""
    if isinstance(image, dict) and image.get("bytes"):
        return str(image.get("path") or "picture"), image["bytes"]
    if not isinstance(image, str) or not image:
        raise EvaluationError(f"{where} has no picture (a file name under image or path)")
    places = (file.parent / image, file.parent / "images" / image)
    found = next((path for path in places if path.is_file()), None)
    if found is None:
        raise EvaluationError(f"{where}: no picture {image} in {file.parent} or its folder images")
    return image, found.read_bytes()


def _picture(content: bytes, name: str, where: str) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(content)) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError) as error:  # SyntaxError: a broken PNG
        raise EvaluationError(f"{where}: {name} is not a picture that can be read: {error}") from None
