"""Where the two responses to a query come from. One method a file."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from tpo_plugin.curation.methods import hound, llm, temporal
from tpo_plugin.curation.work import Frames, Outcome, Tools
from tpo_plugin.options import CurateRecipe
from tpo_plugin.records import PreferencePair, Query, Video


class Method(Protocol):
    """A module with these functions."""

    def times(self, recipe: CurateRecipe, video: Video, query: Query) -> Iterable[float]:
        """The times (seconds) of the frames that `respond` will ask for; the query may lack its text yet."""

    async def respond(
        self, tools: Tools, video: Video, queries: list[Query], captions: dict[str, str], frames: Frames
    ) -> Outcome:
        """The records of one video's queries, in their order."""

    async def settle(self, tools: Tools, pair: PreferencePair) -> PreferencePair:
        """The record as the filters see it; one with `drop` set is not shown to them."""


METHODS: dict[str, Method] = {"temporal": temporal, "hound": hound, "llm": llm}
