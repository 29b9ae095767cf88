"""Two answers that say the same teach nothing."""

from __future__ import annotations

from tpo_plugin.curation.filters.base import Context, Verdict
from tpo_plugin.records import PreferencePair


async def identical(pair: PreferencePair, context: Context) -> Verdict:
    """Drop pairs whose responses differ in case, white space or the closing full stop at most."""
    return Verdict("identical" if same_text(pair.chosen) == same_text(pair.rejected) else None)


def same_text(text: str) -> str:
    """The text without what makes no difference; equal for responses that say the same."""
    return " ".join(text.split()).rstrip(".").casefold()
