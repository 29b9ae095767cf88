"""Built-in and third-party strategies enter by the same door: a name."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from tpo_plugin.errors import RecipeError


def find(name: str, built_in: Mapping[str, Any], what: str) -> Any:
    """`built_in[name]`, or what `package.module:attribute` names."""
    if name in built_in:
        return built_in[name]
    module, colon, attribute = name.partition(":")
    if not colon:
        raise RecipeError(f"unknown {what} `{name}`; built in: {', '.join(built_in)}; others as package.module:name")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise RecipeError(f"cannot load the {what} `{name}`: {error}") from None
