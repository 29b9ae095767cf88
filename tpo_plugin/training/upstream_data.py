"""The data that the flags of an upstream script name."""

from __future__ import annotations

import hashlib
import math
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import yaml

from tpo_plugin.checks import at_least
from tpo_plugin.dataset.pairs import load_pairs
from tpo_plugin.errors import TPOError
from tpo_plugin.integrations.llava_family import video_check
from tpo_plugin.integrations.llava_family.arguments import TemporalArguments
from tpo_plugin.integrations.llava_family.data_processing import load_json, load_jsonl
from tpo_plugin.integrations.llava_family.rows import load_curated, shown_files, wanted_rows
from tpo_plugin.records import stable_id

SEVERAL = re.compile(r"(.*)\{(.*)\}\.json")  # FOLDER/{a,b}.json
FOLDERS = ("video_folder", "image_folder")
# The training arguments that say which rows are taken, and what the script has for those that are neither given nor ours.
SELECTING: dict[str, Callable[[str], Any]] = {
    "seed": int,
    "dpo_alpha": float,
    "tpo_max_broken": float,
    "tpo_max_pairs": int,
    "tpo_ratio": str,
    "tpo_difficulty": str,
    "tpo_order": str,
}
DEFAULTS = {"seed": 42, "dpo_alpha": 1.0, **{field.name: field.default for field in fields(TemporalArguments)}}
T = TypeVar("T")


def data_files(path: str) -> list[Path]:
    """The files that the script reads for this `data_path`; TPOError for a list in YAML that names none."""
    named = [file for file, _ in _sources(path)]
    return [Path(path), *named] if path.endswith(".yaml") else named


def data_digest(flags: Mapping[str, Any]) -> str:
    """What the rows are known by: those of a curation folder, or the content of the files. TPOError where one is not there."""
    path = str(flags["data_path"])
    if Path(path).is_dir():
        rows, _ = load_pairs(path)
        return stable_id([asdict(row) for row in rows])
    _check_files(path)
    return stable_id([hashlib.sha256(file.read_bytes()).hexdigest() for file in data_files(path)])


def check_data(flags: Mapping[str, Any]) -> None:
    """TPOError for data that the script would refuse once it is due: its rows, what the flags take of them, and videos and pictures that are
    not there. None of these is opened."""
    for name in FOLDERS:
        folder = flags.get(name)
        if folder and not Path(str(folder)).is_dir():
            raise TPOError(f"`flags.{name}`: there is no folder {folder}")
    path, options = str(flags["data_path"]), _selecting(flags)
    data_args = SimpleNamespace(data_path=path, **{name: flags.get(name) for name in FOLDERS})
    read = load_curated(path, data_args) if Path(path).is_dir() else _rows(path, options.seed)
    rows = wanted_rows(read, data_args, options)
    videos, images = (shown_files(rows, data_args, key) for key in ("video", "image"))
    missing = video_check.missing_videos(videos) | video_check.missing_images(images)
    _, dropped = video_check.sort_out(rows, data_args, missing)
    video_check.check_share(dropped, len(rows), options.tpo_max_broken)


def flag(flags: Mapping[str, Any], name: str, kind: Callable[[str], T], default: T) -> T:
    """A flag as the script's parser makes it of a word or a number; TPOError for one that it would not take."""
    given = flags.get(name)
    try:
        return default if given is None else kind(str(given))
    except ValueError:
        raise TPOError(f"`flags.{name}` must be a number, it is {given!r}") from None


def _selecting(flags: Mapping[str, Any]) -> SimpleNamespace:
    options = SimpleNamespace(**{name: flag(flags, name, kind, DEFAULTS[name]) for name, kind in SELECTING.items()})
    at_least("flags.tpo_max_pairs", options.tpo_max_pairs, 1)
    return options


def _sources(path: str) -> list[tuple[Path, str]]:
    """The files with rows, and which of its rows the script takes of each."""
    several = SEVERAL.fullmatch(path)
    if several:
        return [(Path(f"{several[1]}{name}.json"), "all") for name in several[2].split(",")]
    if not path.endswith(".yaml"):
        return [(Path(path), "all")]
    try:
        listed = yaml.safe_load(Path(path).read_text(encoding="utf-8"))["datasets"]
        return [(Path(one["json_path"]), str(one.get("sampling_strategy", "all"))) for one in listed]
    except (OSError, yaml.YAMLError, TypeError, KeyError) as error:
        raise TPOError(f"{path} must be a file with `datasets`, each with its `json_path`: {error!r}") from None


def _rows(path: str, seed: int) -> list[Any]:
    """The rows that the script has after reading; those that it draws by chance are the same."""
    _check_files(path)
    chance = random.Random(seed)
    return [row for file, sampling in _sources(path) for row in _sampled(_read(file), sampling, chance)]


def _read(file: Path) -> list[Any]:
    rows = (load_jsonl if "jsonl" in str(file) else load_json)(str(file))
    if not isinstance(rows, list):
        raise TPOError(f"{file} must be a list of rows (LLaVA DPO JSON), it is {type(rows).__name__}")
    return rows


def _sampled(rows: list[Any], sampling: str, chance: random.Random) -> list[Any]:
    """What `first:N`, `end:N` or `random:N` takes of the rows, N a number or a percentage; all for another word."""
    kind, _, number = sampling.partition(":")
    if not number:
        return rows
    try:
        count = math.ceil(int(number[:-1]) * len(rows) / 100) if number.endswith("%") else int(number)
    except ValueError:
        raise TPOError(
            f"`sampling_strategy` is first:N, end:N or random:N, such as first:10%; it is {sampling}"
        ) from None
    if kind == "random":
        chance.shuffle(rows)
    return rows[-count:] if kind == "end" else rows[:count] if kind in ("first", "random") else rows


def _check_files(path: str) -> None:
    missing = [str(file) for file in data_files(path) if not file.is_file()]
    if missing:
        raise TPOError(f"`flags.data_path`: there is no file {missing[0]}")
