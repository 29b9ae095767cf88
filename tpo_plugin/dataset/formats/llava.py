"""LLaVA DPO JSON: what `train_dpo.py` of LLaVA-NeXT and LongVA reads (`--data_path`, with `--video_folder` for the root)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tpo_plugin.dataset.pairs import Row, to_llava
from tpo_plugin.records import write_json


def write(rows: Sequence[Row], output: Path) -> None:
    """Write one JSON list."""
    write_json(output, [to_llava(row) for row in rows])
