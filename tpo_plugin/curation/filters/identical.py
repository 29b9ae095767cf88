"""Two answers that say the same teach nothing."""

from __future__ import annotations

from tpo_plugin.curation.filters.base import Context, Verdict
from tpo_plugin.records import PreferencePair


async def identical(pair: PreferencePair, context: Context) -> Verdict:
    """Drop pairs whose responses differ in case, white space or the closing full stop at most."""
    chosen, rejected = (" ".join(text.split()).rstrip(".").casefold() for text in (pair.chosen, pair.rejected))
    return Verdict("identical" if chosen == rejected else None)
