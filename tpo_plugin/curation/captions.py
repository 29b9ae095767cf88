"""Captions of the frames that queries are written from."""

from __future__ import annotations

import numpy as np

from tpo_plugin.curation.templates import template
from tpo_plugin.generators import Prompt
from tpo_plugin.options import CurateRecipe, FrameOptions
from tpo_plugin.records import Query, Segment, Video
from tpo_plugin.video import sample_times

CaptionCall = tuple[str, tuple[float, ...]]  # whose captions it adds to (a segment's id, or WHOLE), times of its frames
WHOLE = "whole"  # the key of the whole video's captions beside the segments' ids

BLIND_FILTERS = {"identical", "length", "contained"}  # those that do not look at a pair's captions


def wanted(recipe: CurateRecipe) -> bool:
    """Whether anything in the recipe reads captions (the query writer, the judge, a filter of a third party) that are yet to be made."""
    if recipe.queries.source == "curated":
        return False
    if recipe.method != "temporal":
        return True
    return recipe.queries.source == "llm" or not BLIND_FILTERS.issuperset(recipe.filters.use)


def owner(segment: Segment | None) -> str:
    """Whose captions belong to a query about this segment (None: about the whole video)."""
    return segment.id if segment else WHOLE


def clips_to_caption(video: Video, queries: list[Query], frames: FrameOptions, per_call: int) -> list[CaptionCall]:
    """The calls that caption what the queries are about (the whole video, segments), `per_call` frames each."""
    whole = (0.0, video.seconds)
    spans = {owner(query.segment): query.segment.span if query.segment else whole for query in queries}
    calls = []
    for name, span in spans.items():
        times = sample_times([span], frames)
        calls += [(name, times[start : start + per_call]) for start in range(0, len(times), per_call)]
    return calls


def caption_prompt(pictures: np.ndarray, times: tuple[float, ...], frames: FrameOptions) -> Prompt:
    """Ask for a description of these frames."""
    return Prompt(pictures, times, len(times) / frames.fps, template("caption"), max_pixels=frames.max_pixels)


def join_captions(calls: list[CaptionCall], texts: list[str]) -> dict[str, str]:
    """The captions of each owner as lines with their times; '' for an owner with an empty caption among them."""
    lines: dict[str, list[str]] = {}
    failed = {name for (name, _), text in zip(calls, texts) if not text}
    for (name, times), text in zip(calls, texts):
        lines.setdefault(name, []).append(f"[{times[0]:.1f} s] {' '.join(text.split())}")
    return {name: "" if name in failed else "\n".join(rows) for name, rows in lines.items()}
