"""What `tpo evaluate` and `tpo needle` have in common."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

import tpo_plugin
from tpo_plugin.checks import checkpoint_named
from tpo_plugin.errors import RecipeError

PACKAGES = ("torch", "torchvision", "transformers", "lmms-eval", "peft", "av", "numpy")


def check_models(models: Mapping[str, str]) -> None:
    """RecipeError for a label that is no folder's name, or a label without a checkpoint."""
    for label, checkpoint in models.items():
        if not re.fullmatch(r"\w[\w.+-]*", label):
            raise RecipeError(f"`models`: the label {label!r} becomes a folder; use letters, digits, . + - and _")
        checkpoint_named(f"models.{label}", checkpoint)


def releases(*more: str) -> dict[str, str]:
    """The releases of this package and of those that can change a score, `more` among them, as far as they are installed."""
    found = {"tpo-plugin": tpo_plugin.__version__}
    for name in (*PACKAGES, *more):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
