"""The rows of `--data_path`, checked before anything is trained."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tpo_plugin.dataset.conversations import answered, is_conversation, warn_of_left_out
from tpo_plugin.dataset.pairs import Row, load_pairs, to_llava
from tpo_plugin.dataset.selection import at_levels, check_ratio, difficulty_of, select
from tpo_plugin.errors import TPOError

TEXTS = ("prompt", "chosen", "rejected")
# A table with one column for each of these writes None where a row has none.
OPTIONAL = ("image", "video", "answer", "id", "tpo", "conversations")
FOLDERS = {"image": "image_folder", "video": "video_folder"}  # the script's options


def load_curated(folder: str, data_args: Any) -> list[dict[str, Any]]:
    """The rows of a curation folder. Its videos' root becomes `video_folder`, unless that is given. TPOError names what is wrong."""
    rows, root = load_pairs(Path(folder), data_args.video_folder)
    data_args.video_folder = str(root)
    return [to_llava(row) for row in rows]


def check_rows(rows: Sequence[Any], data_args: Any, with_rejected: bool = True) -> list[dict[str, Any]]:
    """The rows with an `id` (its place, where it has none) and an `answer` (the chosen text: upstream's length sampler needs it).

    `with_rejected` false: `rejected` may be missing or empty, and `conversations` (LLaVA-Video-178K's) of rows without a chosen text become a
    row for each question about the video and its answer; those without any are left out, and counted in a warning. Raises TPOError naming the row and the key that is missing or wrong, or if no folder is given for relative paths, which a
    `video_folder` or `image_folder` of "" stands for if all paths are absolute.
    """
    if not rows:
        raise TPOError(f"{data_args.data_path} holds no preference pairs")
    places = [f"row {index} (the first is 0) of {data_args.data_path}" for index in range(len(rows))]
    parts = [_parts(row, where, with_rejected) for row, where in zip(rows, places)]
    if os.environ.get("RANK", "0") == "0":
        warn_of_left_out(str(data_args.data_path), sum(not part for part in parts), len(parts))
    checked = [_checked(row, where, with_rejected) for part, where in zip(parts, places) for row in part]
    if not checked:
        raise TPOError(f"{data_args.data_path} holds no row to fine-tune on: no question about a video has an answer")
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


def shown_files(rows: Sequence[dict[str, Any]], data_args: Any, key: str) -> list[str]:
    """The files under `key` of the rows that show such."""
    return [path for row in rows if medium(row) == key for path in paths(row, data_args)]


def wanted_rows(rows: Sequence[Any], data_args: Any, options: Any) -> list[dict[str, Any]]:
    """The rows of the data that the script trains on; `options` are its training arguments. TPOError as `check_rows` and `chosen_rows`."""
    return chosen_rows(check_rows(rows, data_args, options.dpo_alpha != 0), options)


def chosen_rows(rows: list[dict[str, Any]], options: Any) -> list[dict[str, Any]]:
    """The rows that `--tpo_difficulty`, `--tpo_max_pairs` and `--tpo_ratio` of the training arguments `options` select.

    TPOError where there are too few, or some lack the difficulty that `--tpo_order` goes by.
    """
    return select(
        of_difficulty(rows, options),
        lambda row: str(row["id"]),
        lambda row: (row.get("tpo") or {}).get("kind") or "",
        options.tpo_max_pairs,
        parse_ratio(options.tpo_ratio),
        options.seed,
    )


def difficulty(row: dict[str, Any]) -> float | None:
    """The difficulty r of the row's perturbation, None where it has none."""
    return difficulty_of(_bare(row))


def of_difficulty(rows: list[dict[str, Any]], options: Any) -> list[dict[str, Any]]:
    """The rows of the levels in `--tpo_difficulty` (None: all); TPOError for a level without rows, or where `--tpo_order` cannot order them."""
    levels = parse_difficulties(options.tpo_difficulty)
    if levels is not None:
        kept = at_levels([_bare(row, str(place)) for place, row in enumerate(rows)], levels)
        rows = [rows[int(row.id)] for row in kept]
    lacking = [row for row in rows if difficulty(row) is None]
    if options.tpo_order is not None and lacking:
        raise TPOError(
            f"--tpo_order {options.tpo_order} goes by each row's difficulty, and {len(lacking)} of {len(rows)} rows have none (the first "
            f"is {lacking[0]['id']}): leave it out, or take rows of `method: temple`"
        )
    return rows


def _bare(row: dict[str, Any], name: str = "") -> Row:
    """What says where a row comes from, in the form that `dataset` knows."""
    return Row(name, "", "", "", "", row.get("tpo") or {})


def parse_difficulties(text: str | None) -> tuple[float, ...] | None:
    """The levels in a text such as 16 or 16,8; TPOError for another text."""
    try:
        return None if text is None else tuple(map(float, str(text).split(",")))
    except ValueError:
        raise TPOError(f"--tpo_difficulty is a level or several, such as 16 or 16,8; it is {text!r}") from None


def parse_ratio(text: str | None) -> dict[str, float] | None:
    """The shares of localized and comprehensive pairs in a text such as 8:2; TPOError for another text."""
    if text is None:
        return None
    try:
        localized, comprehensive = map(float, text.split(":"))
    except ValueError:
        raise TPOError(f"--tpo_ratio is localized:comprehensive, such as 8:2; it is {text!r}") from None
    shares = {"localized": localized, "comprehensive": comprehensive}
    check_ratio("--tpo_ratio", shares)
    return shares


def _parts(row: Any, where: str, with_rejected: bool) -> list[Any]:
    """A row of conversations as the rows of its answered questions; another one as it is."""
    if not isinstance(row, dict) or not is_conversation(row):
        return [row]
    if with_rejected:
        raise TPOError(
            f"{where}: `conversations` have no rejected answers: give --dpo_alpha 0 to fine-tune on them, or name preference pairs"
        )
    rest = {key: value for key, value in row.items() if key != "conversations"}
    name = row.get("id")
    return [
        {
            **rest,
            "id": name if number == 1 or name is None else f"{name}#{number}",
            "prompt": question,
            "chosen": answer,
        }
        for number, (question, answer) in enumerate(answered(row, where), 1)
    ]


def _checked(row: Any, where: str, with_rejected: bool) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise TPOError(f"{where} must be an object, it is {type(row).__name__}")
    row = {key: value for key, value in row.items() if value is not None or key not in OPTIONAL}
    if not with_rejected:
        row["rejected"] = row.get("rejected") or ""
    for key in TEXTS:
        if key not in row:
            raise TPOError(f"{where}: missing key `{key}`; it has {', '.join(map(repr, row)) or 'none'}")
        if key != "rejected" or with_rejected or row[key]:
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
