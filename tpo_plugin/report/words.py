"""Recorded values in words."""

from __future__ import annotations

from typing import Any

NOTHING = "\u2013"


def say(value: Any) -> str:
    """A recorded or stated value in words; None and what is empty are a dash."""
    if value is None or value in ({}, [], ""):
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{key} {say(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(map(say, value))
    return f"{value:g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
