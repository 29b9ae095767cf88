"""What a step of one path takes; run in a process of its own (worker.py), so that nothing of another path is in its memory."""

from __future__ import annotations

import copy
import time
from typing import Any

import torch

from tpo_plugin.bench.job import Job, Result, finish, gradients, peak, repeat, timed
from tpo_plugin.bench.paths import make_step, prepare, reference_scores
from tpo_plugin.bench.sizes import build, move, pairs, sized
from tpo_plugin.training.objective import Scores

WARM_FRAMES = 2


def measure(job: Job) -> Result:
    """Build model and data of the job, run its path, and time it."""
    size, device = sized(job.size, job.answer_tokens), torch.device(job.device)
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    policy = build(size, device, dtype, job.seed)
    if job.checkpointing:
        policy.gradient_checkpointing_enable({"use_reentrant": False})
    started = time.perf_counter()
    if job.path == "fast":
        prepare(policy)
    queries, rejected = job.pairs_per_video // job.rejected_per_chosen, job.rejected_per_chosen
    data = pairs(size, job.frames, queries, device, dtype, job.seed, rejected)
    ready = time.perf_counter() - started
    _warm(job, policy, size, device, dtype)
    reference, cached = None, None
    once: tuple[float | None, float | None] = (None, None)
    if job.path == "fast":
        cached, once = timed(lambda: reference_scores(policy, data), device)
    else:
        reference = copy.deepcopy(policy).requires_grad_(False)
    move(policy, job.seed + 1)
    step = make_step(job.path, policy, data, reference, cached)
    loss, seconds, cpu_seconds = repeat(step, policy, device, job.seconds)
    if job.gradients:
        torch.save(gradients(policy), job.gradients)
    return Result(seconds, cpu_seconds, *once, ready, peak(device), loss)


def _warm(job: Job, policy: Any, size: Any, device: torch.device, dtype: torch.dtype) -> None:
    """A short step, so that the first measured one loads no kernels."""
    data = pairs(size, WARM_FRAMES, 1, device, dtype, job.seed)
    zeros = torch.zeros(1, device=device)
    make_step(job.path, policy, data, policy, Scores(zeros, zeros, zeros))()
    policy.zero_grad(set_to_none=True)
    finish(device)
