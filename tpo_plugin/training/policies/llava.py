"""Token trees for LLaVA-NeXT's and LongVA's own LlavaQwenForCausalLM, from the batches of the scripts' own collator.

A prompt holds one placeholder for its video or picture; how many tokens that becomes is known once the model has encoded it. Upstream
labels some tokens of the chat frame as well: they are scored as each response's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from tpo_plugin.errors import TPOError
from tpo_plugin.training import attention
from tpo_plugin.training.packing import PLACEHOLDER, Branches, common_prefix, pack
from tpo_plugin.training.policies.tree import TreeBatch, install, replaced

MODEL = "LlavaQwenForCausalLM"
IGNORED = -100  # the label of a token that is not scored
OLDEST = (4, 41)  # before, a mask of four dimensions means something else
CURE = "add --tpo_path plain"


@dataclass(frozen=True)
class Labelled:
    """Which tokens of a row's sequence carry labels, by their places before the placeholder becomes a video's tokens."""

    row: str
    side: str
    places: Tensor

    def check(self, extra: int, placeholder: int, limit: int) -> None:
        """TPOError if `limit` cuts some of them off, as it does upstream, with `extra` more tokens at the placeholder."""
        lost = int((self.places + extra * (self.places > placeholder) >= limit).sum())
        if lost:
            raise TPOError(cut(self.row, self.side, lost, len(self.places), limit))


def cut(row: str, side: str, lost: int, labelled: int, limit: int) -> str:
    """What is wrong with a row whose responses upstream would cut, and its cures."""
    return (
        f"row {row}: {lost} of the {labelled} labelled tokens of its {side} side lie beyond --model_max_length {limit}: "
        "raise it, lower --frames_upbound, or remove the row"
    )


class LlavaFamily:
    """Upstream's models, whose `prepare_inputs_labels_for_multimodal` puts the features of videos and pictures into embeddings."""

    def body(self, model: Any) -> Any:
        return model.model

    def embed(self, model: Any, inputs: Sequence[Mapping[str, Any]]) -> list[tuple[Tensor, Tensor | None]]:
        """All prompts in one call of the model's own method, so one of the tower; none is cut. TPOError for a row that is too long."""
        _check_positions(model.config)
        ids = [one["input_ids"].to(model.device) for one in inputs]
        limit = getattr(model.config, "tokenizer_model_max_length", None)
        with replaced(model.config, "tokenizer_model_max_length", None):
            _, _, mask, _, embeds, _ = model.prepare_inputs_labels_for_multimodal(
                pad_sequence(ids, batch_first=True),
                None,
                pad_sequence([torch.ones_like(row, dtype=torch.bool) for row in ids], batch_first=True),
                None,
                None,
                [one["image"].to(model.device) for one in inputs],
                [one["modality"] for one in inputs],
                image_sizes=[one["image_size"] for one in inputs],
            )
        lengths = mask.sum(dim=1).tolist()
        for one, row, length in zip(inputs, ids, lengths):
            placeholder = int((row == PLACEHOLDER).int().argmax())
            for labelled in one["labelled"] if limit is not None else ():
                labelled.check(length - len(row), placeholder, limit)
        return [(row[:length], None) for row, length in zip(embeds, lengths)]


def check_attention(implementation: str) -> None:
    """TPOError where this transformers has no exact attention over trees for a model loaded with `implementation`."""
    here = tuple(int(part) for part in transformers.__version__.split(".")[:2])
    if here < OLDEST:
        raise TPOError(
            f"the fast path needs transformers {'.'.join(map(str, OLDEST))}, here is {transformers.__version__}: {CURE}"
        )
    if implementation == "flash_attention_2" and not attention.register():
        raise TPOError(
            f"on transformers {transformers.__version__} the fast path needs --attn_implementation sdpa, which reads its mask; "
            f"pass that, install transformers 4.48 or newer, or {CURE}"
        )


def install_trees(model: Any) -> None:
    """`install` for a model of upstream's script; TPOError for one that is not known to give the same numbers on the fast path."""
    if type(model).__name__ != MODEL:
        raise TPOError(f"the fast path knows {MODEL}, this model is {type(model).__name__}: {CURE}")
    if getattr(model.config, "use_sliding_window", False) and model.config.sliding_window:
        raise TPOError(f"the fast path has no sliding window, this model's config has use_sliding_window: {CURE}")
    install(model, LlavaFamily())


