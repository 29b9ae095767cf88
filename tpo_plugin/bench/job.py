"""What one path is asked in a process of its own, what it answers, and how both are measured."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
PATHS = ("upstream", "plain", "fast")
LARGEST = 30_000_000  # entries of a gradient that is kept for comparison
Step = Callable[[], Tensor]  # runs a step, backward included, and returns the mean loss of its pairs


@dataclass(frozen=True)
class Job:
    """What to measure. `gradients` is a file to write the gradients to. A step is repeated for `seconds`, ten times at most.

    `rejected_per_chosen` of the `pairs_per_video` have the same query and chosen response; `answer_tokens`: see `sizes.sized`.
    """

    size: str
    frames: int
    pairs_per_video: int
    path: str
    device: str = "cpu"
    seed: int = 0
    checkpointing: bool = False
    gradients: str | None = None
    seconds: float = 2.0
    rejected_per_chosen: int = 1
    answer_tokens: int | None = None


@dataclass(frozen=True)
class Result:
    """Medians of a process: seconds of a step on one video's pairs (on the clock, and of all cores), of the reference pass, likewise, and
    from the loaded model to the first step."""

    seconds: float
    cpu_seconds: float
    reference_seconds: float | None
    reference_cpu_seconds: float | None
    ready_seconds: float
    peak_bytes: int
    loss: float
    flops: float | None = None  # of the step (flops.py), where the first round counted them
    flops_every: float | None = None


def timed(run: Callable[[], T], device: torch.device) -> tuple[T, tuple[float, float]]:
    """What `run` returns, and the seconds and CPU seconds that it takes."""
    started, cpu_started = time.perf_counter(), time.process_time()
    result = run()
    finish(device)
    return result, (time.perf_counter() - started, time.process_time() - cpu_started)


def repeat(step: Step, policy: Any, device: torch.device, budget: float) -> tuple[float, float, float]:
    """The loss, and the medians of seconds and of CPU seconds, of the steps that fit into `budget` seconds: one at least, ten at most."""
    seconds: list[float] = []
    cpu_seconds: list[float] = []
    while not seconds or (sum(seconds) < budget and len(seconds) < 10):
        policy.zero_grad(set_to_none=True)
        loss, (one, cpu_one) = timed(step, device)
        seconds.append(one)
        cpu_seconds.append(cpu_one)
    return loss.item(), statistics.median(seconds), statistics.median(cpu_seconds)


def gradients(policy: Any) -> dict[str, Tensor]:
    """The policy's gradients by name, on the CPU; the largest tensors of a large model are left out."""
    found = {name: weight.grad for name, weight in policy.named_parameters() if weight.grad is not None}
    return {name: value.float().cpu() for name, value in found.items() if value.numel() <= LARGEST}


def gradient_difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """The largest difference, relative to the largest entry of its tensor in `one`.

    Tensors whose gradient is rounding alone (largest entry below 1e-6 of the global norm: a key's bias) are left out.
    """
    norm = torch.stack([value.norm() for value in one.values()]).norm()
    return max(
        ((value - other[name]).abs().max() / value.abs().max()).item()
        for name, value in one.items()
        if value.abs().max() > 1e-6 * norm
    )


def peak(device: torch.device) -> int:
    """Peak memory in bytes: on CUDA what was allocated, else the resident memory of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
