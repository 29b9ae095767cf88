"""The append-only journal that makes a run resumable, and the lock that keeps two runs apart.

One line is one finished unit of work: {"stage", "id", "value", "seconds"}, the seconds since the line before (or the run's start).
A line is written at once and synced, so a kill loses only the unit in work. A torn line is recognised and cut off; its unit is done
again.
"""

from __future__ import annotations

import json
import logging
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from tpo_plugin.errors import TPOError
from tpo_plugin.folders import locked
from tpo_plugin.records import append_line, whole_lines

logger = logging.getLogger(__name__)


class Journal:
    """The finished units of a run. A context manager: it holds the output folder's lock while open.

    `seconds` is the time that they took, over all runs.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "journal.jsonl"
        self.seconds = 0.0
        self._done: dict[tuple[str, str], Any] = {}

    def __enter__(self) -> Journal:
        with ExitStack() as stack:
            stack.enter_context(locked(self.path.parent))
            self._load()
            self._file = stack.enter_context(self.path.open("ab", buffering=0))
            self._stack = stack.pop_all()
        self._before = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def get(self, stage: str, unit: str) -> Any | None:
        """The unit's value, None if it is not finished."""
        return self._done.get((stage, unit))

    def put(self, stage: str, unit: str, value: Any) -> Any:
        """Write a finished unit and return its value as a later run will read it."""
        now = time.monotonic()
        entry = {"stage": stage, "id": unit, "value": value, "seconds": round(now - self._before, 3)}
        line = json.dumps(entry) + "\n"
        try:
            append_line(self._file, line.encode())
        except OSError as error:
            raise TPOError(
                f"cannot write {self.path}: {error.strerror}. Free some space and run the same command again to continue."
            ) from None
        self._before = now
        self._read(line)
        return self._done[stage, unit]

    def _load(self) -> None:
        for line in whole_lines(self.path):
            self._read(line)

    def _read(self, line: str | bytes) -> None:
        try:
            entry = json.loads(line)
            self._done[entry["stage"], entry["id"]] = entry["value"]
            self.seconds += entry.get("seconds", 0.0)
        except (ValueError, KeyError, TypeError):
            logger.warning("%s holds a damaged line; its unit of work is done again", self.path)
