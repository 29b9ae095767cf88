"""What a step takes inside the DPO script of a LLaVA-NeXT or LongVA checkout: with upstream's own trainer, or `--tpo` on either path.

The script itself builds model, data and trainer; this takes the trainer where it is made.
"""

from __future__ import annotations

import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tpo_plugin.bench.flops import count
from tpo_plugin.bench.job import Job, Result, Step, gradients, peak, repeat, timed
from tpo_plugin.bench.sizes import SIZES, move
from tpo_plugin.bench.upstream_world import flags, output_folder
from tpo_plugin.integrations import llava_family
from tpo_plugin.integrations.checkout import find_checkout
from tpo_plugin.integrations.llava_family.launcher import load_script


class Built(Exception):
    """Carries the trainer that the script made."""


def measure_in_script(job: Job, checkout_path: str, world: Path) -> Result:
    """The job's path in the checkout's script, on the CPU, in the world that `make_world` wrote."""
    checkout = find_checkout(checkout_path)
    given = flags(world, SIZES[job.size], checkout.name, job.frames, job.pairs_per_video, job.path, job.checkpointing)
    sys.argv = [str(checkout.script), *given]
    # An earlier round's reference would be found there.
    shutil.rmtree(output_folder(world, job.path), ignore_errors=True)
    trainer = built(vars(load_script(checkout)), job.path)
    policy, device = trainer.model, torch.device("cpu")
    once: tuple[float | None, float | None] = (None, None)
    if job.path == "fast":
        _, once = timed(trainer.prepare_reference, device)
    move(policy, job.seed + 1)
    started = time.perf_counter()
    step = _step(trainer, job)
    ready = time.perf_counter() - started
    loss, seconds, cpu_seconds = repeat(step, policy, device, job.seconds)
    result = Result(seconds, cpu_seconds, *once, ready, peak(device), loss)
    if job.gradients is None:
        return result
    torch.save(gradients(policy), job.gradients)
    flops = count(step)
    return replace(result, flops=flops.needed, flops_every=flops.every)


def built(script: dict[str, Any], path: str) -> Any:
    """The trainer that the script's `train()` makes: upstream's own, with its own collator, or ours."""
    upstream, collator = script["LLaVADPOTrainer"], script["DPODataCollator"]
    llava_family.attach(script)
    ours = script["LLaVADPOTrainer"]

    def make(*args: Any, **kwargs: Any) -> None:
        if path == "upstream":
            tokenizer = kwargs["tokenizer"]
            kwargs["data_collator"] = collator(tokenizer, label_pad_token_id=-100, pad_token_id=tokenizer.pad_token_id)
        raise Built((upstream if path == "upstream" else ours)(*args, **kwargs))

    script["LLaVADPOTrainer"] = make
    try:
        script["train"]()
    except Built as found:
        return found.args[0]
    raise RuntimeError("the script made no trainer")


def _step(trainer: Any, job: Job) -> Step:
    """A step on all pairs of the video: in one batch on the fast path, else each in its own."""
    together = job.pairs_per_video if job.path == "fast" else 1
    rows = [trainer.train_dataset[row] for row in range(job.pairs_per_video)]
    batches = [trainer.data_collator(rows[row : row + together]) for row in range(0, len(rows), together)]

    def step() -> Tensor:
        trainer.model.train()
        losses = []
        for batch in batches:
            loss = trainer.get_batch_loss_metrics(trainer.model, batch)[0] / len(batches)
            loss.backward()
            losses.append(loss.detach())
        return torch.stack(losses).sum()

    return step
