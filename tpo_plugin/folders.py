"""What every run does with its folders: hold the output alone, know a checkpoint by its content."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from tpo_plugin.errors import TPOError

logger = logging.getLogger(__name__)

WHOLE_BYTES = 64 << 20  # files up to this size are read in full,
BLOCK_BYTES, STEP_BYTES = 64 << 10, 4 << 20  # of larger ones a block at each step, and the last block
MODEL_SUFFIXES = {".safetensors", ".bin", ".json", ".jinja", ".model", ".txt"}


@contextmanager
def locked(output: Path) -> Iterator[None]:
    """Make the output folder and hold it alone; TPOError where it cannot be written or another run holds it."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        lock = (output / ".lock").open("a")
    except OSError as error:
        raise TPOError(
            f"cannot write to the output folder {output}: {error.strerror}; choose another `output`"
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise TPOError(f"another run is writing to {output}; wait for it or choose another `output`") from None
        yield


def check_local(checkpoint: str) -> None:
    """A path that looks local must exist: otherwise the hub is asked for it and the error speaks of the hub."""
    path = Path(checkpoint)
    if (path.is_absolute() or checkpoint.startswith((".", "runs/")) or checkpoint.count("/") > 1) and not path.is_dir():
        raise TPOError(f"no checkpoint folder at {checkpoint}")


def adapter_base(checkpoint: str) -> str | None:
    """The checkpoint that the adapter in this folder belongs on, as its config names it; None for a folder without adapter."""
    config = Path(checkpoint) / "adapter_config.json"
    if not config.is_file():
        return None
    base = json.loads(config.read_text(encoding="utf-8")).get("base_model_name_or_path")
    if not base:
        raise TPOError(f"{config} does not say which model the adapter belongs on: set its `base_model_name_or_path`")
    return str(base)


def checkpoint_digest(checkpoint: str) -> str:
    """16 hex digits of a checkpoint folder: its files' names, sizes and content. Of a hub name: the name, with the commit (`hub_commit`).

    Of a file over 64 MiB a block in every 4 MiB counts: training changes every block of the parts that it trains.
    An adapter's digest depends on its base too. Raises TPOError for a folder that is missing or holds no model.
    """
    folder = Path(checkpoint)
    if not folder.is_dir():
        if checkpoint.count("/") == 1 and not folder.parent.is_dir():
            commit = hub_commit(checkpoint)
            return f"{checkpoint}@{commit}" if commit else checkpoint
        raise TPOError(f"no checkpoint folder at {checkpoint}")
    base = adapter_base(checkpoint)
    if base is None and not (folder / "config.json").is_file():
        raise TPOError(f"{checkpoint} holds no model: neither config.json nor adapter_config.json is there")
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.iterdir() if path.suffix in MODEL_SUFFIXES):
        size = file.stat().st_size
        digest.update(f"{file.name} {size}\n".encode())
        with file.open("rb") as content:
            if size <= WHOLE_BYTES:
                digest.update(content.read())
                continue
            for position in (*range(0, size, STEP_BYTES), size - BLOCK_BYTES):
                content.seek(position)
                digest.update(content.read(BLOCK_BYTES))
    if base is not None:
        digest.update(checkpoint_digest(base).encode())
    return digest.hexdigest()[:16]


@cache
def hub_commit(name: str) -> str | None:
    """The commit that a hub name stands for: the hub's newest, or, where it cannot be asked, that in the cache. None where neither has one.

    The hub is asked for the config, which is then in the cache, so the answer is the same before and after the model is fetched. A process
    asks once.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    cached = False
    for file in ("config.json", "adapter_config.json"):
        try:
            return Path(hf_hub_download(name, file, local_files_only=cached)).parent.name
        except (EntryNotFoundError, OSError, ValueError) as error:  # not there, no network, no such name
            cached = isinstance(error, LocalEntryNotFoundError)  # the hub did not answer: do not wait for it once more
            logger.debug("%s: %s", name, error)
    return None


def cached_file(name: str, file: str = "config.json") -> Path | None:
    """A file of a hub name in the cache, whose folder is named by its commit; None for a folder, and where it is not there."""
    if Path(name).is_dir():
        return None
    try:
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.utils import HFValidationError
    except ImportError:
        return None
    try:
        found = try_to_load_from_cache(name, file)
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None


def last_checkpoint(output: Path) -> Path | None:
    """The newest complete `checkpoint-N`. The trainer's state is what transformers writes last into one: a folder without it, or
    with half of it, was torn by a kill."""
    folders = [folder for folder in output.glob("checkpoint-*") if folder.name.partition("-")[2].isdigit()]
    for folder in sorted(folders, key=lambda folder: int(folder.name.partition("-")[2]), reverse=True):
        try:
            state = json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            logger.warning("%s is incomplete (the run was stopped while saving it); an earlier one is used", folder)
            continue
        if state.get("global_step") == int(folder.name.partition("-")[2]):
            return folder
    return None


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """`key: old -> new` for each differing value."""
    found = []
    for key in dict.fromkeys([*old, *new]):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            found += differences(before, after, f"{prefix}{key}.")
        elif before != after:
            found.append(f"{prefix}{key}: {before} -> {after}")
    return found
