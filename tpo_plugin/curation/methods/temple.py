"""TEMPLE's (arXiv 2503.16929): one description of the video from the true list of its shots, others from perturbed lists.

Each shot is described once, with the shot before as context; all that a perturbation costs is one summary of the same
descriptions, in another order or without some. All pairs of a video have its query and its chosen description, so that they are one
token tree in training (the authors' convert_to_swift.py draws a query for each pair).
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tpo_plugin.curation import responses as responding
from tpo_plugin.curation.captions import CaptionCall
from tpo_plugin.curation.funnel import Funnel
from tpo_plugin.curation.methods.base import Method, generator_id
from tpo_plugin.curation.perturbations.lists import BUILT_IN, find_list_strategy, perturb
from tpo_plugin.curation.shot_groups import GROUP_REASONS, ShotList, choose_groups, look
from tpo_plugin.curation.shots import SHOT_REASONS, check_options
from tpo_plugin.curation.templates import instructions, template
from tpo_plugin.curation.work import Outcome, Tools, Work
from tpo_plugin.errors import RecipeError, VideoError
from tpo_plugin.folders import checkpoint_digest
from tpo_plugin.generators import Prompt
from tpo_plugin.generators.base import text_prompt
from tpo_plugin.options import CurateRecipe, GeneratorOptions
from tpo_plugin.records import Kind, Perturbation, PreferencePair, Query, stable_id, to_json

ELSEWHERE = ("encoder", "device", "batch_size")  # options that say where things run; the encoder counts by its digest
KIND: Kind = "caption"
TASK = "captioning"


class Temple(Method):
    async def segment(self, tools: Tools, work: Work) -> Outcome:
        """The video's list of shots, if it is one to use."""
        options, video = tools.recipe.shots, work.video
        try:
            seen = await tools.decoder.call(look, tools.root / video.path, options)
            features = await tools.encoder(seen.middles)
            return Outcome(choose_groups(seen.scan, seen.shots, features, options).plain())
        except VideoError as error:
            if error.reason not in {*SHOT_REASONS, *GROUP_REASONS}:
                raise
            raise VideoError(error.reason, f"{video.path}: {error}") from None

    def plan(self, tools: Tools, work: Work) -> tuple[list[CaptionCall], set[float]]:
        """A call for each shot: the keyframes of the one before, then its own."""
        frames = ShotList.from_plain(work.cut).keyframes
        calls = [(str(place), (*(frames[place - 1] if place else ()), *own)) for place, own in enumerate(frames)]
        return calls, {time for own in frames for time in own}

    async def caption(self, tools: Tools, work: Work, calls: list[CaptionCall]) -> Outcome:
        """The description of each shot by its number."""
        assert tools.captioner is not None
        shots = ShotList.from_plain(work.cut)
        replies = await tools.captioner.generate(
            [await _caption_prompt(tools, work, shots, place, times) for place, (_, times) in enumerate(calls)]
        )
        problems = [responding.problem(reply) for reply in replies]  # a text without its end is none
        texts = ["" if problem else " ".join(reply.text.split()) for reply, problem in zip(replies, problems)]
        failed = tuple(f"caption_{problem}" for problem in problems if problem)
        captions = {name: text for (name, _), text in zip(calls, texts)}
        return Outcome(captions, len(texts) - len(failed), failed)

    async def query(self, tools: Tools, work: Work) -> Outcome:
        """One of the instructions, drawn by video and seed; none where a shot's description is missing."""
        if not all(work.captions.values()):
            return Outcome([], 0, ("no_caption",))
        seed, video = tools.recipe.seed, work.video
        text = random.Random(stable_id("instruction", video.id, seed)).choice(instructions())
        return Outcome([to_json(Query(stable_id(video.id, KIND, seed), KIND, TASK, text))])

    async def respond(self, tools: Tools, work: Work) -> Outcome:
        """For each query a pair for each perturbation at each level: the same chosen, another rejected.

        Orders that are equal (short lists have few) are summed up once and make a pair each.
        """
        assert tools.responder is not None
        shots, (lists, levels) = ShotList.from_plain(work.cut), _perturbations(tools.recipe)
        said = list(work.captions.values())
        true = tuple(range(len(shots)))
        pairs, dropped = [], []
        for query in work.queries:
            wanted = [(name, level) for name in lists for level in levels]
            orders = {(name, level): self._order(tools, work, shots, name, level) for name, level in wanted}
            distinct = list(dict.fromkeys([true, *(order for order in orders.values() if order)]))
            prompts = [text_prompt(_summary_text(said, order)) for order in distinct]
            replies = dict(zip(distinct, await tools.responder.generate(prompts)))
            for (name, level), order in orders.items():
                if order is None:
                    dropped.append("perturbation_impossible")
                    continue
                problem = responding.problem(replies[true]) or responding.problem(replies[order])
                if problem:
                    dropped.append(f"response_{problem}")
                    continue
                kept = tuple(shots.shots[place].span for place in order)
                pairs.append(
                    PreferencePair(
                        id=stable_id(query.id, name, level),
                        video=work.video,
                        query=query,
                        perturbation=Perturbation(name, kept, float(level)),
                        chosen=replies[true].text,
                        rejected=replies[order].text,
                        chosen_times=_times(shots, true),
                        rejected_times=_times(shots, order),
                        captions=_numbered(said, true),
                        generator=tools.responder.name,
                        seed=tools.recipe.seed,
                    )
                )
        return Outcome([to_json(pair) for pair in pairs], len(pairs), tuple(dropped))

    @staticmethod
    def _order(tools: Tools, work: Work, shots: ShotList, name: str, level: int) -> tuple[int, ...] | None:
        rng = random.Random(stable_id("list", work.video.id, name, level, tools.recipe.seed))
        return perturb(name, shots, level, rng)

    def check(self, recipe: CurateRecipe) -> None:
        check_options(recipe.shots)
        lists, levels = recipe.perturbations.lists, recipe.perturbations.levels
        for key, values in (("lists", lists), ("levels", levels)):
            if not values or len(set(values)) < len(values):
                raise RecipeError(f"`perturbations.{key}` must name at least one, and each once; it is {list(values)}")
        for name in lists:
            find_list_strategy(name)
        for level in levels:
            if type(level) is not int or level < 2:
                raise RecipeError(f"`perturbations.levels` are whole numbers of 2 or more, not {level!r}")
        if not recipe.filters.max_length_ratio >= 1:
            raise RecipeError(
                f"`filters.max_length_ratio` must be 1 or more, it is {recipe.filters.max_length_ratio:g}"
            )
        if recipe.queries.source != "llm" or recipe.queries.qa or recipe.frames.time_instruction:
            raise RecipeError(
                "`method: temple` asks for a description of the video in words of its own, about shots and not about evenly sampled "
                "frames: leave out `queries.source`, `queries.qa` and `frames.time_instruction`"
            )

    def generators(self, recipe: CurateRecipe) -> dict[str, GeneratorOptions]:
        return {"responses": recipe.responses, "captions.generator": recipe.captions.generator}

    def asks_llm(self, recipe: CurateRecipe) -> bool:
        return False

    def parts(self, recipe: CurateRecipe) -> dict[str, Any]:
        shots, generator = asdict(recipe.shots), recipe.captions.generator
        frames = [recipe.frames.max_side, recipe.frames.max_pixels]
        return {
            "segment": [
                {name: value for name, value in shots.items() if name not in ELSEWHERE},
                checkpoint_digest(recipe.shots.encoder),
            ],
            "caption": [
                frames,
                generator_id(generator),
                template("caption"),
                template("caption_shot"),
                recipe.seed if generator.temperature > 0 else None,
            ],
            "query": [instructions(), recipe.seed],
            "respond": [
                generator_id(recipe.responses),
                *_perturbations(recipe),
                template("summary"),
            ],
            "filter": [recipe.filters.max_length_ratio],
        }

    def shares(self, recipe: CurateRecipe) -> Mapping[str, float]:
        return {KIND: 1.0}

    def statistics(self, funnel: Funnel) -> dict[str, Any]:
        """How many videos each of the paper's two steps left over, of those that could be read to their end."""
        count = funnel.counts["segment"]
        by_shots, by_groups = (sum(count.dropped[name] for name in rules) for rules in (SHOT_REASONS, GROUP_REASONS))
        after_shots = count.left + by_groups
        return {"shots": {"videos": after_shots + by_shots, "after_shots": after_shots, "after_groups": count.left}}


