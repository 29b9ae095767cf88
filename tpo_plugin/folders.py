"""What every run does with its folders: hold the output alone, know a checkpoint by its content."""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tpo_plugin.errors import TPOError

EDGE_BYTES = 1 << 20
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


def checkpoint_digest(checkpoint: str) -> str:
    """16 hex digits of a checkpoint folder: names, sizes, first and last MiB of its files. A hub name stands for itself.

    An adapter's digest depends on its base too. Raises TPOError for a folder that is missing or holds no model.
    """
    folder = Path(checkpoint)
    if not folder.is_dir():
        if checkpoint.count("/") == 1 and not folder.parent.is_dir():
            return checkpoint
        raise TPOError(f"no checkpoint folder at {checkpoint}")
    adapter = folder / "adapter_config.json"
    if not adapter.is_file() and not (folder / "config.json").is_file():
        raise TPOError(f"{checkpoint} holds no model: neither config.json nor adapter_config.json is there")
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.iterdir() if path.suffix in MODEL_SUFFIXES):
        size = file.stat().st_size
        digest.update(f"{file.name} {size}\n".encode())
        with file.open("rb") as content:
            digest.update(content.read(EDGE_BYTES))
            content.seek(max(0, size - EDGE_BYTES))
            digest.update(content.read())
    if adapter.is_file():
        base = json.loads(adapter.read_text(encoding="utf-8")).get("base_model_name_or_path")
        digest.update(checkpoint_digest(str(base)).encode())
    return digest.hexdigest()[:16]
