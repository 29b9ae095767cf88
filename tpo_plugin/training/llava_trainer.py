"""LLaVA-NeXT's and LongVA's own LLaVADPOTrainer, made to run and to say what it does.

The loss stays upstream's: dpo_alpha * mean(L_DPO(beta)) + gamma * L_SFT, Eq. 3-5 of the paper (its alpha is `gamma`), L_SFT the mean over the
labelled tokens of the chosen rows. Upstream labels 7 tokens of the chat frame in each row as well: they cancel in L_DPO and count in L_SFT.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import torch
from transformers import Trainer

from tpo_plugin.folders import last_checkpoint
from tpo_plugin.records import Kind
from tpo_plugin.training.llava_checkpoints import LoraCheckpoints
from tpo_plugin.training.llava_fast import FastPath
from tpo_plugin.training.llava_sft import SFTAlone
from tpo_plugin.training.sampler import GroupedSampler

KINDS: tuple[str, ...] = get_args(Kind)


def temporal_trainer(base: type, path: type = FastPath) -> type:
    """TemporalDPOTrainer for the script's own LLaVADPOTrainer `base`, on the fast path or the plain one."""

    class TemporalDPOTrainer(_Signatures, _Order, SFTAlone, _Margins, LoraCheckpoints, path, base):
        """Upstream's trainer with the repairs of `repairs.py` and a reward margin for each kind of pair."""

    return TemporalDPOTrainer


class _Signatures:
    """The methods that upstream's trainers override, with the arguments that transformers 4.46 - 4.57 hands them."""

    if hasattr(Trainer, "get_batch_samples"):  # transformers >= 4.46 has one of that name, for gradient accumulation
        get_batch_samples = Trainer.get_batch_samples

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.model_accepts_loss_kwargs = False  # the loss is a mean: the trainer divides it by the accumulation steps

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        return super().compute_loss(model, inputs, return_outputs)  # type: ignore[misc]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        super().log(logs)  # type: ignore[misc]

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return super()._get_train_sampler()  # type: ignore[misc]

    def train(self, resume_from_checkpoint: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Train; from the last complete checkpoint where the script asks to resume (one torn by a kill is passed over)."""
        if resume_from_checkpoint is True:
            found = last_checkpoint(Path(self.args.output_dir))  # type: ignore[attr-defined]
            resume_from_checkpoint = str(found) if found else None
        return super().train(resume_from_checkpoint, *args, **kwargs)  # type: ignore[misc]


class _Order:
    """The order of the rows with `--tpo_order` or `--tpo_pairs_per_video`, the same on every process and after a resume."""

    args: Any
    train_dataset: Any

    def _get_train_sampler(self) -> Any:
        levels = self.train_dataset.levels()
        if levels is None and self.args.tpo_pairs_per_video == 1:
            return super()._get_train_sampler()  # type: ignore[misc]
        return GroupedSampler(self.train_dataset.shown(), self.args.tpo_pairs_per_video, self.args.seed, levels)


class _Margins:
    """What is logged beyond upstream's: the mean reward margin of each kind of pair, over all pairs since the last log and all processes."""

    accelerator: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._totals: dict[str, torch.Tensor] = {}  # train or eval: (2, kinds), sums and counts

    def dpo_loss(self, *logps: torch.Tensor) -> Any:
        losses, chosen, rejected = super().dpo_loss(*logps)  # type: ignore[misc]
        self._margins = (chosen - rejected).detach()
        return losses, chosen, rejected

    def get_batch_loss_metrics(self, model: Any, batch: dict[str, Any], train_eval: str = "train") -> Any:
        result = super().get_batch_loss_metrics(model, batch, train_eval)  # type: ignore[misc]
        kinds = torch.tensor([[one == kind for one in batch["kinds"]] for kind in KINDS], device=self._margins.device)
        totals = torch.stack([(kinds * self._margins).sum(dim=1), kinds.sum(dim=1)])
        self._totals[train_eval] = self._totals.get(train_eval, 0) + self.accelerator.reduce(totals, "sum").cpu()
        return result

    def log(self, logs: dict[str, float]) -> None:
        mode, prefix = ("train", "") if "loss" in logs else ("eval", "eval_")  # as upstream tells them apart
        for kind, total, count in zip(KINDS, *self._totals.pop(mode, torch.zeros(2, len(KINDS))).tolist()):
            if count:
                logs[f"{prefix}rewards/margins/{kind}"] = total / count
        super().log(logs)  # type: ignore[misc]
