"""The stages that TPO's method and its baselines share: queries about a video or its segments, written from captions or taken over."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tpo_plugin.concurrency import together
from tpo_plugin.curation import captions as captioning
from tpo_plugin.curation import queries as querying
from tpo_plugin.curation.captions import CaptionCall, wanted
from tpo_plugin.curation.given import Given
from tpo_plugin.curation.methods.base import Method, generator_id
from tpo_plugin.curation.perturbations import find_strategy
from tpo_plugin.curation.segments import draw_segments
from tpo_plugin.curation.templates import task_texts, template
from tpo_plugin.curation.work import Outcome, Tools, Work
from tpo_plugin.errors import RecipeError
from tpo_plugin.options import CurateRecipe, GeneratorOptions
from tpo_plugin.records import Query, Segment, Video, from_json, to_json

OF_LISTS = {"drop_length", "order_length"}  # filters that compare descriptions of lists of shots


class QueriedMethod(Method):
    """A subclass says what happens to the queries."""

    @abstractmethod
    def times(self, recipe: CurateRecipe, video: Video, query: Query) -> Iterable[float]:
        """The times (seconds) of the frames that `respond` will ask for; the query may lack its text yet."""

    @abstractmethod
    def response_parts(self, recipe: CurateRecipe) -> list[Any]:
        """What the responses depend on beside queries and captions."""

    async def segment(self, tools: Tools, work: Work) -> Outcome:
        """The video's segments, where the recipe has localized queries to write."""
        recipe = tools.recipe
        if recipe.queries.source == "curated" or not recipe.queries.ratio.get("localized"):
            return Outcome([])
        return Outcome([to_json(item) for item in draw_segments(work.video, recipe.segments, recipe.seed)])

    def plan(self, tools: Tools, work: Work) -> tuple[list[CaptionCall], set[float]]:
        recipe, video = tools.recipe, work.video
        if recipe.queries.source == "curated":
            drafts = _given(tools, video).queries
        else:
            drafts = querying.drafts(video, _segments(work), work.source.qa, recipe.queries, recipe.seed)
        captioned = drafts if wanted(recipe) else []
        calls = captioning.clips_to_caption(video, captioned, recipe.frames, recipe.captions.frames_per_call)
        times = {time for _, clip in calls for time in clip}
        for draft in drafts:
            times.update(self.times(recipe, video, draft))
        return calls, times

    async def caption(self, tools: Tools, work: Work, calls: list[CaptionCall]) -> Outcome:
        """Captions of all that the calls show, or those that came with the queries."""
        if tools.recipe.queries.source == "curated":
            captions = _given(tools, work.video).captions
            return Outcome(captions, len(captions))
        if not calls:
            return Outcome({}, 0)
        assert tools.captioner is not None
        options = tools.recipe.frames
        prompts = [captioning.caption_prompt(await work.frames.at(times), times, options) for _, times in calls]
        replies = await tools.captioner.generate(prompts)
        texts = [reply.text for reply in replies]
        failed = tuple(f"caption_{reply.problem}" for reply in replies if not reply.text)
        return Outcome(captioning.join_captions(calls, texts), len(texts) - len(failed), failed)

    async def query(self, tools: Tools, work: Work) -> Outcome:
        """The video's queries, no question twice."""
        options, seed, video = tools.recipe.queries, tools.recipe.seed, work.video
        written: Sequence[Query | str]
        if options.source == "curated":
            written = [*_given(tools, video).queries] or ["no_query_for_video"]
        elif options.source == "qa":
            written = [*querying.queries_from_qa(video, work.source.qa, options, seed)] or ["no_qa_for_video"]
        else:
            draws = querying.draw_queries(video, _segments(work), options, seed)
            written = await together(querying.write_query(draw, work.captions, tools.llm) for draw in draws)
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

    def check(self, recipe: CurateRecipe) -> None:
        for name in (recipe.perturbations.localized, recipe.perturbations.comprehensive):
            find_strategy(name)
        of_lists = sorted(OF_LISTS & set(recipe.filters.use))
        if of_lists:
            raise RecipeError(
                f"the filter `{of_lists[0]}` compares descriptions of lists of shots: it goes with `method: temple` alone"
            )

    def generators(self, recipe: CurateRecipe) -> dict[str, GeneratorOptions]:
        captioner = {"captions.generator": recipe.captions.generator} if wanted(recipe) else {}
        return {"responses": recipe.responses, **captioner}

    def asks_llm(self, recipe: CurateRecipe) -> bool:
        return True

    def parts(self, recipe: CurateRecipe) -> dict[str, Any]:
        return {
            "segment": [asdict(recipe.segments), recipe.seed, bool(recipe.queries.ratio.get("localized"))],
            "caption": [recipe.frames.plain(), _caption_parts(recipe)],
            "query": _query_parts(recipe),
            "respond": self.response_parts(recipe),
        }

    def shares(self, recipe: CurateRecipe) -> Mapping[str, float]:
        return recipe.queries.ratio


def _given(tools: Tools, video: Video) -> Given:
    """What an earlier curation has of this video; nothing where it made no candidates of it."""
    return tools.given.get(video.id, Given())


def _segments(work: Work) -> list[Segment]:
    return [from_json(Segment, item) for item in work.cut]


def _caption_parts(recipe: CurateRecipe) -> list[Any] | None:
    if not wanted(recipe):
        return None
    captions = recipe.captions
    return [generator_id(captions.generator), captions.frames_per_call, template("caption")]


def _query_parts(recipe: CurateRecipe) -> list[Any]:
    if recipe.queries.source == "curated":  # the queries themselves are part of each video's key
        return ["curated"]
    if recipe.queries.source == "qa":  # the questions themselves are part of each video's key
        return ["qa", recipe.queries.per_video]
    texts = {name: template(name) for name in ("query_localized", "query_comprehensive")}
    queries = asdict(recipe.queries)
    for elsewhere in ("qa", "curated"):
        queries.pop(elsewhere)
    return [queries, recipe.llm.model, texts, task_texts()]
