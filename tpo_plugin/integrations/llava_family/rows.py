"""The rows of `--data_path`, checked before anything is trained."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tpo_plugin.dataset.pairs import load_pairs, to_llava
from tpo_plugin.errors import TPOError

TEXTS = ("prompt", "chosen", "rejected")
OPTIONAL = (
    "image",
    "video",
    "answer",
    "id",
    "tpo",
)  # a table with one column for each writes None where a row has none
FOLDERS = {"image": "image_folder", "video": "video_folder"}  # the script's options


def load_curated(folder: str, data_args: Any) -> list[dict[str, Any]]:
    """The rows of a curation folder. Its videos' root becomes `video_folder`, unless that is given. TPOError names what is wrong."""
    rows, root = load_pairs(Path(folder), data_args.video_folder)
    data_args.video_folder = str(root)
    return [to_llava(row) for row in rows]


def check_rows(rows: Sequence[Any], data_args: Any) -> list[dict[str, Any]]:
    """The rows with an `id` (its place, where it has none) and an `answer` (the chosen text: upstream's length sampler needs it).

    Raises TPOError naming the row and the key that is missing or wrong, or if no folder is given for relative paths, which
    a `video_folder` or `image_folder` of "" stands for if all paths are absolute.
    """
    if not rows:
        raise TPOError(f"{data_args.data_path} holds no preference pairs")
    checked = [
        _checked(row, f"row {index} (the first is 0) of {data_args.data_path}") for index, row in enumerate(rows)
    ]
    for key, folder in FOLDERS.items():
        if getattr(data_args, folder) is None:
            relative = next((name for row in checked for name in names(row, key) if not os.path.isabs(name)), None)
            if relative is not None:
                raise TPOError(
                    f"the rows' `{key}` paths are relative ({relative}): --{folder} must say where they start"
                )
            setattr(data_args, folder, "")
    return [{"id": f"row {index}", "answer": row["chosen"]} | row for index, row in enumerate(checked)]


def medium(row: dict[str, Any]) -> str:
    """What the row shows: "image" (upstream looks for it first), "video" or "" (text alone)."""
    return next((key for key in FOLDERS if key in row), "")


def names(row: dict[str, Any], key: str) -> list[str]:
    """The file names under `key`; a row may have several images."""
    value = row.get(key, [])
    return value if isinstance(value, list) else [value]


def paths(row: dict[str, Any], data_args: Any) -> list[str]:
    """The files that the row shows."""
    key = medium(row)
    return [os.path.join(getattr(data_args, FOLDERS[key]), name) for name in names(row, key)] if key else []


def contents(row: dict[str, Any], data_args: Any) -> tuple[str, list[Path], list[str]]:
    """The row's id, its media files (those in a folder of frames, one by one) and its texts."""
    shown = [Path(path) for path in paths(row, data_args)]
    files = [file for path in shown for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    return str(row["id"]), [file for file in files if file.is_file()], [row[key] for key in TEXTS]


def _checked(row: Any, where: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise TPOError(f"{where} must be an object, it is {type(row).__name__}")
    row = {key: value for key, value in row.items() if value is not None or key not in OPTIONAL}
    for key in TEXTS:
        if key not in row:
            raise TPOError(f"{where}: missing key `{key}`; it has {', '.join(map(repr, row)) or 'none'}")
        _check_text(row[key], f"{where}: `{key}`")
    for key in FOLDERS:
        if key in row and not names(row, key):
            raise TPOError(f"{where}: `{key}` is an empty list; leave the key out of a row without")
        for name in names(row, key):
            _check_text(name, f"{where}: `{key}`")
    if isinstance(row.get("video"), list):
        raise TPOError(f"{where}: `video` must be one path, it is a list")
    if not isinstance(row.get("tpo", {}), dict):
        raise TPOError(f"{where}: `tpo` must be an object, it is {type(row['tpo']).__name__}")
    return row


def _check_text(value: Any, what: str) -> None:
    if not isinstance(value, str) or not value.strip():
        raise TPOError(f"{what} must be a text that is not empty, it is {value!r:.80}")
