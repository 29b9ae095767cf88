"""`--tpo` gives upstream's numbers; where it does not, upstream's number is wrong, and why is shown."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

WORKER = Path(__file__).with_name("parity.py")


def run(world: Any, output: Path, case: str, **changes: object) -> dict[str, Any]:
    done = world.run(WORKER, world.checkout.path, case, *world.flags(output, **changes))
    assert done.returncode == 0, done.stdout[-4000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("path", ["fast", "plain"])
def test_loss_and_gradients_equal_upstreams(world: Any, tmp_path: Path, path: str, same_steps: Any) -> None:
    found = run(world, tmp_path, "parity", beta=0.3, gamma=0.5, tpo_path=path)
    assert set(found) == {"video", "videos", "picture", "pictures", "mixed"}
    same_steps(found)
    assert found["video"]["own"] == ["rewards/margins/localized"]
    assert found["picture"]["own"] == []


def test_upstream_learns_nothing_from_a_response_that_is_cut(world: Any, tmp_path: Path) -> None:
    """The cut leaves no token of the responses: both sides are equal, the loss is ln 2 whatever the policy. `--tpo` refuses the row."""
    assert run(world, tmp_path, "cut", model_max_length=40)["dpo"] == pytest.approx(math.log(2), abs=1e-6)


def test_upstream_rounds_the_tower_to_half_precision(world: Any, tmp_path: Path) -> None:
    """Without bf16 upstream casts the tower to float16, which moves log-probabilities; `--tpo` keeps float32."""
    found = run(world, tmp_path, "half_tower")
    assert found["dtype"] == "torch.float32"
    assert found["float16"] != found["float32"]
    assert found["float16"] == pytest.approx(found["float32"], abs=0.5)


def test_the_reference_stays_where_it_was_with_lora_and_a_trained_projector(world: Any, tmp_path: Path) -> None:
    found = run(world, tmp_path, "reference", lora_enable=True, tpo_path="plain")
    assert found["ours"]["after"] == found["ours"]["before"]
    assert found["upstream"]["after"] != found["upstream"]["before"], "upstream's reference drifts"
    assert found["ours"]["policy"] != found["ours"]["after"]
    assert found["adapters_in_tower"] == 0
    assert found["trained_beside"] == [True]
