"""The questions of a benchmark that Hugging Face keeps on this machine, read without a network."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from tpo_plugin.errors import EvaluationError
from tpo_plugin.evaluation.data import hf_home, read_rows
from tpo_plugin.evaluation.layouts import Layout

OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")


def cached_rows(task: str, layout: Layout) -> list[dict[str, Any]]:
    """The questions of a hub dataset that is on this machine, as a snapshot or as `datasets` keeps it. EvaluationError if it is not."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    if prepared := _prepared(layout):
        return [row for file in prepared for row in _read_stream(file)]
    try:
        snapshot = Path(snapshot_download(layout.rows, repo_type="dataset", local_files_only=True))
    except (LocalEntryNotFoundError, OSError):
        raise EvaluationError(
            f"{task}: its questions are not on this machine (HF_HOME is {hf_home()}); fetch them: "
            f"hf download --repo-type dataset {layout.rows} --local-dir DATA/{layout.rows}, and set `data` to DATA"
        ) from None
    if offline():
        raise EvaluationError(
            f"{task}: its questions are only downloaded ({snapshot}), and `datasets` cannot prepare them offline: run lmms-eval once with "
            f"a network, or copy them to DATA/{layout.rows} and set `data` to DATA"
        )
    return read_rows(snapshot, task, replace(layout, rows=""))


def _prepared(layout: Layout) -> list[Path]:
    """The files that `datasets` has prepared of the task's split, of the newest preparation."""
    given = os.environ.get("LMMS_EVAL_DATASETS_CACHE") or os.environ.get("HF_DATASETS_CACHE")
    cache = Path(given or hf_home() / "datasets")
    name = _plain(layout.rows)
    folders = [path for path in cache.glob("*___*") if _plain(path.name) == name] if cache.is_dir() else []
    found = [file for path in folders for file in path.glob(f"{layout.config or '*'}/*/*/*-{layout.split}*.arrow")]
    newest = max(found, key=lambda file: file.stat().st_mtime, default=None)
    return sorted(file for file in found if newest and file.parent == newest.parent)


def _read_stream(file: Path) -> list[dict[str, Any]]:
    import pyarrow

    with pyarrow.memory_map(str(file)) as source:
        rows: list[dict[str, Any]] = pyarrow.ipc.open_stream(source).read_all().to_pylist()
        return rows


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def offline() -> bool:
    """Whether the environment tells Hugging Face to ask no network."""
    return any(os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE") for name in OFFLINE)
