"""LLaVA-NeXT's and LongVA's own LLaVADPOTrainer, made to run and to say what it does.

The loss stays upstream's: dpo_alpha * mean(L_DPO(beta)) + gamma * L_SFT, Eq. 3-5 of the paper (its alpha is `gamma`), L_SFT the mean over the
labelled tokens of the chosen rows. Upstream labels 7 tokens of the chat frame in each row as well: they cancel in L_DPO and count in L_SFT.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

import torch
from transformers import Trainer

from tpo_plugin.errors import TPOError
from tpo_plugin.folders import last_checkpoint
from tpo_plugin.integrations.llava_family.repairs import OTHER_WEIGHTS
from tpo_plugin.records import Kind


def temporal_trainer(base: type) -> type:
    """TemporalDPOTrainer for the script's own LLaVADPOTrainer `base`."""

    class TemporalDPOTrainer(_Signatures, _LoraCheckpoints, _TrueReference, _Checks, base):
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


class _LoraCheckpoints:
    """LoRA checkpoints in the layout of upstream's final save: adapter, other trained weights, config."""

    args: Any
    model: Any

    def _save_checkpoint(self, model: Any, trial: Any, metrics: Any = None) -> None:
        if self.args.lora_enable or not _saves_projector_alone(self.args):
            Trainer._save_checkpoint(self, model, trial)  # type: ignore[arg-type]
        else:
            super()._save_checkpoint(model, trial, metrics)  # type: ignore[misc]

    def _save(self, output_dir: str | None = None, state_dict: dict[str, torch.Tensor] | None = None) -> None:
        super()._save(output_dir, state_dict)  # type: ignore[misc]
        if self.args.lora_enable:
            folder = Path(output_dir or self.args.output_dir)
            own = dict(_beside_adapters(self.model))
            held = own if state_dict is None else {name: state_dict[name] for name in own}
            torch.save({name: value.detach().cpu() for name, value in held.items()}, folder / OTHER_WEIGHTS)
            self.model.config.save_pretrained(folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if not self.args.lora_enable:
            super()._load_from_checkpoint(resume_from_checkpoint, model)  # type: ignore[misc]
            return
        # transformers asks for the active adapters, which peft 0.4 takes for a method of the model's own (trainer.py:2713 of 4.45).
        from peft import set_peft_model_state_dict

        folder = Path(resume_from_checkpoint)
        set_peft_model_state_dict(self.model, _read_adapter(folder))
        saved = torch.load(folder / OTHER_WEIGHTS, map_location="cpu", weights_only=True)
        with torch.no_grad():
            for name, weight in _beside_adapters(self.model):
                weight.copy_(saved[name])


class _TrueReference:
    """With adapters, the reference is the model without them *and* with the initial values of what else is trained."""

    args: Any
    model: Any

    def __init__(self, model: Any, *args: Any, **kwargs: Any) -> None:
        if kwargs["args"].lora_enable:
            _train_adapters_only(model)
        super().__init__(model, *args, **kwargs)  # type: ignore[call-arg]
        trained = list(_beside_adapters(self.model)) if self.args.lora_enable else []
        if any(hasattr(weight, "ds_id") for _, weight in trained):
            raise TPOError(
                f"LoRA with {', '.join(sorted({_part(name) for name, _ in trained}))} trained beside it has no reference under "
                "DeepSpeed ZeRO-3: use ZeRO-2, or train the adapters alone (--mm_tunable_parts mm_language_model)"
            )
        self._initial = [(weight, weight.detach().clone()) for _, weight in trained]

    @contextmanager
    def null_ref_context(self) -> Iterator[None]:
        with super().null_ref_context(), _swapped(self._initial):  # type: ignore[misc]
            yield


class _Checks:
    """What a step checks and logs beyond upstream's: no response was cut, and the reward margin of each kind of pair."""

    args: Any
    accelerator: Any

    def concatenated_forward(self, model: Any, batch: dict[str, Any]) -> Any:
        result = super().concatenated_forward(model, batch)  # type: ignore[misc]
        for side, labels in zip(("chosen", "rejected"), result[4:6]):
            wanted, kept = _labelled(batch[f"{side}_labels"]), _labelled(labels)
            for row, (before, after) in enumerate(zip(wanted, kept)):
                if after < before:
                    raise TPOError(
                        f"row {batch['ids'][row]}: {before - after} of the {before} labelled tokens of its {side} side lie beyond "
                        f"--model_max_length {self.args.model_max_length}: raise it, lower --frames_upbound, or remove the row"
                    )
        return result

    def dpo_loss(self, *logps: torch.Tensor) -> Any:
        losses, chosen, rejected = super().dpo_loss(*logps)  # type: ignore[misc]
        self._margins = (chosen - rejected).detach()
        return losses, chosen, rejected

    def get_batch_loss_metrics(self, model: Any, batch: dict[str, Any], train_eval: str = "train") -> Any:
        loss, metrics = super().get_batch_loss_metrics(model, batch, train_eval)  # type: ignore[misc]
        prefix = "eval_" if train_eval == "eval" else ""
        for kind, margin in self._margins_by_kind(batch["kinds"]).items():
            metrics[f"{prefix}rewards/margins/{kind}"] = margin
        return loss, metrics

    def _margins_by_kind(self, kinds: list[str]) -> dict[str, torch.Tensor]:
        """The mean reward margin of each kind in the batch, over all processes. Scalars."""
        known = get_args(Kind)
        of_kind = torch.tensor([[one == kind for one in kinds] for kind in known], device=self._margins.device)
        totals = torch.stack([(of_kind * self._margins).sum(dim=1), of_kind.sum(dim=1)])  # (2, kinds)
        sums, counts = self.accelerator.reduce(totals, "sum").cpu()
        return {kind: sums[place] / counts[place] for place, kind in enumerate(known) if counts[place]}


def _train_adapters_only(model: Any) -> None:
    """Freeze the language model itself: LongVA's script unfreezes it beside its adapters (train_dpo.py:1684)."""
    for name, weight in model.named_parameters():
        if "lora_" in name:
            weight.requires_grad_(True)
        elif _part(name) == "language_model":
            weight.requires_grad_(False)


def _saves_projector_alone(args: Any) -> bool:
    """Whether upstream writes nothing but the projector into a checkpoint (only it, or the resampler, is trained)."""
    parts = getattr(args, "mm_tunable_parts", None) or ""
    return bool(getattr(args, "tune_mm_mlp_adapter", False)) or parts in ("mm_mlp_adapter", "mm_vision_resampler")


def _beside_adapters(model: Any) -> Iterator[tuple[str, torch.nn.Parameter]]:
    """The trained parameters that belong to no adapter, by name."""
    return ((name, weight) for name, weight in model.named_parameters() if weight.requires_grad and "lora_" not in name)


def _read_adapter(folder: Path) -> dict[str, torch.Tensor]:
    """The adapter's weights in a checkpoint, in either of peft's formats."""
    if (folder / "adapter_model.safetensors").is_file():
        from safetensors.torch import load_file

        return load_file(folder / "adapter_model.safetensors")
    weights: dict[str, torch.Tensor] = torch.load(folder / "adapter_model.bin", map_location="cpu", weights_only=True)
    return weights


def _part(name: str) -> str:
    """The part of the model that a parameter belongs to, as the script's trainable parts name it."""
    return next(
        (part for part in ("mm_projector", "vision_resampler", "vision_tower") if part in name), "language_model"
    )


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
    """How many positions of each row carry a label. `labels` (B, T) with -100 elsewhere."""
    counts: list[int] = (labels != -100).sum(dim=1).tolist()
    return counts