def _check_positions(config: Any) -> None:
    if getattr(config, "use_pos_skipping", False):
        raise TPOError(
            f"use_pos_skipping draws random positions, which answers of one video cannot share: turn it off or {CURE}"
        )
    if getattr(config, "tokenizer_padding_side", "right") == "left":
        raise TPOError(f"the fast path does not pad; the tokenizer's padding side is left: set it to right or {CURE}")


def collate_trees(
    batch: Mapping[str, Any], features: Sequence[Mapping[str, Any]], with_rejected: bool = True
) -> dict[str, Any]:
    """The `tree` of a batch that the script's collator made of `features`: rows that show the same pixels are in one tree.

    `with_rejected` false: the trees hold the chosen responses alone. Beside it, in the trees' order: `rows` (each feature's `row`, its place in the data set), `ids` and `kinds`.
    """
    groups: list[list[int]] = []
    for row, feature in enumerate(features):
        group = next((one for one in groups if _show_the_same(features[one[0]], feature)), None)
        if group is None:
            groups.append([row])
        else:
            group.append(row)
    trees, inputs = [], []
    names = ("chosen", "rejected") if with_rejected else ("chosen",)
    for group in groups:
        sides = [[_tokens(batch, side, row) for side in names] for row in group]
        prompts = [_branches(batch["ids"][row], *pair) for row, pair in zip(group, sides)]
        pixels, size, modality = features[group[0]]["image"][0]
        trees.append(prompts)
        inputs.append(
            {
                "input_ids": prompts[0].prompt,
                "image": pixels,
                "image_size": size,
                "modality": modality,
                "labelled": [
                    Labelled(batch["ids"][row], side, labelled.nonzero().flatten())
                    for row, pair in zip(group, sides)
                    for side, (_, labelled) in zip(names, pair)
                ],
            }
        )
    order = [row for group in groups for row in group]
    return {
        "tree": TreeBatch(pack(trees), tuple(inputs)),
        "rows": [features[row]["row"] for row in order],
        "ids": [batch["ids"][row] for row in order],
        "kinds": [batch["kinds"][row] for row in order],
    }


def _show_the_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two rows show the same pixels in the same way: a file of the same name could have been sampled otherwise."""
    (pixels, *rest), (others, *other_rest) = one["image"][0], other["image"][0]
    return rest == other_rest and pixels.shape == others.shape and torch.equal(pixels, others)


def _tokens(batch: Mapping[str, Any], side: str, row: int) -> tuple[Tensor, Tensor]:
    """The ids (L,) of a row's sequence and which of them are labelled, without padding; TPOError for labels of another form."""
    kept = batch[f"{side}_attention_mask"][row]
    ids, labels = batch[f"{side}_input_ids"][row][kept], batch[f"{side}_labels"][row][kept]
    labelled = labels != IGNORED
    if not torch.equal(ids[labelled], labels[labelled]):
        raise TPOError(
            f"row {batch['ids'][row]}: the template's labels are not its tokens, which the fast path needs: {CURE}"
        )
    return ids, labelled


def _branches(row: str, *sides: tuple[Tensor, Tensor]) -> Branches:
    """A pair as what its two sequences begin with alike, in tokens and labels, and their rests; of one alone, its labelled end."""
    chosen = sides[0]
    if len(sides) == 1:
        unlabelled = (~chosen[1]).nonzero().flatten()
        shared = int(unlabelled[-1]) + 1 if len(unlabelled) else 1
    else:
        shared = common_prefix([ids * 2 + labelled for ids, labelled in sides])
    if shared == len(chosen[0]) or not all(labelled[shared:].all() for _, labelled in sides):
        raise TPOError(
            f"row {row}: the template leaves tokens of a response without a label, which the fast path cannot: {CURE}"
        )
    ids, scored = chosen[0][:shared], chosen[1][:shared].clone()
    scored[:1] = False  # nothing predicts the first token; upstream shifts its label out as well
    return Branches(ids, tuple(tokens[shared:] for tokens, _ in sides), scored)
