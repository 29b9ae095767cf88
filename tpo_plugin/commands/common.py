"""What several commands share."""

from __future__ import annotations

import argparse
import logging
import os
from typing import Any, TypeAlias

Commands: TypeAlias = "argparse._SubParsersAction[Any]"


def add_recipe(parser: argparse.ArgumentParser, optional: bool = False) -> None:
    """A recipe and changes to it."""
    parser.add_argument(
        "recipe",
        nargs="?" if optional else None,
        help="a YAML recipe; those of the package go by name, as in tiny/curate",
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="replaces a recipe's value (a.b=c)")


def use_torch() -> None:
    """What a process needs before transformers is imported."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from tpo_plugin.integrations.torchvision import repair

    if repair():
        logging.getLogger(__name__).info("torchvision does not match this torch: using its transforms only")
