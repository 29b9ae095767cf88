"""The prompts, as files."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import yaml


@cache
def template(name: str) -> str:
    """The text of `name`.txt."""
    return (files(__name__) / f"{name}.txt").read_text(encoding="utf-8").strip()


@cache
def task_texts() -> dict[str, str]:
    """What each task type asks about."""
    texts: dict[str, str] = yaml.safe_load((files(__name__) / "tasks.yaml").read_text(encoding="utf-8"))
    return texts


@cache
def instructions() -> tuple[str, ...]:
    """How a caption of the whole video is asked for (TEMPLE)."""
    texts: list[str] = yaml.safe_load((files(__name__) / "instructions.yaml").read_text(encoding="utf-8"))
    return tuple(texts)
