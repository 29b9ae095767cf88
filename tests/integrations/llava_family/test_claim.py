"""Which run the script's output folder holds: what it is known by, and what makes it another one."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tpo_plugin.errors import TPOError
from tpo_plugin.integrations.llava_family.claim import DATA, FILE, MODEL, TRAINING, claim

ROWS = [{"id": "a"}]


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """A function that claims the folder `out`, with some arguments changed, for a run of 8 processes that has saved a checkpoint."""
    (tmp_path / "out" / "checkpoint-1").mkdir(parents=True)

    def call(**changes: Any) -> dict[str, Any]:
        values = dict.fromkeys((*MODEL, *DATA, *TRAINING)) | {"output_dir": str(tmp_path / "out"), "process_index": 0}
        values |= {"world_size": 8, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 2}
        arguments = SimpleNamespace(**values | {"model_name_or_path": checkpoint(tmp_path / "start")} | changes)
        claim(arguments, arguments, arguments, ROWS)
        return json.loads((tmp_path / "out" / FILE).read_text())

    call()
    return call


def checkpoint(folder: Path, config: str = "{}") -> str:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(config)
    return str(folder)


def test_fewer_processes_may_gather_more_steps(run: Any) -> None:
    assert run(world_size=2, gradient_accumulation_steps=8)["batch"] == 16
    with pytest.raises(TPOError, match=r"checkpoints of another run \(batch: 16 -> 2\)"):
        run(world_size=1)
    with pytest.raises(TPOError, match=r"\(per_device_train_batch_size: 1 -> 2\)"):
        run(world_size=4, per_device_train_batch_size=2)


def test_a_checkpoint_counts_by_its_content(run: Any, tmp_path: Path) -> None:
    moved = checkpoint(tmp_path / "moved")
    assert run(model_name_or_path=moved)["model_name_or_path"] == moved
    with pytest.raises(TPOError, match=r"\(model_name_or_path: .*; digests.model_name_or_path: "):
        run(model_name_or_path=checkpoint(tmp_path / "other", '{"a": 1}'))
    with pytest.raises(TPOError, match=r"\(tpo_reference_model: None -> .*; digests.tpo_reference_model: None -> "):
        run(model_name_or_path=moved, tpo_reference_model=moved)


def test_a_record_of_an_earlier_release_counts(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "out" / FILE
    file.write_text(json.dumps({k: v for k, v in run().items() if k not in ("batch", "digests")}))
    before = file.read_text()
    run(world_size=1)
    file.write_text(before)
    with pytest.raises(TPOError, match=r"\(gradient_accumulation_steps: 2 -> 8\)"):
        run(gradient_accumulation_steps=8)
    with pytest.raises(TPOError, match=r"\(model_name_or_path: .*start -> .*moved\)"):
        run(model_name_or_path=checkpoint(tmp_path / "moved"))
