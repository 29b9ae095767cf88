"""The TPO paper's baseline SFT_LLM: the answer is written by the LLM from query and captions; there is no rejected one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tpo_plugin.concurrency import together
from tpo_plugin.curation.captions import owner
from tpo_plugin.curation.methods.queried import QueriedMethod
from tpo_plugin.curation.templates import template
from tpo_plugin.curation.work import Outcome, Tools, Work
from tpo_plugin.errors import RecipeError
from tpo_plugin.options import CurateRecipe, GeneratorOptions
from tpo_plugin.records import NO_REJECTED, Perturbation, PreferencePair, Query, Video, stable_id, to_json

PAIRWISE = {"identical", "judge", "contained"}  # filters that compare two responses


class LLM(QueriedMethod):
    def times(self, recipe: CurateRecipe, video: Video, query: Query) -> Iterable[float]:
        return ()

    async def respond(self, tools: Tools, work: Work) -> Outcome:
        """The LLM's answer to each query."""

        async def one(query: Query) -> PreferencePair | str:
            described = work.captions.get(owner(query.segment), "")
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
                video=work.video,
                query=query,
                perturbation=Perturbation(NO_REJECTED, ()),
                chosen=reply.text,
                rejected="",
                captions=described,
                generator=tools.recipe.llm.model,
                seed=tools.recipe.seed,
            )

        written = await together(one(query) for query in work.queries)
        pairs = [to_json(item) for item in written if not isinstance(item, str)]
        return Outcome(pairs, len(pairs), tuple(item for item in written if isinstance(item, str)))

    def check(self, recipe: CurateRecipe) -> None:
        super().check(recipe)
        pairwise = [name for name in recipe.filters.use if name in PAIRWISE]
        if pairwise:
            raise RecipeError(
                f"the filter `{pairwise[0]}` compares two responses, and `method: llm` writes one: set `filters.use` to [length]"
            )

    def generators(self, recipe: CurateRecipe) -> dict[str, GeneratorOptions]:
        return {name: options for name, options in super().generators(recipe).items() if name != "responses"}

    def response_parts(self, recipe: CurateRecipe) -> list[Any]:
        return ["llm", recipe.llm.model, template("answer")]
