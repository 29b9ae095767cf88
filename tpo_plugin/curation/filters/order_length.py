"""A description of the same shots in another order must be about as long (TEMPLE's rule for shuffle and reverse)."""

from __future__ import annotations

from tpo_plugin.curation.filters.base import Context, Verdict
from tpo_plugin.curation.filters.drop_length import order_only
from tpo_plugin.records import PreferencePair


async def order_length(pair: PreferencePair, context: Context) -> Verdict:
    """Drop pairs of which one side, in characters, is more than `filters.max_length_ratio` times as long as the other.

    Pairs whose rejected side lacks shots are none of its business.
    """
    shorter, longer = sorted((len(pair.chosen.strip()), len(pair.rejected.strip())))
    apart = order_only(pair) and longer > context.options.max_length_ratio * shorter
    return Verdict("order_length_ratio" if apart else None)
