"""TRL's conversational preference format, JSON Lines: `prompt`, `chosen` and `rejected` as lists of messages.

The video is an entry of the column `videos`, a path relative to the data set's root, and message contents are plain text: the
way TRL lays out image data (its collator puts the media before the first user text). Content blocks are avoided on purpose: an
Arrow table gives every block all keys, and chat templates that ask `'video' in block` then take text for a video.

TRL 1.16 knows `image` and `images` only (huggingface/trl issue 4002: video is a missing feature). Its own DPOTrainer accepts
this file, drops the column `videos` without a word and trains on the text alone. To train on the videos use `tpo train`, or a
collator that reads the column.
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
    write_jsonl(output, (to_trl(row) for row in rows))


def to_trl(row: Row) -> dict[str, Any]:
    """The row in TRL's form; `tpo` is JSON text."""
    return {
        "id": row.id,
        "prompt": [{"role": "user", "content": row.prompt}],
        "chosen": [{"role": "assistant", "content": row.chosen}],
        "rejected": [{"role": "assistant", "content": row.rejected}],
        "videos": [row.video],
        "tpo": provenance(row),
    }
