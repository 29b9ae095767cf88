"""The stages that are the same for all methods, on one video. The others are the methods' own (`methods.base`).

Each stage says what it made, what it dropped and why.
"""

from __future__ import annotations

from dataclasses import replace

from tpo_plugin.concurrency import together
from tpo_plugin.curation.filters import Context, find_filter
from tpo_plugin.curation.methods import Method
from tpo_plugin.curation.sources import Source
from tpo_plugin.curation.work import Outcome, Tools
from tpo_plugin.errors import VideoError
from tpo_plugin.records import PreferencePair, Video, to_json


async def probe(tools: Tools, source: Source, video_id: str) -> Outcome:
    """Headers and first frame of one file."""
    try:
        source.path.encode()
    except UnicodeEncodeError:
        raise VideoError("name_not_utf8", f"{source.path!r}: the file name is not UTF-8; rename it") from None
    info = await tools.decoder.probe(tools.root / source.path)
    return Outcome(to_json(Video(video_id, source.path, info.seconds, info.fps, info.width, info.height)))


async def judge(tools: Tools, method: Method, pairs: list[PreferencePair]) -> Outcome:
    """The pairs with their verdicts, and `drop` set where the method or a filter dropped one."""
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
