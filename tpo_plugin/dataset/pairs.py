"""The row of a preference data set, and the forms that it is read from: LLaVA DPO JSON, in which stages hand it on, and for SFT
LLaVA-Video-178K's conversations."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tpo_plugin.dataset.conversations import answered, is_conversation, strip_placeholders, warn_of_left_out
from tpo_plugin.errors import TPOError
from tpo_plugin.records import PreferencePair, read_jsonl, stable_id, to_json

Source = str | Path
MANIFEST = "dataset.json"
TEXTS = ("video", "prompt", "chosen", "rejected")


@dataclass(frozen=True)
class Row:
    """One preference pair to train on; `video` is relative to the data set's root, `tpo` says where the pair comes from.

    `rejected` is "" in a row that has a chosen response alone, to fine-tune on.
    """

    id: str
    video: str
    prompt: str
    chosen: str
    rejected: str
    tpo: dict[str, Any] = field(default_factory=dict)


def row_of(pair: PreferencePair) -> Row:
    """A curated pair as a row, its provenance under `tpo` (all but the captions, which `candidates.jsonl` keeps)."""
    plain = to_json(pair)
    query = plain["query"]
    provenance = {
        "kind": query["kind"],
        "task": query["task"],
        "segment": [query["segment"]["start"], query["segment"]["end"]] if query["segment"] else None,
        "perturbation": plain["perturbation"],
        "verdicts": plain["verdicts"],
        "generator": pair.generator,
        "seed": pair.seed,
        "seconds": pair.video.seconds,
        "expected": query["answer"],
        "chosen_times": plain["chosen_times"],
        "rejected_times": plain["rejected_times"],
        **({"candidates": plain["candidates"]} if pair.candidates else {}),
    }
    return Row(pair.id, pair.video.path, pair.query.text, pair.chosen, pair.rejected, provenance)


def to_llava(row: Row) -> dict[str, Any]:
    """The row as LLaVA DPO JSON; `answer` repeats `chosen` for upstream's length-grouped sampler."""
    return {
        "id": row.id,
        "video": row.video,
        "prompt": row.prompt,
        "chosen": row.chosen,
        "rejected": row.rejected,
        "answer": row.chosen,
        "tpo": row.tpo,
    }


def load_pairs(data: Source | Sequence[Source], video_root: Source | None = None) -> tuple[list[Row], Path]:
    """The rows of a curation or import folder, or of a JSON / JSONL file, or of several; and the root of their video paths.

    The root is `video_root`, else what the folder's `dataset.json` says, else the file's folder; of several sources, the folder that
    theirs have in common. A file holds rows of LLaVA DPO JSON, which may lack `id`, `answer` and `tpo`, or in LLaVA-Video-178K's form: each
    question of a conversation with its answer is then a row to fine-tune on, without `rejected`; rows without a video are left out, and
    counted in a warning. An `<image>` or `<video>` placeholder at either end of a prompt is taken off. Ids are made unique.
    Raises TPOError naming the file, the row and the key that is wrong, or if there are no rows.
    """
    rows, root = read_pairs(data, video_root)
    if not rows:
        raise TPOError(
            f"{_named(data)} holds no preference pairs; `tpo data stats` shows where a curation dropped them"
        )
    return rows, root


def read_pairs(data: Source | Sequence[Source], video_root: Source | None = None) -> tuple[list[Row], Path]:
    """As `load_pairs`, but a data set without rows is none of its errors."""
    if isinstance(data, (str, Path)):
        rows, root = _read_one(Path(data), video_root)
        return unique_ids(rows), root
    if not data:
        raise TPOError("`data` is an empty list: name a curation folder or a JSON file")
    parts = [_read_one(Path(source), video_root) for source in data]
    root = Path(os.path.commonpath([own for _, own in parts]))
    rows = [
        row if own == root else replace(row, video=(own / row.video).relative_to(root).as_posix())
        for part, own in parts
        for row in part
    ]
    return unique_ids(rows), root


def _read_one(path: Path, video_root: Source | None) -> tuple[list[Row], Path]:
    file, declared = _manifest(path) if path.is_dir() else (path, path.parent)
    root = (Path(video_root) if video_root is not None else declared).resolve()
    found = [_rows(values, root, f"{file}, row {index} (the first is 0)") for index, values in enumerate(_read(file))]
    warn_of_left_out(str(file), sum(not rows for rows in found), len(found))
    return [row for rows in found for row in rows], root


