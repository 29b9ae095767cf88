"""The records that travel through all stages, and their JSON forms.

A video is cut into segments; queries are asked about it; each query becomes a preference pair. Every record has a stable id,
made from what it was made of, so the same recipe on the same videos gives the same ids.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from io import RawIOBase
from pathlib import Path
from typing import Any, Literal

from dacite import Config, DaciteError, from_dict

from tpo_plugin.errors import TPOError

logger = logging.getLogger(__name__)

Kind = Literal["localized", "comprehensive", "caption"]
Span = tuple[float, float]  # start and end in seconds


def stable_id(*parts: Any) -> str:
    """16 hex digits that depend on the parts' JSON form and nothing else."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True)
class Video:
    """A probed video; `path` is relative to the root of the data set."""

    id: str
    path: str
    seconds: float
    fps: float
    width: int
    height: int


@dataclass(frozen=True)
class Segment:
    """A time span of a video, in seconds."""

    id: str
    start: float
    end: float

    @property
    def span(self) -> Span:
        return (self.start, self.end)


@dataclass(frozen=True)
class Query:
    """A question about a video; `answer` is what its author expects, `segment` the part it was made from (localized)."""

    id: str
    kind: Kind
    task: str
    text: str
    answer: str = ""
    segment: Segment | None = None


@dataclass(frozen=True)
class Perturbation:
    """How the rejected side's input was made: the spans (seconds) that were left of the video."""

    name: str
    kept: tuple[Span, ...]
    difficulty: float | None = None


@dataclass(frozen=True)
class Candidate:
    """A sampled response and the score that it was given (None: none)."""

    text: str
    score: int | None = None


NO_REJECTED = "no_rejected"  # the perturbation of a record with a chosen response alone


@dataclass(frozen=True)
class PreferencePair:
    """A query with the preferred and the rejected response; `*_times` are the frames (seconds) that each side saw.

    `verdicts` holds what each filter said, `drop` the reason why the pair is not exported (None: it is), `candidates` what the two
    responses were picked from (method hound).
    """

    id: str
    video: Video
    query: Query
    perturbation: Perturbation
    chosen: str
    rejected: str
    chosen_times: tuple[float, ...] = ()
    rejected_times: tuple[float, ...] = ()
    captions: str = ""
    generator: str = ""
    seed: int = 0
    verdicts: dict[str, str] = field(default_factory=dict)
    drop: str | None = None
    candidates: tuple[Candidate, ...] = ()


def to_json(record: Any) -> dict[str, Any]:
    """The record as plain JSON values."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(record), ensure_ascii=False))
    return plain


def from_json(kind: type, data: dict[str, Any]) -> Any:
    """The record of class `kind` from `to_json`'s form; TPOError if it does not fit."""
    try:
        return from_dict(kind, data, Config(cast=[tuple, float], strict=True))
    except (DaciteError, TypeError, ValueError) as error:
        raise TPOError(f"not a {kind.__name__}: {error}") from None


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """The objects of a JSON Lines file; TPOError names the line that is not one."""
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                yield json.loads(line)
            except ValueError as error:  # not JSON, or not UTF-8
                raise TPOError(f"{path}, line {number} is not JSON: {error}") from None


def whole_lines(path: Path) -> list[bytes]:
    """The complete lines of a file to which lines are appended; a torn last one, which a kill leaves, is cut off with a warning."""
    if not path.is_file():
        return []
    with path.open("rb+") as file:
        lines = file.readlines()
        if lines and not lines[-1].endswith(b"\n"):
            logger.warning("%s ends in a torn line; its unit of work is done again", path)
            file.truncate(sum(map(len, lines[:-1])))
            lines.pop()
    return lines


def append_line(file: RawIOBase, line: bytes) -> None:
    """Append to an unbuffered file and sync it, so that a kill loses nothing that was written before."""
    rest = memoryview(line)
    while rest:
        rest = rest[file.write(rest) or 0 :]
    os.fsync(file.fileno())


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write all rows or, on any error, leave the old file as it was."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON or, on any error, leave the old file as it was."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """`write_bytes` in UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Replace the file in one step, so that a reader never sees half of it; an old file's mode is kept.

    An OSError names the file and leaves no rest of it.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, partial)
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from None
