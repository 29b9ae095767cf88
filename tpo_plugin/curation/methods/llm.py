"""The TPO paper's baseline SFT_LLM: the answer is written by the LLM from query and captions; there is no rejected one."""

from __future__ import annotations

from collections.abc import Iterable

from tpo_plugin.concurrency import together
from tpo_plugin.curation.captions import owner
from tpo_plugin.curation.templates import template
from tpo_plugin.curation.work import Frames, Outcome, Tools
from tpo_plugin.options import CurateRecipe
from tpo_plugin.records import NO_REJECTED, Perturbation, PreferencePair, Query, Video, stable_id, to_json


def times(recipe: CurateRecipe, video: Video, query: Query) -> Iterable[float]:
    return ()


async def respond(
    tools: Tools, video: Video, queries: list[Query], captions: dict[str, str], frames: Frames
) -> Outcome:
    """The LLM's answer to each query."""

    async def one(query: Query) -> PreferencePair | str:
        described = captions.get(owner(query.segment), "")
        if not described:
            return "no_caption"
        prompt = template("answer").format(captions=described, question=query.text)
        reply = await tools.llm.complete([{"role": "user", "content": prompt}], temperature=0)
        if reply.problem:
            return f"answer_{reply.problem}"
        if reply.text.strip().rstrip(".").casefold() == "none":
            return "answer_none"
        return PreferencePair(
            id=stable_id(query.id, "llm"),
            video=video,
            query=query,
            perturbation=Perturbation(NO_REJECTED, ()),
            chosen=reply.text,
            rejected="",
            captions=described,
            generator=tools.recipe.llm.model,
            seed=tools.recipe.seed,
        )

    written = await together(one(query) for query in queries)
    pairs = [to_json(item) for item in written if not isinstance(item, str)]
    return Outcome(pairs, len(pairs), tuple(item for item in written if isinstance(item, str)))


async def settle(tools: Tools, pair: PreferencePair) -> PreferencePair:
    return pair