def _named(data: Source | Sequence[Source]) -> str:
    return str(data) if isinstance(data, (str, Path)) else ", ".join(map(str, data))


def missing_videos(rows: Iterable[Row], root: Path) -> list[str]:
    """The distinct video paths of `rows` that are not files under `root`, in order of first use."""
    return [video for video in dict.fromkeys(row.video for row in rows) if not os.path.isfile(root / video)]


def _manifest(folder: Path) -> tuple[Path, Path]:
    """The pairs file and the video root that the folder's `dataset.json` names."""
    file = folder / MANIFEST
    values = read_json(file, f"; finish `tpo curate` or `tpo data import` into {folder} first, or name a JSON file")
    if not isinstance(values, dict) or not all(isinstance(values.get(key), str) for key in ("pairs", "video_root")):
        raise TPOError(f'{file} must be {{"video_root": "...", "pairs": "..."}}')
    return folder / values["pairs"], folder / values["video_root"]


def read_json(file: Path, cure: str = "") -> Any:
    """The file's JSON value (with or without a byte order mark); TPOError, with `cure` if there is no such file."""
    try:
        return json.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise TPOError(f"no file {file}{cure}") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise TPOError(f"{file} is not readable JSON: {error}") from None


def _read(file: Path) -> Sequence[Any]:
    if file.suffix == ".jsonl":
        try:
            return list(read_jsonl(file))
        except (OSError, UnicodeDecodeError) as error:
            raise TPOError(f"{file} is not readable JSON Lines: {error}") from None
    values = read_json(file)
    if not isinstance(values, list):
        raise TPOError(f"{file} must be a list of rows (LLaVA DPO JSON), it is {type(values).__name__}")
    return values


def _rows(values: Any, root: Path, where: str) -> list[Row]:
    """The rows behind one entry of a file: one of LLaVA DPO JSON, one for each answered question of a conversation about a video."""
    if not isinstance(values, dict):
        raise TPOError(f"{where} must be an object, it is {type(values).__name__}")
    if not is_conversation(values):
        return [_row(values, root, where)]
    source = {"data_source": values["data_source"]} if values.get("data_source") else {}
    shared = {"id": values.get("id"), "video": values.get("video"), "rejected": "", "tpo": source}
    found = answered(values, where)
    return [_row({**shared, "prompt": question, "chosen": answer}, root, where) for question, answer in found]


def _row(values: dict[str, Any], root: Path, where: str) -> Row:
    for key in TEXTS:
        if key not in values:
            raise TPOError(f"{where}: missing key `{key}`; it has {', '.join(map(repr, values)) or 'none'}")
        if key == "rejected" and values[key] == "":  # a row for SFT
            continue
        if not isinstance(values[key], str) or not values[key].strip():
            raise TPOError(f"{where}: `{key}` must be a text that is not empty, it is {values[key]!r:.80}")
    tpo = values.get("tpo") or {}
    if not isinstance(tpo, dict):
        raise TPOError(f"{where}: `tpo` must be an object, it is {type(tpo).__name__}")
    texts = {key: values[key] for key in TEXTS}
    texts["video"] = _relative(texts["video"], root, where)
    texts["prompt"] = strip_placeholders(texts["prompt"])
    identity = values.get("id")
    return Row(id=stable_id(texts) if identity in (None, "") else str(identity), tpo=tpo, **texts)


def _relative(video: str, root: Path, where: str) -> str:
    if not Path(video).is_absolute():
        return video
    if not Path(video).is_relative_to(root):
        raise TPOError(f"{where}: `video` {video} is not under {root}; set video_root to a folder above all videos")
    return Path(video).relative_to(root).as_posix()


def unique_ids(rows: list[Row]) -> list[Row]:
    """Upstream's sets use the video's name as id of several rows: the second gets `#2`, and so on."""
    seen: set[str] = set()
    unique = []
    for row in rows:
        identity, number = row.id, 1
        while identity in seen:
            number += 1
            identity = f"{row.id}#{number}"
        seen.add(identity)
        unique.append(replace(row, id=identity))
    return unique
