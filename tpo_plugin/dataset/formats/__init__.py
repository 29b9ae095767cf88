"""Export formats, one a file. A format is a function that writes rows where `output` says.

The built-in ones and those of third parties (`package.module:function`) are called alike.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from tpo_plugin.dataset.pairs import Row
from tpo_plugin.plugins import find

BUILT_IN = {name: f"tpo_plugin.dataset.formats.{name}:write" for name in ("llava", "trl", "ms_swift", "hf")}


class Format(Protocol):
    """Writes `rows` to `output` (a file or a folder, the format decides) in one step: all of it or nothing."""

    def __call__(self, rows: Sequence[Row], output: Path) -> None: ...


def find_format(name: str) -> Format:
    """The built-in format `name`, or the function that `package.module:function` names; TPOError if there is none."""
    found = find(name, BUILT_IN, "format")
    write: Format = find(found, {}, "format") if isinstance(found, str) else found
    return write


def provenance(row: Row) -> str:
    """`row.tpo` as JSON text: in an Arrow table its keys would be filled up with those of all other rows."""
    return json.dumps(row.tpo, ensure_ascii=False, sort_keys=True)
