"""Reading what the stages left behind: what is missing or unreadable is a TPOError that names the file and the cure."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, TypeVar

import yaml

from tpo_plugin.errors import TPOError
from tpo_plugin.records import read_jsonl

T = TypeVar("T")

HIDDEN = "(hidden)"
SECRET_NAMES = re.compile(r"(?i)(^|[_-])(api[_-]?key|key|token|secret|password|passwd|authorization)$")
CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+(?=@)")


def folder(path: Path, what: str, command: str) -> Path:
    """`path` if it is a folder; else the error says which command writes one."""
    if not path.is_dir():
        raise TPOError(f"{what}: {path} is not a folder; give the output folder of `{command}`")
    return path


def read_json(path: Path, kind: type[T], command: str) -> T:
    """The JSON value of a file, which must be of class `kind`; `command` is what writes the file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TPOError(f"{path} does not exist; run `{command}` to its end, or give the folder that it wrote") from None
    except (OSError, ValueError) as error:
        raise TPOError(f"{path} cannot be read as JSON ({error}); run `{command}` again") from None
    if not isinstance(value, kind):
        raise TPOError(f"{path} must hold a {kind.__name__}, it holds {type(value).__name__}; run `{command}` again")
    return value


def read_rows(path: Path, command: str) -> list[dict[str, Any]]:
    """The objects of a JSON Lines file; `command` is what writes it."""
    try:
        rows = list(read_jsonl(path))
    except FileNotFoundError:
        raise TPOError(f"{path} does not exist; run `{command}` to its end, or give the folder that it wrote") from None
    except (OSError, UnicodeDecodeError, TPOError) as error:
        raise TPOError(f"{path} cannot be read ({error}); run `{command}` again") from None
    if not all(isinstance(row, dict) for row in rows):
        raise TPOError(f"{path} must hold one JSON object a line; run `{command}` again")
    return rows


def read_recipe(run: Path) -> dict[str, Any] | None:
    """The resolved recipe that a stage saved beside its results, secrets hidden; None if there is none."""
    path = run / "recipe.yaml"
    if not path.exists():
        return None
    try:
        recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise TPOError(f"{path} is not readable YAML ({error}); restore it, or delete it to leave it out") from None
    if not isinstance(recipe, dict):
        raise TPOError(f"{path} must hold `key: value` lines; restore it, or delete it to leave it out")
    hidden: dict[str, Any] = without_secrets(recipe)
    return hidden


def without_secrets(value: Any) -> Any:
    """The same value with passwords in addresses and values under names such as `api_key` hidden (`key_env` is only a name)."""
    if isinstance(value, dict):
        return {
            key: HIDDEN if SECRET_NAMES.search(str(key)) and isinstance(item, str) else without_secrets(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [without_secrets(item) for item in value]
    return CREDENTIALS.sub(HIDDEN, value) if isinstance(value, str) else value
