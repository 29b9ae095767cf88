"""A cell of an evaluation: one model with one number of frames on one task, its folder, and what proves that it is finished.

OUTPUT/<label>/<frames>/<task>/
  answers.jsonl  done.json    written when every question has its answer, done.json last
  lmms_eval.log  lmms_eval/   what lmms-eval printed and wrote
  answers-<fingerprint>.part  while it runs: the answers so far
"""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tpo_plugin.errors import EvaluationError
from tpo_plugin.evaluation.harness import extractor
from tpo_plugin.folders import adapter_base, cached_file
from tpo_plugin.records import write_json, write_jsonl

DONE, ANSWERS = "done.json", "answers.jsonl"
FACTS = re.compile(rb"tpo wrapper: (\{.*\})")
UNREADABLE = re.compile(rb"tpo unreadable video: (\{.*\})")


@dataclass(frozen=True)
class Cell:
    """One model with one number of frames (None: the wrapper's own) on one task. `arguments` are lmms-eval's."""

    label: str
    frames: int | None
    task: str
    fingerprint: str
    folder: Path = field(compare=False)
    arguments: tuple[str, ...] = field(compare=False, default=(), repr=False)
    checkpoint: str = field(compare=False, default="", repr=False)

    def __str__(self) -> str:
        return f"{self.label}, {self.frames or 'default'} frames, {self.task}"

    @property
    def log(self) -> Path:
        return self.folder / "lmms_eval.log"

    @property
    def written(self) -> Path:
        """What lmms-eval writes."""
        return self.folder / "lmms_eval"

    @property
    def kept(self) -> Path:
        """The answers so far, of this fingerprint alone."""
        return self.folder / f"answers-{self.fingerprint}.part"

    def order(self) -> dict[str, Any]:
        """What the harness needs to know; makes room for what it writes."""
        shutil.rmtree(self.written, ignore_errors=True)
        keep = {self.kept.name, self.log.name} if self.kept.is_file() else set()
        for file in self.folder.glob("*") if self.folder.is_dir() else ():
            if file.is_file() and file.name not in keep:
                file.unlink()
        self.written.mkdir(parents=True)
        folder = self.folder.absolute()
        return {
            "argv": [*self.arguments, "--output_path", str(folder / self.written.name)],
            "log": str(folder / self.log.name),
            "answers": str(folder / self.kept.name),
            "extractor": str(folder / "extractor.json"),
            "error": str(folder / "error.json"),
        }

    def error(self) -> str | None:
        """The text of the TPOError that ended it, which names the user's cure."""
        file = self.folder / "error.json"
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None

    def was_finished(self) -> bool:
        """Whether there is a result, be it of another fingerprint."""
        return (self.folder / DONE).is_file() and (self.folder / ANSWERS).is_file()

    def finished(self) -> dict[str, Any] | None:
        """The result of a finished run under this fingerprint, if the code that reads the answers is still the same.

        Of a hub checkpoint, if the cache still holds the commit that answered.
        """
        if not self.was_finished():
            return None
        done = json.loads((self.folder / DONE).read_text(encoding="utf-8"))
        cell: dict[str, Any] = done["cell"]
        if done["fingerprint"] != self.fingerprint or extractor(cell["extractor"]["file"]) != cell["extractor"]:
            return None
        return cell if cell.get("revision") == hub_revision(self.checkpoint) else None

    def finish(self, result: dict[str, Any], answers: list[dict[str, Any]]) -> None:
        """Write the answers and the proof that this cell is done."""
        seen = self.log.read_bytes()
        unreadable = {json.loads(line)["video"]: json.loads(line) for line in UNREADABLE.findall(seen)}
        facts = FACTS.findall(seen)
        cell = {
            "model": self.label,
            "frames": self.frames,
            "task": self.task,
            **result,
            "revision": hub_revision(self.checkpoint),
            "unreadable": len(unreadable),
            "wrapper": json.loads(facts[-1]) if facts else None,
            "extractor": self._extractor(),
        }
        write_jsonl(self.folder / ANSWERS, answers)
        write_json(self.folder / "unreadable.json", list(unreadable.values()))
        write_json(self.folder / DONE, {"fingerprint": self.fingerprint, "cell": cell})
        self.kept.unlink(missing_ok=True)

    def _extractor(self) -> dict[str, Any]:
        file = self.folder / "extractor.json"
        if not file.is_file():
            raise EvaluationError("lmms-eval does not say which code reads the answers")
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return found


def hub_revision(checkpoint: str) -> str | None:
    """The commit of a hub checkpoint, or of an adapter's base, in the cache; None for a folder, and for one that is not there."""
    config = cached_file(adapter_base(checkpoint) or checkpoint)
    return config.parent.name if config else None


def cell_folder(output: Path, label: str, frames: int | None, task: str) -> Path:
    """Where a cell's files are: OUTPUT/<label>/<frames>/<task>."""
    return output / label / str(frames or "default") / task
