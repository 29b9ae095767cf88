"""What the tiny models write when they describe: 'red circle left, blue square up', a scene after the other."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tpo_plugin.tiny.world import COLOURS, MOTIONS, SHAPES, Scene

SCENE = re.compile(rf"\b({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})(?: ({'|'.join(MOTIONS)}))?\b")


def describe(scenes: Sequence[Scene]) -> str:
    """The caption of scenes in their order; a motion that is not known ('') is left out."""
    return ", ".join(f"{scene.colour} {scene.shape} {scene.motion}".strip() for scene in scenes)


def described(caption: str) -> list[Scene]:
    """The scenes that a caption tells of, in its order; what is no scene is passed over."""
    return [Scene(*found) for found in SCENE.findall(caption)]
