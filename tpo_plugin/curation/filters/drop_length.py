"""A description of fewer shots must be shorter (TEMPLE's rule for drop)."""

from __future__ import annotations

from tpo_plugin.curation.filters.base import Context, Verdict
from tpo_plugin.records import PreferencePair


async def drop_length(pair: PreferencePair, context: Context) -> Verdict:
    """Drop pairs whose rejected side lacks shots and is not shorter than the chosen one, in characters."""
    too_long = not order_only(pair) and len(pair.rejected.strip()) >= len(pair.chosen.strip())
    return Verdict("drop_not_shorter" if too_long else None)


def order_only(pair: PreferencePair) -> bool:
    """Whether the rejected side saw all that the chosen one saw, in another order."""
    return sorted(pair.rejected_times) == sorted(pair.chosen_times)
