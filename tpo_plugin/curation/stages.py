"""The work of each stage on one video. Each function says what it made, what it dropped and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tpo_plugin.concurrency import together
from tpo_plugin.curation import captions as captioning
from tpo_plugin.curation import queries as querying
from tpo_plugin.curation.captions import CaptionCall
from tpo_plugin.curation.filters import Context, find_filter
from tpo_plugin.curation.given import Given
from tpo_plugin.curation.methods import METHODS
from tpo_plugin.curation.segments import draw_segments
from tpo_plugin.curation.sources import Source
from tpo_plugin.curation.work import Frames, Outcome, Tools
from tpo_plugin.errors import VideoError
from tpo_plugin.records import PreferencePair, Query, Segment, Video, to_json


async def probe(tools: Tools, source: Source, video_id: str) -> Outcome:
    """Headers and first frame of one file."""
    try:
        source.path.encode()
    except UnicodeEncodeError:
        raise VideoError("name_not_utf8", f"{source.path!r}: the file name is not UTF-8; rename it") from None
    info = await tools.decoder.probe(tools.root / source.path)
    return Outcome(to_json(Video(video_id, source.path, info.seconds, info.fps, info.width, info.height)))


async def segment(tools: Tools, video: Video) -> Outcome:
    """The video's segments, where the recipe has localized queries to write."""
    if tools.recipe.queries.source == "curated" or not tools.recipe.queries.ratio.get("localized"):
        return Outcome([])
    return Outcome([to_json(item) for item in draw_segments(video, tools.recipe.segments, tools.recipe.seed)])


def plan(tools: Tools, source: Source, video: Video, segments: list[Segment]) -> tuple[list[CaptionCall], set[float]]:
    """The video's caption calls, and every frame time that captions and responses will ask for, before any of them is made."""
    recipe, method = tools.recipe, METHODS[tools.recipe.method]
    if recipe.queries.source == "curated":
        drafts = given(tools, video).queries
    else:
        drafts = querying.drafts(video, segments, source.qa, recipe.queries, recipe.seed)
    captioned = drafts if captioning.wanted(recipe) else []
    calls = captioning.clips_to_caption(video, captioned, recipe.frames, recipe.captions.frames_per_call)
    times = {time for _, clip in calls for time in clip}
    for draft in drafts:
        times.update(method.times(recipe, video, draft))
    return calls, times


def given(tools: Tools, video: Video) -> Given:
    """What an earlier curation has of this video; nothing where it made no candidates of it."""
    return tools.given.get(video.id, Given())


async def caption(tools: Tools, video: Video, calls: list[CaptionCall], frames: Frames) -> Outcome:
    """Captions of all that the calls show, or those that came with the queries."""
    if tools.recipe.queries.source == "curated":
        captions = given(tools, video).captions
        return Outcome(captions, len(captions))
    if not calls:
        return Outcome({}, 0)
    assert tools.captioner is not None
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
    if options.source == "curated":
        written = [*given(tools, video).queries] or ["no_query_for_video"]
    elif options.source == "qa":
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


async def judge(tools: Tools, pairs: list[PreferencePair]) -> Outcome:
    """The pairs with their verdicts, and `drop` set where the method or a filter dropped one."""
    method = METHODS[tools.recipe.method]
    context = Context(tools.recipe.filters, tools.llm)
    rules = [find_filter(name) for name in tools.recipe.filters.use]

    async def one(pair: PreferencePair) -> PreferencePair:
        pair = await method.settle(tools, pair)
        for rule in rules if pair.drop is None else ():
            verdict = await rule(pair, context)
            pair = replace(pair, verdicts={**pair.verdicts, **verdict.says}, drop=verdict.drop)
            if verdict.drop:
                break
        return pair

    judged = await together(one(pair) for pair in pairs)
    dropped = tuple(pair.drop for pair in judged if pair.drop)
    return Outcome([to_json(pair) for pair in judged], len(judged) - len(dropped), dropped)
