"""trl's DPOTrainer for pairs about a video.

trl knows images only, but each step where that matters is a method or an argument: the dataset's preparation, its columns,
the collator, the loss. Optimiser, schedule, accumulation, checkpoints, logging and launchers stay trl's and transformers'.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from transformers import TrainerCallback
from trl import DPOConfig, DPOTrainer
from trl.trainer import dpo_trainer

from tpo_plugin.options import ObjectiveOptions
from tpo_plugin.training.data import PairCollator
from tpo_plugin.training.hf_reference import StoredReference
from tpo_plugin.training.objective import Scores
from tpo_plugin.training.policies.hf import score
from tpo_plugin.training.policies.hf_tree import to_device
from tpo_plugin.training.policies.parts import find_parts
from tpo_plugin.training.sampler import GroupedSampler
from tpo_plugin.training.trainer import batch_loss, needs_reference, tree_scores


class HFTemporalDPOTrainer(DPOTrainer):
    """Trains `model` with dpo_alpha * L_DPO + gamma * L_SFT on the collator's pairs.

    Where `objective.dpo_alpha` is not 0 there is a reference: on the plain path `ref_model`, a frozen model of its own also under LoRA
    (switching the adapters off would leave a projector that was trained in full in place); on the fast path, with batches of trees and a
    `model` that takes them, `stored`: what is missing there is computed at once, with the model as it is given. `levels`: GroupedSampler's.
    """

    objective: ObjectiveOptions

    def __init__(
        self,
        model: Any,
        ref_model: Any,
        args: DPOConfig,
        objective: ObjectiveOptions,
        data_collator: PairCollator,
        stored: StoredReference | None = None,
        pairs_per_video: int = 1,
        levels: Sequence[float] | None = None,
        **kwargs: Any,
    ) -> None:
        reference = stored if data_collator.trees else ref_model
        if needs_reference(objective) == (reference is None):
            raise ValueError("a reference is needed if and only if objective.dpo_alpha is not 0")
        self.objective, self.stored, self.pairs_per_video = objective, stored, pairs_per_video
        self.videos, self.levels = [row.video for row in data_collator.pairs.rows], levels
        self.reference: torch.Tensor | None = None  # (rows, 2): log p of chosen and rejected before training
        # With reference log-probabilities "precomputed" trl loads no reference model by itself.
        args.precompute_ref_log_probs = ref_model is None
        frozen = _frozen_tower(model)
        with _unhashed():
            super().__init__(
                model=model,
                ref_model=ref_model,
                args=args,
                data_collator=data_collator,
                train_dataset=Dataset.from_dict({"row": list(range(len(data_collator.pairs)))}),
                processing_class=data_collator.processor,
                **kwargs,
            )
        if data_collator.trees and frozen is not None:
            self.add_callback(_KeepFrozen(frozen))

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = ["row"]  # type: ignore[assignment]

    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        if self.stored is not None:
            self.reference = self.stored.complete(self)
        return dataset

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        if self.pairs_per_video == 1 and self.levels is None:
            return super()._get_train_sampler(train_dataset)
        sampler = GroupedSampler(self.videos, self.pairs_per_video, self.args.data_seed or 0, self.levels)
        self.add_callback(_TellEpoch(sampler))
        return sampler

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """As transformers', and logs the seconds that an optimiser step waited for its data (`data_wait`)."""
        started = time.perf_counter()
        batches = super().get_batch_samples(*args, **kwargs)
        self._metrics["train"]["data_wait"].append(time.perf_counter() - started)
        return batches

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """None: trl's card tells of a text model fine-tuned with plain DPO. The run's recipe is saved beside the checkpoints."""

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
        if return_outputs:
            raise NotImplementedError("compute_metrics over logits is not supported")
        policy, reference = self._scores_of_trees(model, inputs) if "tree" in inputs else self._scores(model, inputs)
        loss, metrics = batch_loss(policy, reference, inputs["kinds"], self.objective, self.pairs_per_video > 1)
        self._record(metrics)
        return loss

    def _scores(self, model: Any, inputs: dict[str, Any]) -> tuple[Scores, Scores | None]:
        """The batch's scores under policy and reference, on the plain path."""
        policy = score(model, inputs["groups"])
        if self.ref_model is None:
            return policy, None
        with torch.no_grad():
            return policy, score(self.ref_model, inputs["groups"])

    def _scores_of_trees(self, model: Any, inputs: dict[str, Any]) -> tuple[Scores, Scores | None]:
        """The same on the fast path."""
        tree = to_device(inputs["tree"], self.accelerator.device)
        policy = tree_scores(tree.packed, model(tree=tree), len(inputs["kinds"]))
        if self.reference is None:
            return policy, None
        before = self.reference[inputs["rows"]].to(policy.chosen)
        return policy, Scores(before[:, 0], before[:, 1], policy.tokens)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Load a full checkpoint as `from_pretrained` does.

        Why: transformers 5 saves LlavaOnevision and Qwen-VL under their old parameter names, but resumes without renaming them: it
        warns of missing keys and goes on with the untrained weights (huggingface/transformers issue 43701).
        Remove when: that issue is closed and the transformers that we require has the fix; the tests of resuming show it.
        """
        if self.is_deepspeed_enabled or self.is_fsdp_enabled or isinstance(self.model, PeftModel):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        target: Any = self.model if model is None else model
        saved = type(target).from_pretrained(resume_from_checkpoint, dtype=target.dtype)
        target.load_state_dict(saved.state_dict())

    def _record(self, metrics: dict[str, torch.Tensor]) -> None:
        """Add the batch's metrics, weighted over all processes, to those that trl logs."""
        mode = "train" if self.model and self.model.training else "eval"
        totals = self.accelerator.gather(torch.stack(list(metrics.values())))
        for name, (total, count) in zip(metrics, totals.view(-1, len(metrics), 2).sum(dim=0).tolist()):
            if count:
                self._metrics[mode][name].append(total / count)


class _KeepFrozen(TrainerCallback):
    """Takes the gradient from what a frozen tower's first layer gives.

    Why: gradient checkpointing with adapters makes transformers 5 ask for one there as well as at the words
    (`enable_input_require_grads`, at the start of training once more), and the whole tower would be differentiated for nothing.
    """

    def __init__(self, layer: Any) -> None:
        self.layer = layer

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.layer.register_forward_hook(lambda module, inputs, output: output.detach())  # the last one to be called


class _TellEpoch(TrainerCallback):
    """Tells a sampler the epoch: in a run of several processes that is resumed within an epoch, transformers and accelerate do not."""

    def __init__(self, sampler: GroupedSampler) -> None:
        self.sampler = sampler

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.sampler.set_epoch(int(state.epoch or 0))


@contextmanager
def _unhashed() -> Iterator[None]:
    """trl hashes all weights, on one core, to name a table of its own; ours knows the checkpoint by its files."""
    hashed = dpo_trainer.hash_module
    dpo_trainer.hash_module = lambda module: ""
    try:
        yield
    finally:
        dpo_trainer.hash_module = hashed


def _frozen_tower(model: Any) -> Any:
    """The first layer of the model's vision tower; None if it is trained."""
    layer = model.get_submodule(find_parts(model)[0]).get_input_embeddings()
    return None if any(weight.requires_grad for weight in layer.parameters()) else layer
