"""What a DPO script saved with LoRA as a whole checkpoint, for programs that load no adapters (upstream's loader takes them for Llama)."""

from __future__ import annotations

from pathlib import Path

from tpo_plugin.errors import TPOError
from tpo_plugin.folders import adapter_base


def merge(adapter: str, output: str, upstream: str) -> Path:
    """Write the base checkpoint with the weights in the folder `adapter` to `output` and return that. TPOError for a folder without adapter."""
    if adapter_base(adapter) is None:
        raise TPOError(f"{adapter} holds no adapter (adapter_config.json)")
    from tpo_plugin.integrations.llava_family.model import load

    loaded = load(adapter, upstream, "auto", "cpu", "sdpa")
    loaded.model.config.tokenizer_padding_side = "right"  # as the scripts save it
    loaded.model.save_pretrained(output)
    loaded.tokenizer.save_pretrained(output)
    return Path(output)
