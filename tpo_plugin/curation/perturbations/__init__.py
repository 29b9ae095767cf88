"""Perturbations: what the model is shown for the rejected response. One strategy a file.

A strategy is a function `(video, query, options, rng) -> Perturbation` that names the spans which are left of the video.
"""

from __future__ import annotations

import random
from typing import Protocol

from tpo_plugin.curation.perturbations.cut_segment import cut_segment
from tpo_plugin.curation.perturbations.drop import drop
from tpo_plugin.options import PerturbationOptions
from tpo_plugin.plugins import find
from tpo_plugin.records import Perturbation, Query, Video


class Strategy(Protocol):
    """Makes the rejected side's input for one query; `rng` is seeded by the query."""

    def __call__(
        self, video: Video, query: Query, options: PerturbationOptions, rng: random.Random
    ) -> Perturbation: ...


BUILT_IN: dict[str, Strategy] = {"cut_segment": cut_segment, "drop": drop}


def find_strategy(name: str) -> Strategy:
    """The built-in strategy `name`, or the one at a dotted `package.module:function`."""
    strategy: Strategy = find(name, BUILT_IN, "perturbation")
    return strategy