def _perturbations(recipe: CurateRecipe) -> tuple[list[str], list[int]]:
    """The names of the perturbations and their levels, easy to hard; in which order the recipe has them changes nothing."""
    known, options = list(BUILT_IN), recipe.perturbations
    names = sorted(options.lists, key=lambda name: (known.index(name) if name in known else len(known), name))
    return names, sorted(options.levels, reverse=True)


async def _caption_prompt(tools: Tools, work: Work, shots: ShotList, place: int, times: Sequence[float]) -> Prompt:
    """Ask for a description of this shot; the frames of the one before come first."""
    own, before = len(shots.keyframes[place]), len(shots.keyframes[place - 1]) if place else 0
    text = template("caption_shot").format(before=before, count=own) if before else template("caption")
    seconds = shots.shots[place].end - shots.shots[max(0, place - 1)].start
    frames = await work.frames.at(times)
    return Prompt(frames, tuple(times), seconds, text, max_pixels=tools.recipe.frames.max_pixels)


def _summary_text(said: Sequence[str], order: Sequence[int]) -> str:
    """Ask for one description of the video whose shots, in this order, are said to show this."""
    return template("summary").format(captions=_numbered(said, order))


def _numbered(said: Sequence[str], order: Sequence[int]) -> str:
    """The descriptions in this order, numbered anew."""
    return "\n".join(f"Shot {number}: {said[place]}" for number, place in enumerate(order, 1))


def _times(shots: ShotList, order: Sequence[int]) -> tuple[float, ...]:
    """The keyframes in this order of the shots."""
    return tuple(time for place in order for time in shots.keyframes[place])
