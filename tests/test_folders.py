"""A checkpoint is known by its content, wherever in its files that changes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tpo_plugin.errors import TPOError
from tpo_plugin.folders import BLOCK_BYTES, STEP_BYTES, WHOLE_BYTES, adapter_base, checkpoint_digest, hub_commit


def checkpoint(folder: Path, size: int) -> Path:
    """A folder that looks like a checkpoint whose weights are `size` zeros (a sparse file)."""
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    with (folder / "model.safetensors").open("wb") as file:
        file.truncate(size)
    return folder


def overwrite(folder: Path, start: int, content: bytes) -> None:
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(start)
        file.write(content)


@pytest.mark.parametrize("place", [0, 5_000_001, WHOLE_BYTES - 1])
def test_every_byte_of_a_small_file_counts(tmp_path: Path, place: int) -> None:
    folder = checkpoint(tmp_path / "model", WHOLE_BYTES)
    before = checkpoint_digest(str(folder))
    assert checkpoint_digest(str(folder)) == before
    overwrite(folder, place, b"1")
    assert checkpoint_digest(str(folder)) != before


@pytest.mark.parametrize("start", [0, 30_000_001, WHOLE_BYTES + 12_345])
def test_every_retrained_part_of_a_large_file_counts(tmp_path: Path, start: int) -> None:
    folder = checkpoint(tmp_path / "model", WHOLE_BYTES + 2 * STEP_BYTES + 99)
    before = checkpoint_digest(str(folder))
    overwrite(folder, start, b"1" * STEP_BYTES)
    assert checkpoint_digest(str(folder)) != before


def test_the_end_of_a_large_file_counts(tmp_path: Path) -> None:
    size = WHOLE_BYTES + STEP_BYTES // 2
    folder = checkpoint(tmp_path / "model", size)
    before = checkpoint_digest(str(folder))
    overwrite(folder, size - BLOCK_BYTES, b"1")
    assert checkpoint_digest(str(folder)) != before


def test_the_base_of_an_adapter_counts(tmp_path: Path) -> None:
    base, adapter = checkpoint(tmp_path / "base", 10), tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    assert (adapter_base(str(adapter)), adapter_base(str(base))) == (str(base), None)
    before = checkpoint_digest(str(adapter))
    overwrite(base, 5, b"1")
    assert checkpoint_digest(str(adapter)) != before
    (adapter / "adapter_config.json").write_text("{}")
    with pytest.raises(TPOError, match="does not say which model the adapter belongs on"):
        checkpoint_digest(str(adapter))


def test_a_hub_name_stands_for_itself() -> None:
    assert checkpoint_digest("owner/name") == "owner/name"


def test_a_hub_name_counts_with_the_commit_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    for file, name in (("config.json", "owner/model"), ("adapter_config.json", "owner/adapter")):
        kept = tmp_path / f"models--{name.replace('/', '--')}"
        for commit in ("a" * 40, "b" * 40):
            (kept / "snapshots" / commit).mkdir(parents=True)
            (kept / "snapshots" / commit / file).write_text("{}")
            (kept / "refs").mkdir(exist_ok=True)
            (kept / "refs" / "main").write_text(commit)
            hub_commit.cache_clear()
            assert checkpoint_digest(name) == f"{name}@{commit}"
    hub_commit.cache_clear()
    assert checkpoint_digest("owner/other") == "owner/other", "offline, and not in the cache"
