"""What a stage's results depend on. A changed recipe gives new ids to the stages it affects and to those after them, no others."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

from tpo_plugin.curation.captions import wanted
from tpo_plugin.curation.templates import task_texts, template
from tpo_plugin.folders import checkpoint_digest
from tpo_plugin.options import CurateRecipe, GeneratorOptions
from tpo_plugin.records import stable_id


def stage_ids(recipe: CurateRecipe) -> dict[str, str]:
    """An id for each stage, made of the recipe parts that it and the stages before it depend on.

    Where things run (addresses, devices, batch sizes, concurrency) does not count.
    """
    parts: dict[str, Any] = {
        "probe": [],
        "segment": [asdict(recipe.segments), recipe.seed, bool(recipe.queries.ratio.get("localized"))],
        "caption": [asdict(recipe.frames), _caption_id(recipe)],
        "query": _query_id(recipe),
        "respond": _responses_id(recipe),
        "filter": [asdict(recipe.filters), recipe.llm.model, template("judge"), *_settled_by(recipe)],
    }
    ids, chain = {}, ""
    for stage, part in parts.items():
        chain = stable_id(chain, stage, part)
        ids[stage] = chain
    return ids


def _caption_id(recipe: CurateRecipe) -> list[Any] | None:
    if not wanted(recipe):
        return None
    captions = recipe.captions
    return [_generator_id(captions.generator), captions.frames_per_call, template("caption")]


def _responses_id(recipe: CurateRecipe) -> list[Any]:
    if recipe.method == "llm":
        return ["llm", recipe.llm.model, template("answer")]
    if recipe.method == "hound":
        hound = recipe.hound
        sampled = replace(recipe.responses, temperature=hound.temperature, top_p=hound.top_p)
        return ["hound", hound.candidates, _generator_id(sampled)]
    return [_generator_id(recipe.responses), asdict(recipe.perturbations)]


def _settled_by(recipe: CurateRecipe) -> list[Any]:
    return [asdict(recipe.hound), template("score")] if recipe.method == "hound" else []


def _query_id(recipe: CurateRecipe) -> list[Any]:
    if recipe.queries.source == "curated":  # the queries themselves are part of each video's key
        return ["curated"]
    if recipe.queries.source == "qa":  # the questions themselves are part of each video's key
        return ["qa", recipe.queries.per_video]
    texts = {name: template(name) for name in ("query_localized", "query_comprehensive")}
    queries = asdict(recipe.queries)
    for elsewhere in ("qa", "curated"):
        queries.pop(elsewhere)
    return [queries, recipe.llm.model, texts, task_texts()]


def _generator_id(options: GeneratorOptions) -> list[Any]:
    says: list[Any] = [options.type, options.max_new_tokens, options.temperature, options.top_p]
    if options.type == "server":
        return [*says, options.server.model]
    says += [options.model, checkpoint_digest(options.model), options.dtype, options.attn_implementation]
    return [*says, options.conv_template] if options.type == "llava" else says
