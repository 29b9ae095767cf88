"""Counts of what goes into each stage, what comes out, and why the rest was dropped."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

STAGES = {
    "probe": "videos",
    "segment": "videos",
    "caption": "captions",
    "query": "queries",
    "respond": "pairs",
    "filter": "pairs",
    "export": "pairs",
}


@dataclass
class Count:
    """One stage: `entered` = `left` + the sum of `dropped`."""

    entered: int = 0
    left: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


class Funnel:
    """The counts of a run."""

    def __init__(self) -> None:
        self.counts = {stage: Count() for stage in STAGES}

    def add(self, stage: str, left: int, dropped: list[str]) -> None:
        """Count `left` records that went on and one record for each reason in `dropped`."""
        count = self.counts[stage]
        count.entered += left + len(dropped)
        count.left += left
        count.dropped.update(dropped)

    def to_json(self) -> list[dict[str, Any]]:
        """Rows for statistics.json."""
        return [
            {
                "stage": stage,
                "unit": STAGES[stage],
                "in": count.entered,
                "out": count.left,
                "dropped": dict(sorted(count.dropped.items())),
            }
            for stage, count in self.counts.items()
        ]
