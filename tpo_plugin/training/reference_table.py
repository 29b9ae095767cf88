"""The table of reference log-probabilities: a file of JSON Lines that only grows.

Its first line is the fingerprint, named texts for all that changes every number: the weights, the frames, the prompt's frame, the dtype, the
attention. Each further line is a pair: its id, a digest of its content, the sums of log p over the chosen and the rejected response. So a
pair whose content changed, or a new one, is merely missing; another fingerprint is an error. A line is synced to disk before the next is
made, so a killed pass loses at most its last forward.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tpo_plugin.errors import TPOError
from tpo_plugin.records import append_line, stable_id, whole_lines

FILE = "reference.jsonl"
BLOCK_BYTES = 16 << 10

Sums = tuple[float, float]  # log p of the chosen and of the rejected response


@dataclass(frozen=True)
class Key:
    """What a pair's log-probabilities belong to: its id and a digest of all that the model reads of it."""

    id: str
    content: str


def row_keys(rows: Sequence[tuple[str, Sequence[Path], Sequence[str]]]) -> list[Key]:
    """The keys of rows, each given as its id, its media files and the texts that the model reads (prompt, chosen, rejected).

    A file counts by its size and its first and last 16 KiB, so a copy of a data set elsewhere has the same keys. OSError if one cannot be read.
    """
    files = list(dict.fromkeys(file for _, media, _ in rows for file in media))
    with ThreadPoolExecutor(4) as pool:
        digests = dict(zip(files, pool.map(_file_digest, files)))
    return [Key(name, stable_id([[digests[file] for file in media], list(texts)])) for name, media, texts in rows]


def lookup(known: Mapping[Key, Sums], keys: Sequence[Key], file: Path) -> Tensor:
    """The log-probabilities (N, 2) of `keys`, float64; TPOError if some are missing."""
    lacking = sum(key not in known for key in keys)
    if lacking:
        raise TPOError(
            f"{file} has the reference log-probabilities of {len(keys) - lacking} of {len(keys)} pairs, {lacking} are missing: "
            "`tpo reference RECIPE` computes them and leaves the others as they are"
        )
    return torch.tensor([known[key] for key in keys], dtype=torch.float64).reshape(-1, 2)


class Table:
    """The file of reference log-probabilities: `sums` by key. A context manager that holds the file alone while open.

    TPOError if another process holds it, it was made with another fingerprint, or a line is damaged; a torn last line is cut off.
    """

    def __init__(self, file: Path, fingerprint: Mapping[str, str]) -> None:
        self.file, self.fingerprint = file, dict(fingerprint)
        self.sums: dict[Key, Sums] = {}

    def __enter__(self) -> Table:
        with ExitStack() as stack:
            try:
                self.file.parent.mkdir(parents=True, exist_ok=True)
                self._open = stack.enter_context(self.file.open("ab", buffering=0))
            except OSError as error:
                raise TPOError(
                    f"cannot write {self.file}: {error.strerror}; name another folder in `reference`"
                ) from None
            try:
                fcntl.flock(self._open, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise TPOError(
                    f"another run is computing {self.file}; wait for it, and this one reads what it wrote"
                ) from None
            self._load()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.close()

    def add(self, found: Sequence[tuple[Key, Sums]]) -> None:
        """Append pairs and sync; TPOError for one that is no number."""
        for key, (chosen, rejected) in found:
            if not (math.isfinite(chosen) and math.isfinite(rejected)):
                raise TPOError(
                    f"row {key.id}: the model's log-probabilities are {chosen} (chosen) and {rejected} (rejected); it cannot be trained "
                    "as it is: another dtype (float16 overflows) or another checkpoint is needed"
                )
        lines = [
            {"id": key.id, "content": key.content, "chosen": one, "rejected": other} for key, (one, other) in found
        ]
        self._append("".join(json.dumps(line) + "\n" for line in lines))
        self.sums.update(found)

    def _load(self) -> None:
        lines = whole_lines(self.file)
        if not lines:
            self._append(json.dumps({"reference": self.fingerprint}) + "\n")
            return
        self._check(lines[0])
        for number, line in enumerate(lines[1:], 2):
            try:
                entry = json.loads(line)
                self.sums[Key(entry["id"], entry["content"])] = (float(entry["chosen"]), float(entry["rejected"]))
            except (ValueError, KeyError, TypeError):
                raise self._damaged(number) from None

    def _check(self, header: bytes) -> None:
        try:
            old = dict(json.loads(header)["reference"])
        except (ValueError, KeyError, TypeError):
            raise self._damaged(1) from None
        parts = [
            part for part in dict.fromkeys([*self.fingerprint, *old]) if old.get(part) != self.fingerprint.get(part)
        ]
        if parts:
            differing = "; ".join(f"{part}: {old.get(part)} there, {self.fingerprint.get(part)} here" for part in parts)
            raise TPOError(
                f"{self.file} holds the reference log-probabilities of another setting ({differing}): name another folder in "
                "`reference` (or another `output`), or delete the file to compute them anew"
            )

    def _damaged(self, number: int) -> TPOError:
        return TPOError(
            f"{self.file}, line {number} is damaged: delete the line (its pair is computed anew), or the file if it is the first one"
        )

    def _append(self, text: str) -> None:
        try:
            append_line(self._open, text.encode())
        except OSError as error:
            raise TPOError(
                f"cannot write {self.file}: {error.strerror}. Free some space and run the same command again to continue."
            ) from None


def _file_digest(file: Path) -> str:
    with file.open("rb") as content:
        size = content.seek(0, 2)
        digest = hashlib.sha256(str(size).encode())
        for start in (0, max(0, size - BLOCK_BYTES)):
            content.seek(start)
            digest.update(content.read(BLOCK_BYTES))
    return digest.hexdigest()[:16]
