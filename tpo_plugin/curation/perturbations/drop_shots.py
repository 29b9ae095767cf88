"""Drop on a list of shots: which places are left out. `drop` beside it does the same to a video's time.

All three forms keep ceil(N / r) of N places (the paper's number; the released code keeps max(1, floor(N / r))).
"""

from __future__ import annotations

import random

from tpo_plugin.curation.shot_groups import ShotList


def drop_shots(shots: ShotList, difficulty: int, rng: random.Random) -> tuple[int, ...] | None:
    """Each place is as likely to go as any other."""
    return _without(rng.sample(range(len(shots)), len(shots)), difficulty)


def drop_similar(shots: ShotList, difficulty: int, rng: random.Random) -> tuple[int, ...] | None:
    """What looks alike goes together: the first place at random, each further one with a chance in proportion to its
    mean similarity to those that are gone (a negative one counts as 0)."""
    left, gone = list(range(len(shots))), list[int]()
    while left:
        chances = [max(0.0, float(shots.similarity[place, gone].mean())) if gone else 1.0 for place in left]
        [place] = rng.choices(left, chances if sum(chances) > 0 else None)
        left.remove(place)
        gone.append(place)
    return _without(gone, difficulty)


def drop_group(shots: ShotList, difficulty: int, rng: random.Random) -> tuple[int, ...] | None:
    """Groups go as wholes, one after another, as far as the number allows: what is shown again and again is gone."""
    groups = list(dict.fromkeys(shots.groups[place] for place in rng.sample(range(len(shots)), len(shots))))
    gone = []
    for group in groups:
        members = [place for place, label in enumerate(shots.groups) if label == group]
        gone += rng.sample(members, len(members))
    return _without(gone, difficulty)


def _without(gone: list[int], difficulty: int) -> tuple[int, ...] | None:
    """The places in their order without the first of `gone` (all places, as they go); None if none has to go."""
    kept = -(-len(gone) // difficulty)
    return tuple(sorted(gone[len(gone) - kept :])) if kept < len(gone) else None
