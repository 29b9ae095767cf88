"""`--tpo_reference_model`: a reference other than the model that training starts from."""

from __future__ import annotations

from typing import Any

import torch

from tpo_plugin.errors import TPOError
from tpo_plugin.integrations.checkout import Checkout
from tpo_plugin.integrations.llava_family.model import load
from tpo_plugin.training.llava_fast import CONFIG


def load_reference(checkpoint: str, checkout: Checkout, policy: Any, training_args: Any) -> Any:
    """The model in `checkpoint`, on the CPU, frozen, to be shown videos as the run with the config `policy` shows them.

    Whatever the script's flags have written into that config holds for it too. An adapter is merged into its base. TPOError for a checkpoint
    that is missing or of another kind.
    """
    changes = {name: value for name, value in policy.to_dict().items() if name.startswith(CONFIG)}
    dtype = "bfloat16" if training_args.bf16 else "float32"  # as the script loads its own
    with torch.random.fork_rng(devices=[]):  # adapters and the order of the rows are drawn after this
        model = load(checkpoint, checkout, dtype, "cpu", training_args.attn_implementation, changes=changes).model
    if model.config.vocab_size != policy.vocab_size:
        raise TPOError(
            f"--tpo_reference_model {checkpoint} has {model.config.vocab_size} words and the model {policy.vocab_size}: name a "
            "checkpoint of the same model"
        )
    model.config.tokenizer_padding_side = "right"
    model.config.tokenizer_model_max_length = getattr(policy, "tokenizer_model_max_length", None)
    return model.requires_grad_(False)
