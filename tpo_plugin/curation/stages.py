"""The work of each stage on one video. Each function says what it made, what it dropped and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tpo_plugin.concurrency import together
from tpo_plugin.curation import captions as captioning
from tpo_plugin.curation import queries as querying
from tpo_plugin.curation import responses as responding
from tpo_plugin.curation.captions import CaptionCall
from tpo_plugin.curation.filters import Context, find_filter
from tpo_plugin.curation.segments import draw_segments
from tpo_plugin.curation.sources import Source
from tpo_plugin.errors import VideoError
from tpo_plugin.generators import Generator
from tpo_plugin.llm import ChatClient
from tpo_plugin.options import CurateRecipe
from tpo_plugin.records import PreferencePair, Query, Segment, Video, stable_id, to_json
from tpo_plugin.video.isolated import IsolatedDecoder


class Frames:
    """The frames of one video, decoded in one pass for all its stages and kept. `planned` are the times they will ask for."""

    def __init__(self, decoder: IsolatedDecoder, path: Path, planned: set[float], max_side: int) -> None:
        self._decoder, self._path, self._planned, self._max_side = decoder, path, planned, max_side
        self._pictures: dict[float, np.ndarray] = {}

    async def at(self, times: Sequence[float]) -> np.ndarray:
        """uint8 (len(times), H, W, 3); times that were not planned (a third-party perturbation's) cost a second pass."""
        missing = sorted((self._planned | set(times)) - self._pictures.keys())
        if missing:
            pictures = await self._decoder.read_frames(self._path, missing, self._max_side)
            self._pictures.update(zip(missing, pictures))
        return np.stack([self._pictures[time] for time in times])


@dataclass
class Tools:
    """What the stages work with."""

    recipe: CurateRecipe
    root: Path
    decoder: IsolatedDecoder
    llm: ChatClient
    captioner: Generator
    responder: Generator


@dataclass(frozen=True)
class Outcome:
    """A stage's result for one video as plain JSON, how many records it `left` over, and the reason of each it dropped."""

    value: Any
    left: int = 1
    dropped: tuple[str, ...] = ()


async def probe(tools: Tools, source: Source, video_id: str) -> Outcome:
    """Headers and first frame of one file."""
    try:
        source.path.encode()
    except UnicodeEncodeError:
        raise VideoError("name_not_utf8", f"{source.path!r}: the file name is not UTF-8; rename it") from None
    info = await tools.decoder.probe(tools.root / source.path)
    return Outcome(to_json(Video(video_id, source.path, info.seconds, info.fps, info.width, info.height)))


async def segment(tools: Tools, video: Video) -> Outcome:
    """The video's segments, where the recipe has localized queries."""
    if not tools.recipe.queries.ratio.get("localized"):
        return Outcome([])
    return Outcome([to_json(item) for item in draw_segments(video, tools.recipe.segments, tools.recipe.seed)])


def plan(tools: Tools, source: Source, video: Video, segments: list[Segment]) -> tuple[list[CaptionCall], set[float]]:
    """The video's caption calls, and every frame time that captions and responses will ask for, before any of them is made."""
    recipe = tools.recipe
    drafts = querying.drafts(video, segments, source.qa, recipe.queries, recipe.seed)
    captioned = drafts if captioning.wanted(recipe) else []
    calls = captioning.clips_to_caption(video, captioned, recipe.frames, recipe.captions.frames_per_call)
    times = {time for _, clip in calls for time in clip}
    for draft in drafts:
        chosen, rejected, _ = responding.views(video, draft, recipe.frames, recipe.perturbations, recipe.seed)
        times.update(chosen.times, rejected.times)
    return calls, times


async def caption(tools: Tools, calls: list[CaptionCall], frames: Frames) -> Outcome:
    """Captions of all that the calls show."""
    fps = tools.recipe.frames.fps
    prompts = [captioning.caption_prompt(await frames.at(times), times, fps) for _, times in calls]
    replies = await tools.captioner.generate(prompts)
    texts = [reply.text for reply in replies]
    failed = tuple(f"caption_{reply.problem}" for reply in replies if not reply.text)
    return Outcome(captioning.join_captions(calls, texts), len(texts) - len(failed), failed)


async def query(
    tools: Tools, source: Source, video: Video, segments: list[Segment], captions: dict[str, str]
) -> Outcome:
    """The video's queries, no question twice."""
    options = tools.recipe.queries
    written: Sequence[Query | str]
    if options.source == "qa":
        written = [*querying.queries_from_qa(video, source.qa, options, tools.recipe.seed)] or ["no_qa_for_video"]
    else:
        draws = querying.draw_queries(video, segments, options, tools.recipe.seed)
        written = await together(querying.write_query(draw, captions, tools.llm) for draw in draws)
    kept: dict[str, Query] = {}
    dropped: list[str] = []
    for item in written:
        if isinstance(item, str):
            dropped.append(item)
        elif item.text in kept:
            dropped.append("duplicate_query")
        else:
            kept[item.text] = item
    return Outcome([to_json(item) for item in kept.values()], len(kept), tuple(dropped))


async def respond(
    tools: Tools, video: Video, queries: list[Query], captions: dict[str, str], frames: Frames
) -> Outcome:
    """Both responses to each query, all of one video in one batch; a pair needs both of them whole."""
    recipe = tools.recipe
    sides = [responding.views(video, query, recipe.frames, recipe.perturbations, recipe.seed) for query in queries]
    prompts = []
    for query, (chosen, rejected, _) in zip(queries, sides):
        for view in (chosen, rejected):
            prompts.append(responding.prompt_for(query, view, await frames.at(view.times), recipe.frames))
    replies = await tools.responder.generate(prompts)
    both = list(zip(replies[::2], replies[1::2]))
    problems = [responding.problem(one) or responding.problem(other) for one, other in both]
    pairs = [
        PreferencePair(
            id=stable_id(query.id, "pair"),
            video=video,
            query=query,
            perturbation=perturbation,
            chosen=one.text,
            rejected=other.text,
            chosen_times=chosen.times,
            rejected_times=rejected.times,
            captions=captions.get(captioning.owner(query.segment), ""),
            generator=tools.responder.name,
            seed=recipe.seed,
        )
        for query, (chosen, rejected, perturbation), (one, other), problem in zip(queries, sides, both, problems)
        if problem is None
    ]
    dropped = tuple(f"response_{problem}" for problem in problems if problem)
    return Outcome([to_json(pair) for pair in pairs], len(pairs), dropped)


async def judge(tools: Tools, pairs: list[PreferencePair]) -> Outcome:
    """The pairs with their verdicts, and `drop` set where a filter dropped one."""
    context = Context(tools.recipe.filters, tools.llm)
    rules = [find_filter(name) for name in tools.recipe.filters.use]

    async def one(pair: PreferencePair) -> PreferencePair:
        for rule in rules:
            verdict = await rule(pair, context)
            pair = replace(pair, verdicts={**pair.verdicts, **verdict.says}, drop=verdict.drop)
            if verdict.drop:
                break
        return pair

    judged = await together(one(pair) for pair in pairs)
    dropped = tuple(pair.drop for pair in judged if pair.drop)
    return Outcome([to_json(pair) for pair in judged], len(judged) - len(dropped), dropped)
