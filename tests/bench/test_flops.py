"""Operations: counted alike on every device, as derived by hand, and as few as promised."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional as F

from tpo_plugin.bench import by_hand
from tpo_plugin.bench.flops import count
from tpo_plugin.bench.job import PATHS
from tpo_plugin.bench.meta import count_reference, count_step
from tpo_plugin.bench.paths import make_step, prepare, reference_scores
from tpo_plugin.bench.sizes import SIZES, build, move, pairs
from tpo_plugin.bench.summary import tree_costs


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("causal", [False, True])
def test_attention_counts_alike_whatever_kernel_runs(device: str, causal: bool) -> None:
    query = torch.zeros(2, 4, 6, 8, device=device, requires_grad=True)
    key, value = (torch.zeros(2, 2, 6, 8, device=device, requires_grad=True) for _ in range(2))

    def attend() -> torch.Tensor:
        return F.scaled_dot_product_attention(query, key, value, is_causal=causal, enable_gqa=True)

    product = 2 * (2 * 4) * 6 * 6 * 8  # of batch 2, 4 heads: (6, 8) with (8, 6)
    needed = product * 21 // 36 if causal else product  # 21 of the 36 pairs are on or below the diagonal
    with torch.no_grad():
        forward = count(attend)
    assert (forward.needed, forward.every) == (2 * needed, 2 * product)
    both = count(lambda: attend().sum().backward())
    assert (both.needed, both.every) == (6 * needed, 6 * product)


@pytest.mark.parametrize("path", PATHS)
def test_the_meta_device_counts_what_runs_on_the_cpu(path: str) -> None:
    size = SIZES["tiny"]
    policy, data = build(size, "cpu", torch.float32), pairs(size, 6, 2, "cpu", torch.float32)
    reference, cached = None, None
    if path == "fast":
        prepare(policy)
        cached = reference_scores(policy, data)
    else:
        reference = copy.deepcopy(policy)
    move(policy)
    run = count(make_step(path, policy, data, reference, cached))
    assert run == count_step(size, 6, 2, path)


@pytest.mark.parametrize("frames", [16, 64, 128])
@pytest.mark.parametrize(("size", "number"), [("small", 1), ("small", 4), ("tiny", 8)])
def test_operations_are_those_derived_by_hand(size: str, frames: int, number: int) -> None:
    shape = SIZES[size]
    assert count_step(shape, frames, number, "fast").needed == pytest.approx(
        by_hand.tree_step(shape, frames, number), rel=0.01
    )
    assert count_reference(shape, frames, number).needed == pytest.approx(
        by_hand.tree_reference(shape, frames, number), rel=0.01
    )
    assert count_step(shape, frames, 1, "upstream").needed == pytest.approx(
        by_hand.upstream_step(shape, frames, 1), rel=0.01
    )


@pytest.mark.parametrize("size", ["small", "7b"])
def test_twelve_rejected_with_one_chosen_cost_little_more_than_a_pair(size: str) -> None:
    """At 64 frames, with answers of 150 tokens: eleven more of them, and nothing else."""
    costs = tree_costs(size, 64, 12, 150)
    assert 1 < costs["reference"] < costs["step"] <= 1.5


@pytest.mark.parametrize(
    ("size", "number", "bound"), [("small", 1, 4.0), ("small", 4, 14.0), ("7b", 1, 2.9), ("7b", 4, 11.0)]
)
def test_a_pair_costs_as_little_as_promised(size: str, number: int, bound: float) -> None:
    """At 64 frames, with the reference from a store; its pass costs no more than one causal forward pass of the tree."""
    shape = SIZES[size]
    upstream = count_step(shape, 64, 1, "upstream").needed
    step, reference = count_step(shape, 64, number, "fast").needed, count_reference(shape, 64, number).needed
    assert upstream / (step / number) >= bound
    assert by_hand.floor(shape, 64) < step
    tower = by_hand.vision(shape, 64, backward=False)
    assert reference - tower <= (step - tower) / 3
