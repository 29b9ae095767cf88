"""Run in a process of its own: the loss and gradients of upstream's LLaVADPOTrainer and of TemporalDPOTrainer on the same batches.

Prints one JSON object. Called with the checkout, the case and the script's flags.
"""

from __future__ import annotations

import copy
import json
import sys
from typing import Any

import torch

from tpo_plugin.integrations import llava_family
from tpo_plugin.integrations.checkout import find_checkout
from tpo_plugin.integrations.llava_family.launcher import load_script

BATCHES = {"video": [0], "videos": [0, 3], "picture": [8], "pictures": [8, 9], "mixed": [2, 9]}


class Built(Exception):
    """Carries what the script hands to its trainer."""


def built(path: str, flags: list[str]) -> tuple[dict[str, Any], type, type, dict[str, Any]]:
    """Upstream's trainer class, ours, and the constructor's arguments as the script makes them."""
    checkout = find_checkout(path)
    sys.argv = [str(checkout.script), "--tpo", "True", *flags]
    namespace = vars(load_script(checkout))
    upstream, collator = namespace["LLaVADPOTrainer"], namespace["DPODataCollator"]
    llava_family.attach(namespace)
    ours = namespace["LLaVADPOTrainer"]

    def stop(*args: Any, **kwargs: Any) -> None:
        raise Built(dict(kwargs, model=args[0], ref_model=args[1]))

    namespace["LLaVADPOTrainer"] = stop
    try:
        namespace["train"]()
    except Built as found:
        arguments = found.args[0]
    arguments["upstream_collator"] = collator(
        arguments["tokenizer"], label_pad_token_id=-100, pad_token_id=arguments["tokenizer"].pad_token_id
    )
    return namespace, upstream, ours, arguments


def trainer(kind: type, arguments: dict[str, Any]) -> Any:
    """A trainer on a copy of the model, whose policy was then moved away from its reference."""
    given = {name: value for name, value in arguments.items() if name != "upstream_collator"}
    given["model"] = copy.deepcopy(arguments["model"])
    made = kind(**given)
    if made.args.tpo_path == "fast" and hasattr(made, "prepare_reference"):
        made.prepare_reference()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in made.model.parameters():
            if weight.requires_grad:
                weight += 0.02 * torch.randn(weight.shape, generator=generator)
    return made


def losses(made: Any, batch: dict[str, Any]) -> tuple[float, dict[str, float], dict[str, torch.Tensor]]:
    made.model.zero_grad()
    made.model.train()
    loss, metrics = made.get_batch_loss_metrics(made.model, batch)
    loss.backward()
    gradients = {name: weight.grad.clone() for name, weight in made.model.named_parameters() if weight.grad is not None}
    return loss.item(), {name: float(value) for name, value in metrics.items()}, gradients


def logged(made: Any) -> dict[str, float]:
    """What a trainer adds to a log entry after the steps since the last one."""
    logs = {"loss": 0.0}
    made.log(logs)
    return logs


def gradient_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> dict[str, float]:
    """The largest difference relative to a tensor's largest entry (tensors of pure rounding left out), and to the global norm."""
    assert one.keys() == other.keys()
    norm = torch.stack([value.norm() for value in one.values()]).norm()
    worst = max(
        ((one[name] - other[name]).abs().max() / one[name].abs().max()).item()
        for name in one
        if one[name].abs().max() > 1e-6 * norm
    )
    total = torch.stack([(one[name] - other[name]).norm() for name in one]).norm()
    return {"tensor": worst, "global": (total / norm).item()}


def parity(path: str, flags: list[str]) -> dict[str, Any]:
    _, upstream, ours, arguments = built(path, flags)
    theirs, mine = trainer(upstream, arguments), trainer(ours, arguments)
    found = {}
    for name, rows in BATCHES.items():
        items = [arguments["train_dataset"][row] for row in rows]
        left = losses(theirs, arguments["upstream_collator"](copy.deepcopy(items)))
        right = losses(mine, arguments["data_collator"](copy.deepcopy(items)))
        found[name] = {
            "loss": [left[0], right[0]],
            "metrics": {key: abs(left[1][key] - right[1][key]) for key in left[1]},
            "own": sorted(name for name in logged(mine) if name.startswith("rewards/margins/")),
            "gradient": gradient_difference(left[2], right[2]),
        }
    return found


def cut(path: str, flags: list[str]) -> dict[str, Any]:
    """Upstream's DPO loss on a row whose responses lie beyond the length limit."""
    _, upstream, _, arguments = built(path, flags)
    made = trainer(upstream, arguments)
    _, metrics, _ = losses(made, arguments["upstream_collator"]([arguments["train_dataset"][0]]))
    return {"dpo": metrics["losses/dpo"]}


def half_tower(path: str, flags: list[str]) -> dict[str, Any]:
    """The log-probability of a chosen response with the tower in float32 and cast to float16, as upstream does without bf16."""
    _, _, ours, arguments = built(path, flags)
    made = trainer(ours, arguments)
    batch = arguments["data_collator"]([arguments["train_dataset"][0]])
    tower = made.model.get_vision_tower()
    found = {"dtype": str(tower.dtype), "float32": losses(made, batch)[1]["logps/chosen"]}
    tower.to(torch.float16)
    return found | {"float16": losses(made, batch)[1]["logps/chosen"]}


def reference(path: str, flags: list[str]) -> dict[str, Any]:
    """The reference's log-probability before and after the trained weights moved, for upstream and for us; and what LoRA trains."""
    _, upstream, ours, arguments = built(path, flags)
    found: dict[str, Any] = {}
    for name, kind in (("upstream", upstream), ("ours", ours)):
        given = {key: value for key, value in arguments.items() if key != "upstream_collator"}
        made = kind(**{**given, "model": copy.deepcopy(arguments["model"])})
        batch = arguments["data_collator"]([arguments["train_dataset"][0]])
        before = losses(made, batch)[1]["ref_logps/chosen"]
        with torch.no_grad():
            for key, weight in made.model.named_parameters():
                if weight.requires_grad and "mm_projector" in key:
                    weight += 0.1
        _, metrics, _ = losses(made, batch)
        found[name] = {"before": before, "after": metrics["ref_logps/chosen"], "policy": metrics["logps/chosen"]}
    trained = {key for key, weight in made.model.named_parameters() if weight.requires_grad}
    found["adapters_in_tower"] = sum("lora_" in key and "vision_tower" in key for key in trained)
    found["trained_beside"] = sorted({"mm_projector" in key for key in trained if "lora_" not in key})
    return found


if __name__ == "__main__":
    checkout_path, case, *script_flags = sys.argv[1:]
    case_function = {"parity": parity, "cut": cut, "half_tower": half_tower, "reference": reference}[case]
    print(json.dumps(case_function(checkout_path, script_flags)))
