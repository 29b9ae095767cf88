"""What a checkpoint's JSON files say, on the disk or in the hub's cache. Imports neither torch nor transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tpo_plugin.folders import cached_file
from tpo_plugin.integrations.llava_family import names

# The language model in a name of config.json's `architectures`, most special first.
FAMILIES = (
    ("Qwen2Moe", names.QWEN_MOE),
    ("QwenMoe", names.QWEN_MOE),
    ("Qwen", names.QWEN),
    ("Mixtral", names.MIXTRAL),
    ("Mistral", names.MISTRAL),
    ("Gemma", names.GEMMA),
    ("Llama", names.LLAMA),
)


def read_config(name: str, file: str = "config.json") -> dict[str, Any] | None:
    """A JSON file of a checkpoint, from its folder or from the hub's cache; None if it is in neither."""
    path = Path(name) / file
    if not path.is_file():
        cached = cached_file(name, file) if name.count("/") == 1 else None
        if cached is None:
            return None
        path = cached
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError):
        return None
    return values if isinstance(values, dict) else None


def expected_class(config: dict[str, Any]) -> str | None:
    """The upstream class that a config.json's `architectures` (else its `model_type`) belongs to; None if it does not tell."""
    said = [*(config.get("architectures") or []), str(config.get("model_type", "")).title().replace("_", "")]
    return next((name for text in said for word, name in FAMILIES if word in text), None)


def is_port(config: dict[str, Any]) -> bool:
    """Whether this is a checkpoint of a Hugging Face model class (`...ForConditionalGeneration`), not of upstream's."""
    return any(name.endswith("ForConditionalGeneration") for name in config.get("architectures") or [])
