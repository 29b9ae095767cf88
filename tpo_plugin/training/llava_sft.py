"""`--dpo_alpha 0`: the loss is gamma * L_SFT, the same number as upstream's, without the rejected side and without a reference."""

from __future__ import annotations

from typing import Any

import torch


class NoReference(torch.nn.Identity):
    """Given to upstream's trainer, which copies the model for a reference unless it is given one; it has no weights."""


class SFTAlone:
    """Steps in where upstream's trainer would compute both sides and the reference to multiply them by 0.

    The path's `chosen_alone(model, batch)` gives log p of each chosen response (B,) and L_SFT. They are all that is logged.
    """

    dpo_alpha: float
    gamma: float
    accelerator: Any

    def _prepare_deepspeed(self, model: Any) -> Any:
        """Upstream makes an engine of its reference model; the placeholder that stands for none is left as it is."""
        return model if isinstance(model, NoReference) else super()._prepare_deepspeed(model)  # type: ignore[misc]

    def get_batch_loss_metrics(self, model: Any, batch: dict[str, Any], train_eval: str = "train") -> Any:
        if self.dpo_alpha != 0:
            return super().get_batch_loss_metrics(model, batch, train_eval)  # type: ignore[misc]
        logps, loss = self.chosen_alone(model, batch)  # type: ignore[attr-defined]
        prefix = "eval_" if train_eval == "eval" else ""
        total, mean = self.gamma * loss, self.accelerator.reduce(logps.detach().mean(), "mean")
        logged = {"losses/sft": loss.detach(), "losses/total": total.detach(), "logps/chosen": mean}
        return total, {f"{prefix}{name}": value.cpu() for name, value in logged.items()}
