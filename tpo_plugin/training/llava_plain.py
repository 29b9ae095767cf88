"""The plain path of `--tpo`: upstream's own forward passes, with the true reference and a check that no response was cut."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from tpo_plugin.errors import TPOError
from tpo_plugin.training.llava_checkpoints import beside_adapters, part
from tpo_plugin.training.llava_sft import NoReference
from tpo_plugin.training.policies.llava import IGNORED, cut

logger = logging.getLogger(__name__)


class PlainPath:
    """With adapters, the reference is the model without them *and* with the initial values of what else is trained."""

    args: Any
    model: Any
    accelerator: Any

    def __init__(self, model: Any, ref_model: Any, **kwargs: Any) -> None:
        alone = not kwargs.get("dpo_alpha", 1.0)
        super().__init__(model, NoReference() if alone else ref_model, **kwargs)  # type: ignore[call-arg]
        if alone:
            self.ref_model = None
            logger.info("--dpo_alpha is 0: the run has no rejected side, no reference and no rewards")
        own = self.args.lora_enable and not alone and ref_model is None  # else a model of its own is the reference
        trained = list(beside_adapters(self.model)) if own else []
        if any(hasattr(weight, "ds_id") for _, weight in trained):
            raise TPOError(
                f"LoRA with {', '.join(sorted({part(name) for name, _ in trained}))} trained beside it has no reference under "
                "DeepSpeed ZeRO-3 on the plain path: leave --tpo_path plain out, use ZeRO-2, or train the adapters alone "
                "(--mm_tunable_parts mm_language_model)"
            )
        self._initial = [(weight, weight.detach().clone()) for _, weight in trained]

    @contextmanager
    def null_ref_context(self) -> Iterator[None]:
        with super().null_ref_context(), _swapped(self._initial):  # type: ignore[misc]
            yield

    def concatenated_forward(self, model: Any, batch: dict[str, Any]) -> Any:
        result = super().concatenated_forward(model, batch)  # type: ignore[misc]
        for side, labels in zip(("chosen", "rejected"), result[4:6]):
            self._check(batch, side, labels)
        return result

    def chosen_alone(self, model: Any, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """log p of each chosen response (B,), and L_SFT, from upstream's forward over the chosen sequences."""
        logits, labels = model(
            batch["chosen_input_ids"],
            attention_mask=batch["chosen_attention_mask"],
            labels=batch["chosen_labels"],
            images=batch["images"],
            image_sizes=batch["image_sizes"],
            modalities=batch["modalities"],
            use_cache=False,
            dpo_forward=True,
        )
        self._check(batch, "chosen", labels)
        logits = logits.to(torch.float32)
        return self.get_batch_logps(logits, labels), self.get_sft_loss(logits, labels)  # type: ignore[attr-defined]

    def _check(self, batch: dict[str, Any], side: str, labels: Tensor) -> None:
        """TPOError if upstream cut some of a side's labels."""
        for row, (before, after) in enumerate(zip(_labelled(batch[f"{side}_labels"]), _labelled(labels))):
            if after < before:
                raise TPOError(cut(batch["ids"][row], side, before - after, before, self.args.model_max_length))


@contextmanager
def _swapped(initial: list[tuple[torch.nn.Parameter, torch.Tensor]]) -> Iterator[None]:
    """The parameters with other values of theirs, until the end of the block; nothing is copied where type and device agree."""
    trained = [weight.data for weight, _ in initial]
    try:
        for weight, value in initial:
            weight.data = value.to(weight.device, weight.dtype)
        yield
    finally:
        for (weight, _), value in zip(initial, trained):
            weight.data = value


def _labelled(labels: torch.Tensor) -> list[int]:
    """How many positions of each row carry a label. `labels` (B, T), IGNORED elsewhere."""
    counts: list[int] = (labels != IGNORED).sum(dim=1).tolist()
    return counts
