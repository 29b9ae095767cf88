"""Run in a process of its own: the fast path beside upstream's LLaVADPOTrainer, on trees of every shape.

Prints one JSON object. Called with the checkout, the case and the script's flags.
"""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import torch
from parity import built, gradient_difference, losses, trainer
from torch.utils._python_dispatch import TorchDispatchMode

# The rows of test_fast.py: 0-7 a video with eight pairs, 8-10 other videos, 11-12 pictures, 13-14 text alone.
BATCHES = {
    "a video": [0],
    "two videos": [0, 9],
    "pictures": [11, 12],
    "mixed": [0, 11, 13, 1, 8],
    "text": [13, 14],
    "text, video": [13, 9],
    "two pairs": [2, 5],
    "eight pairs": list(range(8)),
    "the same row twice": [3, 3],
}


def prepared(kind: type, arguments: dict[str, Any]) -> Any:
    made = trainer(kind, arguments)
    made.model.config.use_cache = False
    if made.args.gradient_checkpointing:
        made.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=made.args.gradient_checkpointing_kwargs)
    return made


def parity(path: str, flags: list[str]) -> dict[str, Any]:
    """Loss, metrics and gradients of both trainers on each batch, and how many trees and images ours had."""
    _, upstream, ours, arguments = built(path, flags)
    mine = prepared(ours, arguments)
    assert mine.ref_model is None
    trained = {name for name, weight in mine.model.named_parameters() if weight.requires_grad}
    for name, weight in arguments["model"].named_parameters():
        weight.requires_grad_(name in trained)  # LongVA's script trains the language model beside its adapters, too
    theirs = prepared(upstream, arguments)
    found = {}
    for name, rows in BATCHES.items():
        items = [arguments["train_dataset"][row] for row in rows]
        left = losses(theirs, arguments["upstream_collator"](copy.deepcopy(items)))
        batch = arguments["data_collator"](copy.deepcopy(items))
        right = losses(mine, batch)
        found[name] = {
            "loss": [left[0], right[0]],
            "metrics": {key: abs(left[1][key] - right[1][key]) for key in left[1]},
            "gradient": gradient_difference(left[2], right[2]),
            "trees": len(batch["tree"].inputs),
            "ids": batch["ids"],
        }
    return found


class Largest(TorchDispatchMode):
    """The largest second-largest dimension of any tensor that is made: a (L, L) one would show as L."""

    def __init__(self) -> None:
        super().__init__()
        self.length = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, torch.Tensor) and tensor.ndim > 1:
                self.length = max(self.length, sorted(tensor.shape)[-2])
        return result


def shapes(path: str, flags: list[str]) -> dict[str, Any]:
    """The largest square that a step makes, and the length of its packed row; for one video with eight pairs."""
    _, _, ours, arguments = built(path, flags)
    mine = prepared(ours, arguments)
    items = [arguments["train_dataset"][row] for row in range(8)]
    batch = arguments["data_collator"](items)
    seen: list[int] = []
    mine.model.get_model().register_forward_pre_hook(
        lambda body, args, kwargs: seen.append(kwargs["inputs_embeds"].shape[1]), with_kwargs=True
    )
    mine.model.train()
    with Largest() as largest:
        mine.get_batch_loss_metrics(mine.model, batch)[0].backward()
    return {"square": largest.length, "length": max(seen), "forwards": len(seen)}


def reference_rows(path: str, flags: list[str]) -> dict[str, Any]:
    """Calls of tower and body while the reference of all rows is computed, and while it is read."""
    _, _, ours, arguments = built(path, flags)
    given = {name: value for name, value in arguments.items() if name != "upstream_collator"}
    made = ours(**given)
    calls = {"tower": 0, "body": 0}

    def count(name: str) -> Any:
        def hook(*_: Any) -> None:
            calls[name] += 1

        return hook

    made.model.get_vision_tower().register_forward_hook(count("tower"))
    made.model.get_model().register_forward_hook(count("body"))
    made.prepare_reference()
    first = dict(calls)
    made.prepare_reference()
    return {"first": first, "second": {name: calls[name] - first[name] for name in calls}}


def lost_file(path: str, flags: list[str]) -> dict[str, Any]:
    """What becomes of the rows whose video is lost after it was probed: 1 of 4 rows."""
    _, _, ours, arguments = built(path, flags)
    dataset = arguments["train_dataset"]
    Path(dataset.list_data_dict[2]["video"]).unlink()
    made = trainer(ours, arguments)
    loss, _, _ = losses(made, arguments["data_collator"]([dataset[1], dataset[2]]))
    reference = made._reference.isnan().any(dim=1).tolist()
    return {"without": sorted(dataset.without_reference), "lacking": reference, "row": dataset[2]["id"], "loss": loss}


if __name__ == "__main__":
    checkout_path, case, *script_flags = sys.argv[1:]
    cases = {"parity": parity, "shapes": shapes, "reference_rows": reference_rows, "lost_file": lost_file}
    print(json.dumps(cases[case](checkout_path, script_flags)))
