"""TPO's: chosen from what is needed to answer, rejected from a video that lacks it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from tpo_plugin.curation import responses as responding
from tpo_plugin.curation.captions import owner
from tpo_plugin.curation.methods.base import generator_id
from tpo_plugin.curation.methods.queried import QueriedMethod
from tpo_plugin.curation.work import Outcome, Tools, Work
from tpo_plugin.options import CurateRecipe
from tpo_plugin.records import PreferencePair, Query, Video, stable_id, to_json


class Temporal(QueriedMethod):
    def times(self, recipe: CurateRecipe, video: Video, query: Query) -> Iterable[float]:
        chosen, rejected, _ = responding.views(video, query, recipe.frames, recipe.perturbations, recipe.seed)
        return (*chosen.times, *rejected.times)

    async def respond(self, tools: Tools, work: Work) -> Outcome:
        """Both responses to each query, all of one video in one batch; a pair needs both of them whole."""
        recipe, video, queries = tools.recipe, work.video, work.queries
        assert tools.responder is not None
        sides = [responding.views(video, query, recipe.frames, recipe.perturbations, recipe.seed) for query in queries]
        prompts = []
        for query, (chosen, rejected, _) in zip(queries, sides):
            for view in (chosen, rejected):
                prompts.append(responding.prompt_for(query, view, await work.frames.at(view.times), recipe.frames))
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
                captions=work.captions.get(owner(query.segment), ""),
                generator=tools.responder.name,
                seed=recipe.seed,
            )
            for query, (chosen, rejected, perturbation), (one, other), problem in zip(queries, sides, both, problems)
            if problem is None
        ]
        dropped = tuple(f"response_{problem}" for problem in problems if problem)
        return Outcome([to_json(pair) for pair in pairs], len(pairs), dropped)

    def asks_llm(self, recipe: CurateRecipe) -> bool:
        return recipe.queries.source == "llm"

    def response_parts(self, recipe: CurateRecipe) -> list[Any]:
        of_lists = ("lists", "levels")
        perturbations = {name: value for name, value in asdict(recipe.perturbations).items() if name not in of_lists}
        return [generator_id(recipe.responses), perturbations]
