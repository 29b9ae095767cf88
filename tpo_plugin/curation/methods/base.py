"""What a method is: the stages that differ between methods, and what the rest of a run must know of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from tpo_plugin.curation.captions import CaptionCall
from tpo_plugin.curation.funnel import Funnel
from tpo_plugin.curation.work import Outcome, Tools, Work
from tpo_plugin.folders import checkpoint_digest
from tpo_plugin.options import CurateRecipe, GeneratorOptions
from tpo_plugin.records import PreferencePair


class Method(ABC):
    """From a probed video to its candidate pairs. The stages are called in this order; each one's value is journaled, then set in `work`."""

    @abstractmethod
    async def segment(self, tools: Tools, work: Work) -> Outcome:
        """`work.cut`: the parts of the video."""

    @abstractmethod
    def plan(self, tools: Tools, work: Work) -> tuple[list[CaptionCall], set[float]]:
        """The video's caption calls, and every frame time (seconds) that captions and responses will ask for, before any of them is made."""

    @abstractmethod
    async def caption(self, tools: Tools, work: Work, calls: list[CaptionCall]) -> Outcome:
        """`work.captions`: what the calls show in words."""

    @abstractmethod
    async def query(self, tools: Tools, work: Work) -> Outcome:
        """`work.queries`."""

    @abstractmethod
    async def respond(self, tools: Tools, work: Work) -> Outcome:
        """The records of the video's queries, in their order."""

    async def settle(self, tools: Tools, pair: PreferencePair) -> PreferencePair:
        """The record as the filters see it; one with `drop` set is not shown to them."""
        return pair

    @abstractmethod
    def check(self, recipe: CurateRecipe) -> None:
        """RecipeError for what makes no sense with this method."""

    @abstractmethod
    def generators(self, recipe: CurateRecipe) -> dict[str, GeneratorOptions]:
        """Those that the run will use, as it uses them, by the name of their section: `captions.generator`, `responses`."""

    @abstractmethod
    def asks_llm(self, recipe: CurateRecipe) -> bool:
        """Whether a stage before the filters asks `llm`."""

    @abstractmethod
    def parts(self, recipe: CurateRecipe) -> dict[str, Any]:
        """What each stage depends on beside the stages before it, as plain values (see `identity`)."""

    @abstractmethod
    def shares(self, recipe: CurateRecipe) -> Mapping[str, float]:
        """The shares of the kinds of query among the exported pairs where `max_pairs` limits them."""

    def statistics(self, funnel: Funnel) -> dict[str, Any]:
        """What `statistics.json` says of this method's runs alone."""
        return {}


def generator_id(options: GeneratorOptions) -> list[Any]:
    """What a generator's replies depend on beside its prompts."""
    says: list[Any] = [options.type, options.max_new_tokens, options.temperature, options.top_p]
    if options.type == "server":
        return [*says, options.server.model]
    says += [options.model, checkpoint_digest(options.model), options.dtype, options.attn_implementation]
    return [*says, options.conv_template] if options.type == "llava" else says
