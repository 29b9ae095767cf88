"""`tpo bench` with a checkout: upstream's own trainer beside both paths of `--tpo`, on the same model, data and seed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize("pairs", [1, 2])
def test_upstreams_trainer_is_measured_beside_ours(world: Any, tmp_path: Path, pairs: int) -> None:
    if pairs > 1 and world.checkout.name == "longva":
        pytest.skip("one code base is enough")
    given = ["size=tiny", "frames=4", f"pairs_per_video={pairs}", "repeats=1", f"upstream={world.checkout.path}"]
    done = world.run("-m", "tpo_plugin", "bench", *given, f"output={tmp_path}")
    assert done.returncode == 0, done.stdout[-4000:]
    upstream, plain, fast = json.loads((tmp_path / "summary.json").read_text())
    assert plain["loss"] == pytest.approx(upstream["loss"], rel=1e-5)
    assert upstream["max_grad_rel_diff"] < 1e-5
    if pairs == 1:
        assert fast["loss"] == pytest.approx(upstream["loss"], rel=1e-5)
        assert 0 < fast["max_grad_rel_diff"] < 1e-5
    assert plain["flops_per_pair"] == upstream["flops_per_pair"]
    assert fast["flops_per_pair"] < upstream["flops_per_pair"] / 2
    assert fast["reference_seconds_per_pair"] > 0
    assert "own trainer" in json.loads((tmp_path / "environment.json").read_text())["upstream"]
