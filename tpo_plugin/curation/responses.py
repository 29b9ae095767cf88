"""The two responses to a query: chosen from what is needed to answer it, rejected from what is left without that."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np

from tpo_plugin.curation.perturbations import find_strategy
from tpo_plugin.errors import TPOError
from tpo_plugin.generators.base import Prompt, with_times
from tpo_plugin.llm import Reply
from tpo_plugin.options import FrameOptions, PerturbationOptions
from tpo_plugin.records import Perturbation, Query, Span, Video, stable_id
from tpo_plugin.video import sample_times, spread


@dataclass(frozen=True)
class View:
    """What one side sees of a video: spans (seconds) and the frame times in them."""

    spans: tuple[Span, ...]
    times: tuple[float, ...]


def views(
    video: Video, query: Query, frames: FrameOptions, options: PerturbationOptions, seed: int
) -> tuple[View, View, Perturbation]:
    """The chosen side's view, the rejected side's, and the perturbation between them."""
    rng = random.Random(stable_id("perturbation", query.id, seed))
    name = options.localized if query.kind == "localized" else options.comprehensive
    perturbation = find_strategy(name)(video, query, options, rng)
    if sum(end - start for start, end in perturbation.kept) <= 0:
        raise TPOError(f"the perturbation `{name}` leaves nothing of {video.path}: it must keep a part of every video")
    needed = (query.segment.span,) if query.segment else ((0.0, video.seconds),)
    return view_of(needed, frames), view_of(perturbation.kept, frames), perturbation


def view_of(spans: tuple[Span, ...], frames: FrameOptions) -> View:
    """These spans with the frame times that the recipe takes of them."""
    return View(spans, sample_times(spans, frames))


def prompt_for(query: Query, view: View, pictures: np.ndarray, frames: FrameOptions) -> Prompt:
    """The query with one side's frames; the model is told of the shown spans as of one video."""
    seconds = sum(end - start for start, end in view.spans)
    times = spread([(0.0, seconds)], len(view.times))
    text = with_times(query.text, seconds, times, frames)
    return Prompt(pictures, times, seconds, text, max_pixels=frames.max_pixels)


def problem(reply: Reply) -> str | None:
    """Why this reply cannot be one side of a pair: its own problem, or nothing in it whatever the generator says."""
    return reply.problem or (None if reply.text.strip() else "empty_reply")
