"""The reference of a Hugging Face run: what its table on disk is known by, and the pass that fills it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from torch.utils.data import DataLoader
from trl.models.utils import prepare_deepspeed

from tpo_plugin.folders import checkpoint_digest
from tpo_plugin.integrations.huggingface import prompt_text, response_text
from tpo_plugin.options import TrainRecipe
from tpo_plugin.training.data import TrainingPairs
from tpo_plugin.training.policies.hf_tree import to_device
from tpo_plugin.training.reference import FILE, Key, Sums, complete, everywhere, row_keys
from tpo_plugin.training.reference_table import Table


@dataclass(frozen=True)
class StoredReference:
    """Where a run's reference log-probabilities are on disk, and what they are known by: the setting as a whole and each row.

    `own`: they are those of the model that is to be trained, as it is before.
    """

    file: Path
    fingerprint: dict[str, str]
    keys: list[Key]
    videos: list[str]
    own: bool = True

    @classmethod
    def of_recipe(cls, recipe: TrainRecipe, arguments: Any, pairs: TrainingPairs, processor: Any) -> StoredReference:
        """The recipe's. The objective is no part of the fingerprint, nor is what is trained: both leave the initial model as it is.

        The attention implementation is: in half precision, kernels differ by more than a training step does.
        """
        computed = "bfloat16" if arguments.bf16 else "float16" if arguments.fp16 else "its weights' dtype"
        weights = checkpoint_digest(recipe.reference_model or recipe.model)
        fingerprint = {
            "weights": weights,
            "frames": json.dumps(recipe.frames.plain()),
            "prompt": repr(prompt_text(processor, "QUERY") + response_text(processor, "RESPONSE")),
            "dtype": f"{recipe.dtype} weights, computed in {computed}",
            "attention": recipe.attn_implementation,
        }
        rows = [(row.id, [pairs.root / row.video], [pairs.text(row), row.chosen, row.rejected]) for row in pairs.rows]
        return cls(
            Path(recipe.reference or recipe.output) / FILE,
            fingerprint,
            row_keys(rows),
            [row.video for row in pairs.rows],
            weights == checkpoint_digest(recipe.model),
        )

    def is_complete(self) -> bool:
        """Whether the table has all rows; all processes must ask together. TPOError as `complete`."""
        return everywhere(self._is_complete)

    def _is_complete(self) -> bool:
        with Table(self.file, self.fingerprint) as table:
            return all(key in table.sums for key in self.keys)

    def complete(self, trainer: Any) -> Tensor:
        """The log-probabilities (N, 2) of all rows; what is missing is computed with the trainer's model, before it is trained.

        ValueError if that is not the model whose they are.
        """
        training = trainer.model.training
        trainer.model.eval()
        try:
            return complete(self.file, self.fingerprint, self.keys, self.videos, lambda units: _sums(trainer, units))
        finally:
            trainer.model.train(training)


def _sums(trainer: Any, units: Sequence[Sequence[int]]) -> Iterator[list[Sums]]:
    """The sums of log p of each list of rows, a forward each, without adapters."""
    if not trainer.stored.own:
        raise ValueError("the table of a reference_model must be complete before another model is trained")
    model = trainer.model
    if trainer.is_deepspeed_enabled:  # the parameters are still on the CPU, or under ZeRO-3 divided over the ranks
        model = prepare_deepspeed(model, trainer.accelerator)
    loader: DataLoader[Any] = DataLoader(
        units,  # type: ignore[arg-type]
        batch_size=None,
        collate_fn=lambda unit: trainer.data_collator([{"row": row} for row in unit]),
        num_workers=trainer.args.dataloader_num_workers,
    )
    for batch in loader:
        tree = to_device(batch["tree"], trainer.accelerator.device)
        plain = trainer.model.disable_adapter() if isinstance(trainer.model, PeftModel) else nullcontext()
        with torch.no_grad(), trainer.accelerator.autocast(), plain:
            logps = model(tree=tree).double()
        yield [tuple(pair) for pair in torch.where(tree.packed.members, logps, 0.0).sum(dim=1).view(-1, 2).tolist()]
