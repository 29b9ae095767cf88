"""The bench on a GPU: the fast path is faster and smaller there too, with the same loss."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tpo_plugin.bench.run import bench
from tpo_plugin.options import BenchRecipe

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]


def rows(output: Path) -> dict[str, dict[str, float]]:
    found = json.loads((output / "summary.json").read_text())
    return {row["path"]: row for row in found if row["seconds_per_pair"] is not None}


def test_small(tmp_path: Path) -> None:
    bench(BenchRecipe(str(tmp_path), size="small", frames=64, device="cuda", sweep=False))
    found = rows(tmp_path)
    assert found["fast"]["loss"] == pytest.approx(found["upstream"]["loss"], rel=0.02)  # bfloat16
    assert (
        found["fast"]["seconds_per_pair"] < found["plain"]["seconds_per_pair"] < found["upstream"]["seconds_per_pair"]
    )
    assert found["fast"]["peak_bytes"] * 3 < found["upstream"]["peak_bytes"]


@pytest.mark.timeout(1500)
@pytest.mark.parametrize("frames", [64, 128])
def test_7b(tmp_path: Path, frames: int) -> None:
    recipe = BenchRecipe(
        str(tmp_path), size="7b-random", frames=frames, device="cuda", paths=("plain", "fast"), repeats=1,
        checkpointing=True, sweep=False,
    )  # fmt: skip
    bench(recipe)
    found = rows(tmp_path)
    assert found["fast"]["loss"] == pytest.approx(found["plain"]["loss"], rel=0.02)
    assert found["fast"]["seconds_per_pair"] < found["plain"]["seconds_per_pair"] / 2
    assert found["fast"]["peak_bytes"] < found["plain"]["peak_bytes"]
