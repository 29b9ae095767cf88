"""A chosen text that is part of the rejected one says nothing that the other does not (TEMPLE)."""

from __future__ import annotations

from tpo_plugin.curation.filters.base import Context, Verdict
from tpo_plugin.curation.filters.identical import same_text
from tpo_plugin.records import PreferencePair


async def contained(pair: PreferencePair, context: Context) -> Verdict:
    """Drop pairs whose chosen response is found word for word in the rejected one (case, white space and the last full stop aside)."""
    return Verdict("contained" if same_text(pair.chosen) in same_text(pair.rejected) else None)
