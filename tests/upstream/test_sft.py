"""`--dpo_alpha 0` in the real scripts: rows need no rejected answer, and the SFT loss is what it is beside a preference loss."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

ALONE = {"loss", "losses/sft", "losses/total", "logps/chosen"}


def steps(world: Any, output: Path, **changes: object) -> list[dict[str, float]]:
    """What two steps of a run log."""
    flags = world.flags(output, tpo=True, max_steps=2, gamma=0.5, **changes)
    done = world.run("-m", "tpo_plugin", "train", "--upstream", world.checkout.path, "--", *flags)
    assert done.returncode == 0, done.stdout[-4000:]
    assert ("no rejected side, no reference and no rewards" in done.stdout) == (changes.get("dpo_alpha") == 0.0)
    state = json.loads((output / "trainer_state.json").read_text())
    return [entry for entry in state["log_history"] if "loss" in entry]


def test_sft_alone_on_both_paths(world: Any, tmp_path: Path) -> None:
    rows = [{key: row[key] for key in row if key != "rejected"} for row in json.loads(world.data.read_text())]
    (tmp_path / "chosen.json").write_text(json.dumps(rows))
    alone = {"dpo_alpha": 0.0, "data_path": tmp_path / "chosen.json", "tpo_max_pairs": 8}
    fast = steps(world, tmp_path / "fast", **alone)
    plain = steps(world, tmp_path / "plain", tpo_path="plain", **alone)
    both = steps(world, tmp_path / "both", tpo_max_pairs=8)
    assert not (tmp_path / "fast" / "reference.jsonl").exists()
    for one, other in zip(fast, plain, strict=True):
        assert one.keys() == other.keys() >= ALONE
        assert not [name for name in one if "reject" in name or "reward" in name or "dpo" in name]
        assert [one[name] for name in ALONE] == pytest.approx([other[name] for name in ALONE], rel=1e-4)
    assert fast[0]["losses/sft"] == pytest.approx(both[0]["losses/sft"], rel=1e-4)
    assert fast[0]["loss"] == pytest.approx(0.5 * fast[0]["losses/sft"], rel=1e-3)
    assert {name for name in both[0] if name.startswith("rewards/")}


def test_a_missing_rejected_answer_is_still_told_where_it_counts(world: Any, tmp_path: Path) -> None:
    rows = [{**row, "rejected": ""} for row in json.loads(world.data.read_text())]
    (tmp_path / "chosen.json").write_text(json.dumps(rows))
    flags = world.flags(tmp_path / "out", tpo=True, data_path=tmp_path / "chosen.json")
    done = world.run("-m", "tpo_plugin", "train", "--upstream", world.checkout.path, "--", *flags)
    assert done.returncode != 0
    assert "row 0 (the first is 0)" in done.stdout
    assert "`rejected` must be a text that is not empty" in done.stdout
