"""What a stage's results depend on. A changed recipe gives new ids to the stages it affects and to those after them, no others."""

from __future__ import annotations

from typing import Any

from tpo_plugin.curation.methods import METHODS
from tpo_plugin.curation.templates import template
from tpo_plugin.options import CurateRecipe
from tpo_plugin.records import stable_id


def stage_ids(recipe: CurateRecipe) -> dict[str, str]:
    """An id for each stage, made of the recipe parts that it and the stages before it depend on.

    Where things run (addresses, devices, batch sizes, concurrency) does not count.
    """
    own = METHODS[recipe.method].parts(recipe)
    filters = {"use": recipe.filters.use, "max_characters": recipe.filters.max_characters}
    parts: dict[str, Any] = {
        "probe": [],
        "segment": own["segment"],
        "caption": own["caption"],
        "query": own["query"],
        "respond": own["respond"],
        "filter": [filters, recipe.llm.model, template("judge"), *own.get("filter", [])],
    }
    ids, chain = {}, ""
    for stage, part in parts.items():
        chain = stable_id(chain, stage, part)
        ids[stage] = chain
    return ids
