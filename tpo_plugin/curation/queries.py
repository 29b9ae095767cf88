"""Queries: drawn by kind and task type, then written by an LLM from captions, or taken from a QA set."""

from __future__ import annotations

import random
import re
from bisect import bisect_right
from dataclasses import replace
from itertools import accumulate

from tpo_plugin.curation.captions import owner
from tpo_plugin.curation.templates import task_texts, template
from tpo_plugin.errors import RecipeError
from tpo_plugin.llm import ChatClient
from tpo_plugin.options import QueryOptions
from tpo_plugin.records import Kind, Query, Segment, Video, stable_id

# Question and answer from their marks (some models set them in bold) to the next mark or empty line.
FORM = re.compile(
    r"^\W*Q\W*:[*\s]*(?P<question>\S.*?)\s*\n\W*A\W*:[*\s]*(?P<answer>\S.*?)\s*(?=\n\s*\n|\n\W*Q\W*:|\Z)",
    re.DOTALL | re.MULTILINE | re.IGNORECASE,
)
KINDS: tuple[Kind, ...] = ("localized", "comprehensive")


def check_options(options: QueryOptions) -> None:
    """RecipeError for a ratio or a task mix that names unknown things or holds no positive share."""
    for name, shares, known in (("ratio", options.ratio, KINDS), ("task_mix", options.task_mix, tuple(task_texts()))):
        unknown = sorted(set(shares) - set(known))
        if unknown:
            raise RecipeError(f"queries.{name} names {', '.join(unknown)}; known: {', '.join(known)}")
        if not shares or min(shares.values()) < 0 or sum(shares.values()) <= 0:
            raise RecipeError(f"queries.{name} needs shares of 0 or more that do not sum to 0, it is {shares}")
    if (options.source == "curated") != (options.curated is not None):
        raise RecipeError(
            "`queries.source: curated` and the folder in `queries.curated` go together: set both or neither"
        )
    if options.source == "qa" and options.ratio.get("localized", 0) > 0:
        raise RecipeError(
            "queries from a QA set know no segment: set queries.ratio to {localized: 0, comprehensive: 1}"
        )


def draw_queries(video: Video, segments: list[Segment], options: QueryOptions, seed: int) -> list[Query]:
    """`per_video` queries without their text yet, whose kinds and tasks follow the recipe's shares as closely as whole numbers allow.

    Systematic sampling from a start that differs for each video: every video is close to the shares, all together closer.
    """
    rng = random.Random(stable_id("queries", video.id, seed))
    kinds = _systematic(options.ratio, options.per_video, rng)
    tasks = _systematic(options.task_mix, options.per_video, rng)
    rng.shuffle(tasks)
    draws = []
    for index, (kind, task) in enumerate(zip(kinds, tasks)):
        segment = segments[index % len(segments)] if kind == "localized" else None
        query_id = stable_id(video.id, "query", seed, kind, task, index)
        draws.append(Query(query_id, "localized" if kind == "localized" else "comprehensive", task, "", "", segment))
    return draws


def _systematic(shares: dict[str, float], count: int, rng: random.Random) -> list[str]:
    names, reached, start = list(shares), list(accumulate(shares.values())), rng.random()
    places = [(index + start) / count * reached[-1] for index in range(count)]
    return [names[min(bisect_right(reached, place), len(names) - 1)] for place in places]


async def write_query(draw: Query, captions: dict[str, str], llm: ChatClient) -> Query | str:
    """The query that the LLM writes for this draw (paper Fig. 7), or the reason why there is none."""
    described = captions.get(owner(draw.segment), "")
    if not described:
        return "no_caption"
    prompt = template(f"query_{draw.kind}").format(captions=described, task=task_texts()[draw.task])
    reply = await llm.complete([{"role": "user", "content": prompt}], temperature=0)
    if reply.problem:
        return f"query_{reply.problem}"
    found = parse_query(reply.text)
    return found if isinstance(found, str) else replace(draw, text=found[0], answer=found[1])


def parse_query(text: str) -> tuple[str, str] | str:
    """Question and answer of a query writer's reply, or the reason why there is none."""
    match = FORM.search(text)
    if match is None:
        return "none_appropriate" if re.match(r"\W*none\b", text, re.IGNORECASE) else "query_malformed"
    if re.fullmatch(r"none\W*", match["question"], re.IGNORECASE):
        return "none_appropriate"
    return match["question"], match["answer"]


def queries_from_qa(video: Video, qa: tuple[tuple[str, str], ...], options: QueryOptions, seed: int) -> list[Query]:
    """Up to `per_video` seeded picks of the questions that came with the video; all are comprehensive."""
    rng = random.Random(stable_id("qa", video.id, seed))
    picked = rng.sample(range(len(qa)), min(options.per_video, len(qa)))
    return [
        Query(stable_id(video.id, "qa", *qa[index]), "comprehensive", "existing", *qa[index])
        for index in sorted(picked)
    ]


def drafts(
    video: Video, segments: list[Segment], qa: tuple[tuple[str, str], ...], options: QueryOptions, seed: int
) -> list[Query]:
    """The queries as far as they are known before an LLM writes their text: ids, kinds, tasks, segments."""
    if options.source == "qa":
        return queries_from_qa(video, qa, options, seed)
    return draw_queries(video, segments, options, seed)
