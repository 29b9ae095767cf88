"""The fast path of `--tpo`: one forward over the batch's token trees for the policy, the reference from a table on disk.

Loss and metrics stay upstream's own `get_batch_loss_metrics`, which finds both log-probabilities ready. No reference model exists.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import TrainerCallback

from tpo_plugin.errors import TPOError
from tpo_plugin.training.llava_checkpoints import part
from tpo_plugin.training.llava_sft import NoReference
from tpo_plugin.training.objective import sft_loss
from tpo_plugin.training.policies.llava import install_trees
from tpo_plugin.training.reference import complete
from tpo_plugin.training.reference_table import FILE, Sums
from tpo_plugin.training.trainer import tree_scores

logger = logging.getLogger(__name__)

# The parts of upstream's config that the numbers depend on, by how their names begin, but for how the parts are trained.
CONFIG = ("mm_", "image_", "rope_", "add_")
TRAINING = ("mm_tunable_parts", "mm_projector_lr", "mm_vision_tower_lr", "mm_vision_tower")


class Unreadable(TPOError):
    """Rows whose files could not be read when their reference was due, by their places in the data set."""

    def __init__(self, message: str, rows: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.rows = list(rows)


class FastPath:
    """Upstream's trainer on token trees (policies/llava.py). `fingerprint` names what the reference was computed with.

    `load_reference` makes the reference model, given the policy's config, where it is not the policy as it is before training; that
    happens only if the table on disk lacks rows, and the model is let go when they are there.
    """

    args: Any
    model: Any
    model_wrapped: Any
    accelerator: Any
    train_dataset: Any
    data_collator: Any
    is_deepspeed_enabled: bool
    dpo_alpha: float

    def __init__(
        self,
        model: Any,
        ref_model: None,
        *,
        fingerprint: Mapping[str, str],
        load_reference: Callable[[Any], Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if kwargs["args"].n_gpu > 1:
            raise TPOError("one process cannot train on several GPUs on the fast path: start one a GPU with torchrun")
        super().__init__(model, NoReference(), **kwargs)  # type: ignore[call-arg]
        self.ref_model = None
        self._fingerprint, self._load_reference = dict(fingerprint), load_reference
        self._reference: Tensor | None = None
        if any(weight.requires_grad and part(name) == "vision_tower" for name, weight in self.model.named_parameters()):
            logger.info(
                "the vision tower is trained: a video's features are shared by its answers in a step, and by nothing else"
            )

    def train(self, resume_from_checkpoint: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Train, after the reference has been computed with the weights as they are now, if there is one."""
        if not self.dpo_alpha:
            logger.info("--dpo_alpha is 0: the run has no rejected side, no reference and no rewards")
        elif self.is_deepspeed_enabled:
            # ZeRO-3's weights can be used once its engine stands, which also reads the checkpoint.
            self.add_callback(_ReferenceAtStart(self, bool(resume_from_checkpoint)))  # type: ignore[attr-defined]
        else:
            self.prepare_reference()
        return super().train(resume_from_checkpoint, *args, **kwargs)  # type: ignore[misc]

    def prepare_reference(self, trained: bool = False) -> None:
        """Read the reference's log-probabilities from the output folder and compute those that it lacks.

        All processes must call it. TPOError if some are lacking and the weights are no longer the initial ones (`trained`).
        """
        dataset = self.train_dataset
        keys, shown = dataset.keys(), dataset.shown()
        while True:
            rows = [row for row in range(len(dataset)) if row not in dataset.without_reference]
            try:
                with ExitStack() as stack:
                    sums = complete(
                        Path(self.args.output_dir) / FILE,
                        self._fingerprint | dataset.fingerprint() | self._setting(),
                        [keys[row] for row in rows],
                        [shown[row] for row in rows],
                        _refuse if trained and self._load_reference is None else partial(self._scored, stack, rows),
                    )
                break
            except Unreadable as error:
                logger.warning("%s", error)
                dataset.without_reference.update(error.rows)
        self._reference = torch.full((len(dataset), 2), torch.nan, dtype=torch.float64)
        self._reference[rows] = sums

    def _setting(self) -> dict[str, str]:
        """What the reference depends on beside weights and data."""
        config = self.model.config.to_dict()
        names = sorted(name for name in config if name.startswith(CONFIG) and name not in TRAINING)
        dtype = str(self.model.get_output_embeddings().weight.dtype).removeprefix("torch.")
        precision = "" if self.accelerator.mixed_precision == "no" else f" in {self.accelerator.mixed_precision}"
        setting = {"dtype": dtype + precision, "attention": self.model.config._attn_implementation}
        return setting | {name: str(config[name]) for name in names}

    @contextmanager
    def _as_reference(self) -> Iterator[Any]:
        """The model to call for the reference: the policy without its adapters, or the other one."""
        precision = nullcontext() if self.is_deepspeed_enabled else self.accelerator.autocast()
        if self._load_reference is not None:
            with torch.no_grad(), precision:
                yield self._other_model(self._load_reference)
            return
        model = self.model_wrapped if self.is_deepspeed_enabled else self.model
        training = model.training
        model.eval()
        try:
            with torch.no_grad(), precision, self.null_ref_context():  # type: ignore[attr-defined]
                yield model
        finally:
            model.train(training)

    def _other_model(self, load: Callable[[Any], Any]) -> Any:
        model = load(self.model.config)
        model.get_vision_tower().to(dtype=self.model.get_vision_tower().dtype)
        install_trees(model)
        if self.is_deepspeed_enabled:
            return self._prepare_deepspeed(model)  # type: ignore[attr-defined]
        return model.to(self.args.device)

    def _scored(self, stack: ExitStack, rows: Sequence[int], units: Sequence[Sequence[int]]) -> Iterator[list[Sums]]:
        """The sums of each unit's pairs; units have indices of `rows`. Unreadable, after the forward, if some show nothing.

        The model is there until `stack` is closed.
        """
        model = stack.enter_context(self._as_reference())
        wanted = [[rows[index] for index in unit] for unit in units]
        loader = DataLoader(
            self.train_dataset,
            batch_sampler=wanted,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            generator=torch.Generator(),  # the global one must not move: it shuffles the rows
        )
        for unit, batch in zip(wanted, loader):
            scores = self._scores(model, batch)
            assert scores.rejected is not None
            found = dict(zip(batch["rows"], zip(scores.chosen.tolist(), scores.rejected.tolist())))
            lost = [row for row in unit if row not in found]
            if lost:
                raise Unreadable(
                    f"{len(lost)} rows have no reference, since their file cannot be read; they are left out", lost
                )
            yield [found[row] for row in unit]

    def _scores(self, model: Any, batch: Mapping[str, Any]) -> Any:
        logps = model(tree=batch["tree"])
        return tree_scores(batch["tree"].packed.to(logps.device), logps, len(batch["rows"]))

    def chosen_alone(self, model: Any, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """log p of each chosen response (B,), and L_SFT."""
        scores = self._scores(model, batch)
        return scores.chosen, sft_loss(scores.chosen, scores.tokens)

    def concatenated_forward(self, model: Any, batch: Mapping[str, Any]) -> Any:
        """As upstream's; in the logits' place the sum of the chosen tokens' log-probabilities, in the labels' their number."""
        scores = self._scores(model, batch)
        return scores.chosen, scores.rejected, scores.chosen.sum(), None, scores.tokens.sum(), None

    def get_sft_loss(self, total: Tensor, tokens: Tensor) -> Tensor:
        """The mean over the chosen rows' labelled tokens, of what `concatenated_forward` put in the place of logits and labels."""
        return -total / tokens

    def get_batch_loss_metrics(self, model: Any, batch: dict[str, Any], train_eval: str = "train") -> Any:
        if self._reference is None:
            raise ValueError("no reference: call prepare_reference before the weights change")
        chosen, rejected = self._reference[batch["rows"]].to(self.accelerator.device, torch.float32).unbind(dim=1)
        found = {"reference_chosen_logps": chosen, "reference_rejected_logps": rejected}
        return super().get_batch_loss_metrics(model, batch | found, train_eval)  # type: ignore[misc]


class _ReferenceAtStart(TrainerCallback):
    def __init__(self, trainer: FastPath, resumed: bool) -> None:
        self.trainer, self.resumed = trainer, resumed

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        self.trainer.prepare_reference(trained=self.resumed)


def _refuse(units: Sequence[Sequence[int]]) -> Iterator[list[Sums]]:
    raise TPOError(
        f"{FILE} lacks the reference log-probabilities of {sum(map(len, units))} pairs, and the weights are no longer the initial "
        "ones: start in a new --output_dir, or put the complete file back"
    )
