"""trl's DPOTrainer for pairs about a video.

trl knows images only, but each step where that matters is a method or an argument: the dataset's preparation, its columns,
the collator, the loss. Optimiser, schedule, accumulation, checkpoints, logging and launchers stay trl's and transformers'.
"""

from __future__ import annotations

from typing import Any

import torch
from datasets import Dataset
from peft import PeftModel
from trl import DPOConfig, DPOTrainer

from tpo_plugin.options import ObjectiveOptions
from tpo_plugin.training.data import PairCollator
from tpo_plugin.training.policies.hf import score
from tpo_plugin.training.trainer import batch_loss, needs_reference


class HFTemporalDPOTrainer(DPOTrainer):
    """Trains `model` with dpo_alpha * L_DPO + gamma * L_SFT on the collator's pairs.

    `ref_model` is a frozen model of its own also under LoRA: switching the adapters off would leave a projector that was
    trained in full in place. It is not needed, and must be None, where `objective.dpo_alpha` is 0.
    """

    objective: ObjectiveOptions

    def __init__(
        self,
        model: Any,
        ref_model: Any,
        args: DPOConfig,
        objective: ObjectiveOptions,
        data_collator: PairCollator,
        **kwargs: Any,
    ) -> None:
        if needs_reference(objective) == (ref_model is None):
            raise ValueError("a reference model is needed if and only if objective.dpo_alpha is not 0")
        self.objective = objective
        # With reference log-probabilities "precomputed" (to none, see below) trl loads no reference model by itself.
        args.precompute_ref_log_probs = ref_model is None
        super().__init__(
            model=model,
            ref_model=ref_model,
            args=args,
            data_collator=data_collator,
            train_dataset=Dataset.from_dict({"row": list(range(len(data_collator.pairs)))}),
            processing_class=data_collator.processor,
            **kwargs,
        )

    def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
        return dataset

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = ["row"]  # type: ignore[assignment]

    def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
        return dataset

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """None: trl's card tells of a text model fine-tuned with plain DPO. The run's recipe is saved beside the checkpoints."""

    def _compute_loss(self, model: Any, inputs: dict[str, Any], return_outputs: bool) -> Any:
        if return_outputs:
            raise NotImplementedError("compute_metrics over logits is not supported")
        policy = score(model, inputs["groups"])
        reference = None
        if self.ref_model is not None:
            with torch.no_grad():
                reference = score(self.ref_model, inputs["groups"])
        loss, metrics = batch_loss(policy, reference, inputs["kinds"], self.objective)
        self._record(metrics)
        return loss

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
