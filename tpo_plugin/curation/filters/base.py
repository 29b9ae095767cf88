"""What a filter is given and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from tpo_plugin.llm import ChatClient
from tpo_plugin.options import FilterOptions
from tpo_plugin.records import PreferencePair


@dataclass(frozen=True)
class Context:
    """What filters may use beside the pair."""

    options: FilterOptions
    llm: ChatClient


@dataclass(frozen=True)
class Verdict:
    """`drop` is the reason, None to keep; `says` is written into the pair's verdicts."""

    drop: str | None = None
    says: dict[str, str] = field(default_factory=dict)


class Filter(Protocol):
    """One rule."""

    async def __call__(self, pair: PreferencePair, context: Context) -> Verdict: ...
