"""What a DPO script saved with LoRA as a whole checkpoint, for programs that load no adapters (upstream's loader takes them for Llama).

python -m tpo_plugin.integrations.llava_family.merge --upstream CHECKOUT ADAPTER OUTPUT
"""

from __future__ import annotations

import argparse
import sys

from tpo_plugin.errors import TPOError
from tpo_plugin.folders import adapter_base
from tpo_plugin.integrations.torchvision import repair


def merge(adapter: str, output: str, upstream: str) -> None:
    """Write the base checkpoint with the weights in the folder `adapter` to `output`. TPOError for a folder without adapter."""
    if adapter_base(adapter) is None:
        raise TPOError(f"{adapter} holds no adapter (adapter_config.json)")
    from tpo_plugin.integrations.llava_family.model import load

    loaded = load(adapter, upstream, "auto", "cpu", "sdpa")
    loaded.model.config.tokenizer_padding_side = "right"  # as the scripts save it
    loaded.model.save_pretrained(output)
    loaded.tokenizer.save_pretrained(output)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tpo_plugin.integrations.llava_family.merge", description=merge.__doc__
    )
    parser.add_argument("--upstream", required=True, metavar="CHECKOUT", help="a checkout of LLaVA-NeXT or LongVA")
    parser.add_argument("adapter", help="the output folder of a run with --lora_enable")
    parser.add_argument("output", help="the folder to write; upstream's loader wants `llava` and `qwen` in its name")
    args = parser.parse_args()
    repair()
    try:
        merge(args.adapter, args.output, args.upstream)
    except TPOError as error:
        sys.exit(f"tpo: {error}")


if __name__ == "__main__":
    main()
