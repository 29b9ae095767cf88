"""Empty answers, and answers that ran away."""

from __future__ import annotations

from tpo_plugin.curation.filters.base import Context, Verdict
from tpo_plugin.records import NO_REJECTED, PreferencePair


async def length(pair: PreferencePair, context: Context) -> Verdict:
    """Drop pairs with an empty response or one over `filters.max_characters`."""
    sides = (pair.chosen,) if pair.perturbation.name == NO_REJECTED else (pair.chosen, pair.rejected)
    lengths = [len(side.strip()) for side in sides]
    if min(lengths) == 0:
        return Verdict("empty_response")
    return Verdict("too_long" if max(lengths) > context.options.max_characters else None)
