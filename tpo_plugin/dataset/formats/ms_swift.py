"""ms-swift's standard data set format for DPO, JSON Lines (its documentation: Customization, Custom dataset).

`messages` ends with the chosen response, `rejected_response` is the other one; each `<video>` tag stands for an entry of `videos`.
Its documentation prefers absolute paths, ours stay relative: start ms-swift in the data set's root (its ROOT_IMAGE_DIR serves only
some of its video readers), and pass `--strict true`, as by default it drops rows that fail. It removes the columns `id` and `tpo` itself.
The keys are checked against that documentation; ms-swift itself is not run here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tpo_plugin.dataset.formats import provenance
from tpo_plugin.dataset.pairs import Row
from tpo_plugin.records import write_jsonl


def write(rows: Sequence[Row], output: Path) -> None:
    """Write one line a pair."""
    write_jsonl(output, (to_ms_swift(row) for row in rows))


def to_ms_swift(row: Row) -> dict[str, Any]:
    """The row in ms-swift's form; `tpo` is JSON text."""
    return {
        "messages": [
            {"role": "user", "content": f"<video>{row.prompt}"},
            {"role": "assistant", "content": row.chosen},
        ],
        "rejected_response": row.rejected,
        "videos": [row.video],
        "id": row.id,
        "tpo": provenance(row),
    }
