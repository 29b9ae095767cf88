"""The options of shot lists: how a video is cut into shots, which videos are kept, which frames stand for a shot."""

from __future__ import annotations

from dataclasses import dataclass

# TEMPLE paper, its data section: videos of LLaVA-Video-178K (1-3 minutes), and how many the rules on shots and on groups left.
PAPER_VIDEOS = {"videos": 47_112, "after_shots": 10_915, "after_groups": 2_195}


@dataclass(frozen=True)
class ShotOptions:
    """TEMPLE's choice of videos, with the paper's numbers.

    Boundaries: `detector` is `adaptive`, `content` (both PySceneDetect), `transnetv2`, or `package.module:function`;
    `threshold` is its own (None: 3.0, 27.0 and 0.5), `hue_weight` what a change of hue counts in the first two beside
    saturation and brightness (less than 1 for videos with much grey, whose hue is noise). It sees every frame with its
    longer side reduced to `side` pixels, and so does the choice of keyframes.
    Shots: those under `min_seconds` and those with a grey range (0-255) under `min_grey_range` are removed; a video
    must then have `min_shots` to `max_shots`, none over `max_seconds`.
    Groups: `encoder`, a Hugging Face vision model, sees the middle frame of each shot; shots with a cosine over
    `similarity` are alike, and neighbours that are alike become one place of the list. It must have `min_groups` to
    `max_groups` places, and a group may take at most `max_recurrence` of them and at most the share
    `max_recurrence_share`. Each place is shown by `keyframes` frames.
    """

    detector: str = "adaptive"
    threshold: float | None = None
    hue_weight: float = 1.0
    side: int = 256
    min_seconds: float = 0.2
    max_seconds: float = 16.0
    min_grey_range: int = 10
    min_shots: int = 4
    max_shots: int = 32
    encoder: str = "google/siglip-so400m-patch14-384"
    device: str = "auto"
    batch_size: int = 32
    similarity: float = 0.8
    min_groups: int = 4
    max_groups: int = 32
    max_recurrence: int = 3
    max_recurrence_share: float = 1 / 3
    keyframes: int = 2
