"""What only running tells: whether packages import, what GPUs there are, whether decoders open a video. In a child process.

The child does one item after the other and writes down each as it begins and ends. An item that raises or crashes ends the child;
the parent notes it and starts another child with the items that are left.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS = 300  # for one child
VIDEO = "tiny.mp4"


@dataclass(frozen=True)
class Answer:
    """What an item came to: a value, or the first line of the error (how the child ended, if it left none)."""

    value: Any = None
    error: str | None = None


def ask(items: Sequence[str], root: Path | None, folder: Path) -> dict[str, Answer]:
    """An answer for each of `items`: `find NAME`, `import NAME`, `torchvision`, `gpu`, `av`, `decord`.

    `find` looks where a script that is started here would, all others with `root` first on sys.path. `folder` is for scratch files.
    """
    answers: dict[str, Answer] = {}
    left = list(items)
    while left:
        done = _child(left, root, folder)
        answers |= done
        left = left[len(done) :]
    return answers


def _child(items: list[str], root: Path | None, folder: Path) -> dict[str, Answer]:
    """Answers to the first of `items`, at least one; the last of them may be an error."""
    record = folder / "record.jsonl"
    record.write_text("")
    command = [sys.executable, "-m", __name__, json.dumps(items), str(root or ""), str(folder), str(record)]
    paths = [os.path.abspath(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1"}
    nothing = subprocess.DEVNULL
    try:
        run = subprocess.run(
            command,
            cwd=_home(),
            env=environment,
            timeout=SECONDS,
            check=False,
            stdin=nothing,
            stdout=nothing,
            stderr=nothing,
        )
        code = run.returncode
        end = f"crashed (signal {-code})" if code < 0 else f"ended Python (exit status {code})"
    except subprocess.TimeoutExpired:
        end = f"did not end within {SECONDS} s"
    lines = [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]
    done = {line["item"]: Answer(line.get("value"), line.get("error")) for line in lines}
    if len(done) < len(items) and not (lines and lines[-1].get("error")):
        done[items[len(done)]] = Answer(error=end)
    return done


def _home() -> Path:
    """The folder that the running tpo_plugin is imported from."""
    return Path(__file__).resolve().parents[3]


def main(items: list[str], root: str, folder: Path, record: Path) -> None:
    """The child: answer `items` into `record`."""
    if sys.path[:1] == [str(_home())]:  # put there by `python -m`; a script has it from PYTHONPATH or not at all
        del sys.path[0]

    def note(**values: Any) -> None:
        with record.open("a", encoding="utf-8") as out:
            out.write(json.dumps(values) + "\n")

    for item in items:
        if root and not item.startswith("find ") and sys.path[:1] != [root]:
            sys.path.insert(0, root)

        def hook(kind: type[BaseException], error: BaseException, _: Any, item: str = item) -> None:
            said = str(error).strip().splitlines()
            note(item=item, error=f"{kind.__name__}: {said[0]}" if said else kind.__name__)

        sys.excepthook = hook
        note(item=item, value=answer(item, folder))


def answer(item: str, folder: Path) -> Any:
    """Do one item; what it raises is its answer too."""
    kind, _, name = item.partition(" ")
    if kind == "find":
        spec = importlib.util.find_spec(name)
        places = [] if spec is None else [spec.origin, *(spec.submodule_search_locations or ())]
        return next((place for place in places if place), None)
    if kind == "import":
        return importlib.import_module(name) is not None
    others: dict[str, Callable[[Path], Any]] = {"torchvision": _torchvision, "gpu": _gpus, "av": _av, "decord": _decord}
    return others[kind](folder)


def _torchvision(folder: Path) -> bool:
    """Whether torchvision had to be repaired, as this package's commands do."""
    from tpo_plugin.integrations.torchvision import repair

    repaired = repair()
    importlib.import_module("torchvision")
    return repaired


def _gpus(folder: Path) -> list[dict[str, Any]]:
    import torch

    return [
        {
            "name": torch.cuda.get_device_name(index),
            "gib": torch.cuda.get_device_properties(index).total_memory / 2**30,
            "bf16": torch.cuda.get_device_capability(index) >= (8, 0),
        }
        for index in range(torch.cuda.device_count())
    ]


def _av(folder: Path) -> int:
    """The number of frames that PyAV reads of a video that it wrote."""
    import av
    import numpy as np

    from tpo_plugin.video.write import write_video

    write_video(folder / VIDEO, np.zeros((4, 32, 32, 3), np.uint8), 2)
    with av.open(str(folder / VIDEO)) as container:
        frames = list(container.decode(video=0))
    return len(frames)


def _decord(folder: Path) -> int:
    """The number of frames that decord reads of it."""
    import decord

    reader = decord.VideoReader(str(folder / VIDEO), ctx=decord.cpu(0))
    return len(reader.get_batch(range(len(reader))).asnumpy())


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
