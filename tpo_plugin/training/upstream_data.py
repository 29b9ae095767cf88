"""The data that the flags of an upstream script name."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from tpo_plugin.dataset.pairs import load_pairs
from tpo_plugin.errors import TPOError
from tpo_plugin.records import stable_id

SEVERAL = re.compile(r"(.*)\{(.*)\}\.json")  # FOLDER/{a,b}.json
FOLDERS = ("video_folder", "image_folder")


def data_files(path: str) -> list[Path]:
    """The files that the script reads for this `data_path`; TPOError for a list in YAML that names none."""
    several = SEVERAL.fullmatch(path)
    if several:
        return [Path(f"{several[1]}{name}.json") for name in several[2].split(",")]
    if not path.endswith(".yaml"):
        return [Path(path)]
    try:
        listed = yaml.safe_load(Path(path).read_text(encoding="utf-8"))["datasets"]
        return [Path(path), *(Path(one["json_path"]) for one in listed)]
    except (OSError, yaml.YAMLError, TypeError, KeyError) as error:
        raise TPOError(f"{path} must be a file with `datasets`, each with its `json_path`: {error!r}") from None


def data_digest(flags: Mapping[str, Any]) -> str:
    """What the rows are known by: those of a curation folder, or the content of the files. TPOError where one is not there."""
    path = str(flags["data_path"])
    if Path(path).is_dir():
        rows, _ = load_pairs(path)
        return stable_id([asdict(row) for row in rows])
    _check_files(path)
    return stable_id([hashlib.sha256(file.read_bytes()).hexdigest() for file in data_files(path)])


def check_data(flags: Mapping[str, Any]) -> None:
    """TPOError where the data, or the folder of its videos or pictures, is not there."""
    path = str(flags["data_path"])
    if Path(path).is_dir():
        load_pairs(path)
    else:
        _check_files(path)
    for name in FOLDERS:
        folder = flags.get(name)
        if folder and not Path(str(folder)).is_dir():
            raise TPOError(f"`flags.{name}`: there is no folder {folder}")


def _check_files(path: str) -> None:
    missing = [str(file) for file in data_files(path) if not file.is_file()]
    if missing:
        raise TPOError(f"`flags.data_path`: there is no file {missing[0]}")
