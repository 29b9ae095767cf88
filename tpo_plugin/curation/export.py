"""Writing what a curation run made: the pairs, all candidates with their verdicts, the statistics."""

from __future__ import annotations

import logging
import os
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tpo_plugin import recipe as recipes
from tpo_plugin.curation.funnel import Funnel
from tpo_plugin.curation.methods import METHODS
from tpo_plugin.dataset.pairs import row_of, to_llava
from tpo_plugin.dataset.statistics import statistics
from tpo_plugin.options import CurateRecipe
from tpo_plugin.records import PreferencePair, stable_id, to_json, write_json, write_jsonl

logger = logging.getLogger(__name__)


def export(
    recipe: CurateRecipe,
    root: Path,
    candidates: list[PreferencePair],
    funnel: Funnel,
    usage: dict[str, Any],
    seconds: float,
) -> None:
    """Write `recipe.yaml`, `candidates.jsonl`, `pairs.json`, `statistics.json` and, last, `dataset.json`.

    With `dataset.json` the folder is a data set, so an older one goes first: files of two recipes are never taken for one.
    """
    output = Path(recipe.output)
    (output / "dataset.json").unlink(missing_ok=True)
    method = METHODS[recipe.method]
    chosen = limit(candidates, recipe.max_pairs, method.shares(recipe))
    kept = [pair for pair in chosen if not pair.drop]
    over = sum(pair.drop == "over_max_pairs" for pair in chosen)
    funnel.add("export", len(kept), ["over_max_pairs"] * over)
    rows = [row_of(pair) for pair in kept]
    recipes.save(recipe, output)
    write_jsonl(output / "candidates.jsonl", (to_json(pair) for pair in chosen))
    write_json(output / "pairs.json", [to_llava(row) for row in rows])
    write_json(
        output / "statistics.json",
        {
            "funnel": funnel.to_json(),
            **method.statistics(funnel),
            **statistics(rows),
            "llm": usage,
            "seconds": round(seconds, 1),
        },
    )
    write_json(output / "dataset.json", {"video_root": os.path.relpath(root, output), "pairs": "pairs.json"})
    logger.info("%d pairs in %s", len(kept), output / "pairs.json")


def limit(candidates: list[PreferencePair], most: int | None, ratio: Mapping[str, float]) -> list[PreferencePair]:
    """At most `most` kept pairs, their kinds in this ratio; the others get the drop reason `over_max_pairs`.

    Which ones stay is decided by their ids, so it does not depend on the order of the videos.
    """
    if most is None:
        return candidates
    by_kind: dict[str, list[str]] = defaultdict(list)
    for pair in sorted(candidates, key=lambda pair: stable_id("limit", pair.id)):
        if not pair.drop:
            by_kind[pair.query.kind].append(pair.id)
    total, reached, places, stay = sum(ratio.values()), 0.0, 0, set[str]()
    for kind, share in ratio.items():
        reached += share
        before, places = places, int(most * reached / total + 0.5)  # so that the kinds' places sum to `most`
        stay.update(by_kind[kind][: places - before])
    return [pair if pair.drop or pair.id in stay else replace(pair, drop="over_max_pairs") for pair in candidates]
