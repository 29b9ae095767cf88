"""The two readers that upstream's train_dpo.py imports from `data_processing.utils`, which LLaVA-NeXT does not ship (issue 249)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tpo_plugin.errors import TPOError
from tpo_plugin.records import read_jsonl


def load_json(path: str) -> Any:
    """The value of a JSON file; TPOError if it is none."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except ValueError as error:
        raise TPOError(f"{path} is not JSON: {error}") from None


def load_jsonl(path: str) -> list[Any]:
    """The values of a JSON Lines file, empty lines left out; TPOError names the line that is none."""
    return list(read_jsonl(Path(path)))
