"""The two readers that upstream's train_dpo.py imports from `data_processing.utils`, which LLaVA-NeXT does not ship (issue 249)."""

from __future__ import annotations

import json
from typing import Any


def load_json(path: str) -> Any:
    """The value of a JSON file."""
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def load_jsonl(path: str) -> list[Any]:
    """The values of a JSON Lines file, empty lines left out."""
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]
