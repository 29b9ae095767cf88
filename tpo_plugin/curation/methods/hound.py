"""Hound-style pairs (arXiv 2404.01258, the TPO paper's baseline Hound-DPO): sampled from the whole video, judged from text alone."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any

from tpo_plugin.checks import at_least, positive
from tpo_plugin.concurrency import together
from tpo_plugin.curation import responses as responding
from tpo_plugin.curation.captions import owner
from tpo_plugin.curation.filters.identical import same_text
from tpo_plugin.curation.methods.base import generator_id
from tpo_plugin.curation.methods.queried import QueriedMethod
from tpo_plugin.curation.templates import template
from tpo_plugin.curation.work import PASSING, Outcome, Tools, Work
from tpo_plugin.errors import RecipeError
from tpo_plugin.options import CurateRecipe, GeneratorOptions, HoundOptions
from tpo_plugin.records import Candidate, Perturbation, PreferencePair, Query, Video, stable_id, to_json

SCORE = re.compile(r"^\W*(?:score\W+)?([1-5])(?:\s*/\s*5)?\W*$", re.IGNORECASE | re.MULTILINE)


class Hound(QueriedMethod):
    def times(self, recipe: CurateRecipe, video: Video, query: Query) -> Iterable[float]:
        return responding.view_of(((0.0, video.seconds),), recipe.frames).times

    async def respond(self, tools: Tools, work: Work) -> Outcome:
        """The candidates for each query, all of one video in one batch; two different ones at least."""
        recipe, video, queries = tools.recipe, work.video, work.queries
        view = responding.view_of(((0.0, video.seconds),), recipe.frames)
        assert tools.responder is not None
        prompts = []
        for query in queries:
            prompt = responding.prompt_for(query, view, await work.frames.at(view.times), recipe.frames)
            prompts += [replace(prompt, sample=number) for number in range(recipe.hound.candidates)]
        replies = await tools.responder.generate(prompts)
        pairs, dropped = [], []
        for place, query in enumerate(queries):
            sampled = replies[place * recipe.hound.candidates : (place + 1) * recipe.hound.candidates]
            texts = [reply.text for reply in sampled if responding.problem(reply) is None]
            lost = _passing(responding.problem(reply) for reply in sampled)
            if lost:
                dropped.append(f"candidate_{lost}")
            elif len(texts) < 2:
                dropped.append("too_few_candidates")
            elif len(set(map(same_text, texts))) < 2:
                dropped.append("identical_candidates")
            else:
                pairs.append(
                    PreferencePair(
                        id=stable_id(query.id, "hound"),
                        video=video,
                        query=query,
                        perturbation=Perturbation("none", view.spans),
                        chosen="",
                        rejected="",
                        chosen_times=view.times,
                        rejected_times=view.times,
                        captions=work.captions.get(owner(query.segment), ""),
                        generator=tools.responder.name,
                        seed=recipe.seed,
                        candidates=tuple(map(Candidate, texts)),
                    )
                )
        return Outcome([to_json(pair) for pair in pairs], len(pairs), tuple(dropped))

    async def settle(self, tools: Tools, pair: PreferencePair) -> PreferencePair:
        """The pair with its candidates scored and two of them chosen and rejected, or dropped."""
        if not pair.captions:
            return replace(pair, drop="no_caption")
        texts = list({same_text(candidate.text): candidate.text for candidate in pair.candidates}.values())
        given = await together(_score(tools, pair, text) for text in texts)
        scores = {same_text(text): score for text, score in zip(texts, given)}
        scored = tuple(
            Candidate(candidate.text, score if isinstance(score := scores[same_text(candidate.text)], int) else None)
            for candidate in pair.candidates
        )
        pair = replace(pair, candidates=scored)
        lost = _passing(score for score in given if isinstance(score, str))
        if lost:
            return replace(pair, drop=lost)
        if sum(isinstance(score, int) for score in given) < 2:
            return replace(pair, drop=next(score for score in given if isinstance(score, str)))
        picked = pick(scored, tools.recipe.hound, random.Random(stable_id("hound", pair.id, pair.seed)))
        if isinstance(picked, str):
            return replace(pair, drop=picked)
        chosen, rejected = picked
        says = {"chosen_score": str(chosen.score), "rejected_score": str(rejected.score)}
        return replace(pair, chosen=chosen.text, rejected=rejected.text, verdicts={**pair.verdicts, **says})

    def check(self, recipe: CurateRecipe) -> None:
        super().check(recipe)
        hound = recipe.hound
        at_least("hound.candidates", hound.candidates, 2)
        positive("hound.temperature", hound.temperature)
        if not 1 <= hound.max_rejected < hound.min_chosen <= 5 or hound.margin < 1:
            raise RecipeError(
                "`hound` needs 1 <= max_rejected < min_chosen <= 5 and a margin of 1 or more; it has max_rejected "
                f"{hound.max_rejected}, min_chosen {hound.min_chosen}, margin {hound.margin}"
            )

    def generators(self, recipe: CurateRecipe) -> dict[str, GeneratorOptions]:
        return {**super().generators(recipe), "responses": _sampled(recipe)}

    def parts(self, recipe: CurateRecipe) -> dict[str, Any]:
        return {**super().parts(recipe), "filter": [asdict(recipe.hound), template("score")]}

    def response_parts(self, recipe: CurateRecipe) -> list[Any]:
        return ["hound", recipe.hound.candidates, generator_id(_sampled(recipe))]


def pick(
    candidates: Sequence[Candidate], options: HoundOptions, rng: random.Random
) -> tuple[Candidate, Candidate] | str:
    """A random one of the best and one of the worst, or why there is no such pair; a candidate without a score is none of them."""
    scored = [(candidate.score, candidate) for candidate in candidates if candidate.score is not None]
    best, worst = max(score for score, _ in scored), min(score for score, _ in scored)
    if best < options.min_chosen:
        return "score_none_high"
    if worst > options.max_rejected:
        return "score_none_low"
    if best - worst < options.margin:
        return "score_margin"
    ends = [[candidate for score, candidate in scored if score == end] for end in (best, worst)]
    return rng.choice(ends[0]), rng.choice(ends[1])


def parse_score(text: str) -> int | None:
    """The score in a reply; None unless it is one number from 1 to 5, alone on its line."""
    found = SCORE.findall(text)
    return int(found[0]) if len(found) == 1 else None


async def _score(tools: Tools, pair: PreferencePair, text: str) -> int | str:
    """The LLM's score of one answer, or why there is none."""
    prompt = template("score").format(captions=pair.captions, question=pair.query.text, answer=text)
    reply = await tools.llm.complete([{"role": "user", "content": prompt}], temperature=0)
    if reply.problem:
        return f"score_{reply.problem}"
    return parse_score(reply.text) or "score_malformed"


def _sampled(recipe: CurateRecipe) -> GeneratorOptions:
    """The generator of the candidates."""
    return replace(recipe.responses, temperature=recipe.hound.temperature, top_p=recipe.hound.top_p)


def _passing(problems: Iterable[str | None]) -> str | None:
    """The first problem that the next run may not have: what is left without its answer is not what an undisturbed run gives."""
    return next((problem for problem in problems if problem and problem.endswith(PASSING)), None)
