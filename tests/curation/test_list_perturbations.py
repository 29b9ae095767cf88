"""Perturbed lists: the kept places and their order for any length and difficulty, always changed, fixed by the seed."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tpo_plugin.curation.perturbations.lists import BUILT_IN, perturb
from tpo_plugin.curation.shot_groups import ShotList, cosines
from tpo_plugin.curation.shots import Shot
from tpo_plugin.errors import RecipeError, TPOError

LEVELS = (2, 4, 8, 16)
DROPS, MOVES = ("drop", "drop_similar", "drop_group"), ("shuffle", "reverse")


def places(count: int, seed: int = 0, groups: int = 6) -> ShotList:
    """A list with random groups; places of one group look alike."""
    rng = np.random.default_rng([count, seed])
    labels = rng.integers(groups, size=count)
    features = np.eye(groups)[labels] + rng.normal(0, 0.1, (count, groups))
    shots = tuple(Shot(float(index), index + 1.0) for index in range(count))
    return ShotList(shots, tuple(labels.tolist()), cosines(features), ((),) * count)


def random_cases(many: int = 150) -> list[tuple[ShotList, int]]:
    rng = random.Random(0)
    return [(places(rng.randint(2, 40), seed), seed) for seed in range(many)]


def runs(order: tuple[int, ...]) -> list[list[int]]:
    """The order cut where the next place is not the one that follows in the true list."""
    found = [[order[0]]]
    for one, other in pairwise(order):
        if other == one + 1:
            found[-1].append(other)
        else:
            found.append([other])
    return found


@pytest.mark.parametrize("name", DROPS)
def test_drop_keeps_the_papers_number_in_order(name: str) -> None:
    for shots, seed in random_cases():
        before: set[int] = set(range(len(shots)))
        for level in LEVELS:
            order = perturb(name, shots, level, random.Random(seed))
            assert order is not None
            assert len(order) == math.ceil(len(shots) / level) < len(shots)
            assert list(order) == sorted(set(order))
            assert set(order) <= before, "from one seed a larger difficulty drops what a smaller one drops, and more"
            before = set(order)
            assert order == perturb(name, shots, level, random.Random(seed))


@pytest.mark.parametrize("name", MOVES)
def test_moves_keep_every_place_and_whole_blocks(name: str) -> None:
    for shots, seed in random_cases():
        for level in LEVELS:
            order = perturb(name, shots, level, random.Random(seed))
            assert order is not None
            assert sorted(order) == list(range(len(shots)))
            assert list(order) != sorted(order)
            size = max(1, len(shots) // level)
            assert all(run[0] % size == 0 for run in runs(order)), "a block that moved starts where a block starts"
            assert all(len(run) >= size or run[-1] == len(shots) - 1 for run in runs(order))
            assert order == perturb(name, shots, level, random.Random(seed))


def test_by_hand() -> None:
    # 16 shots: at r = 16 each stands alone, at r = 8 they go in pairs, at r = 2 in halves.
    assert perturb("reverse", places(16), 16, random.Random(0)) == tuple(range(15, -1, -1))
    pairs = tuple(place for start in range(14, -1, -2) for place in (start, start + 1))
    assert perturb("reverse", places(16), 8, random.Random(0)) == pairs
    halves = (*range(8, 16), *range(8))
    assert perturb("reverse", places(16), 2, random.Random(0)) == halves
    assert perturb("shuffle", places(16), 2, random.Random(0)) == halves, "two blocks know no other order"
    # 7 shots at r = 2: blocks of 3, 3 and 1. At r = 4 one shot a block.
    assert perturb("reverse", places(7), 2, random.Random(0)) == (6, 3, 4, 5, 0, 1, 2)
    assert perturb("reverse", places(7), 4, random.Random(0)) == (6, 5, 4, 3, 2, 1, 0)


def disturbance(order: Sequence[int], count: int) -> int:
    """How much of a list of `count` places `order` destroys: steps from a place to the next one that it has no more.

    Of the `count` - 1 steps from a place to the next one in the true list, those that are not steps in `order`. 0 for
    the true list.
    """
    kept = sum(other == one + 1 for one, other in pairwise(order))
    return count - 1 - kept


def test_difficulty_is_monotone() -> None:
    """By the number of lost steps from place to place: drop and reverse in each list, shuffle (random) in the mean."""
    lost: Counter[int] = Counter()
    for shots, seed in random_cases():
        count = len(shots)
        assert disturbance(range(count), count) == 0
        for name in (*DROPS, "reverse"):
            orders = [perturb(name, shots, level, random.Random(seed)) for level in LEVELS]
            losses = [disturbance(order, count) for order in orders if order]
            assert len(losses) == len(LEVELS)
            assert losses == sorted(losses), f"{name}, {count} places"
            assert losses[0] >= 1
        for level in LEVELS:
            moved = perturb("shuffle", shots, level, random.Random(seed))
            assert moved
            assert 1 <= disturbance(moved, count) <= math.ceil(count / max(1, count // level)) - 1
            lost[level] += disturbance(moved, count)
    assert lost[2] < lost[4] < lost[8] < lost[16]
    assert disturbance((0, 1, 2), 4) == 1
    assert disturbance((3, 2, 1, 0), 4) == 3
    assert disturbance((2, 3, 0, 1), 4) == 1


def test_shuffle_never_gives_the_true_order_and_gives_all_others() -> None:
    rng = random.Random(0)
    seen = Counter(perturb("shuffle", places(3), 16, rng) for _ in range(600))
    assert set(seen) == {(0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)}
    assert min(seen.values()) > 60, "each of five about 120 times"


def test_drop_is_uniform() -> None:
    rng = random.Random(0)
    kept = Counter(place for _ in range(800) for place in perturb("drop", places(8), 2, rng) or ())
    assert all(330 < kept[place] < 470 for place in range(8)), kept  # 400 expected, standard deviation 14


def test_drop_by_group_and_by_similarity() -> None:
    """Eight places in four groups, half of them dropped: whole groups go, alike places mostly go together."""
    labels = (0, 1, 2, 3, 0, 1, 2, 3)
    shots = ShotList(tuple(Shot(i, i + 1) for i in range(8)), labels, cosines(np.eye(4)[list(labels)]), ((),) * 8)
    partners: Counter[str] = Counter()
    for name in DROPS:
        for seed in range(200):
            kept = perturb(name, shots, 2, random.Random(seed))
            assert kept is not None
            partners[name] += sum((place + 4) % 8 in kept for place in kept)
    assert partners["drop_group"] == partners["drop_similar"] == 200 * 4
    assert partners["drop"] < 200 * 2.2  # each of the 4 has its partner among the other 3 of 7: 12 / 7 a list
    # Where similarity says nothing more (only one of a group is left), any place may go next.
    assert len({perturb("drop_similar", shots, 8, random.Random(seed)) for seed in range(60)}) > 4


@pytest.mark.parametrize("name", BUILT_IN)
def test_impossible(name: str) -> None:
    assert perturb(name, places(1), 16, random.Random(0)) is None
    assert perturb(name, places(9), 1, random.Random(0)) is None, "r = 1 keeps all, in one block"
    assert perturb(name, places(2), 2, random.Random(0)) is not None
    with pytest.raises(ValueError, match="1 or more"):
        perturb(name, places(9), 0, random.Random(0))


def test_third_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_lists.py").write_text(
        "def rotate(shots, difficulty, rng):\n    return [*range(1, len(shots)), 0]\n"
        "def same(shots, difficulty, rng):\n    return range(len(shots))\n"
        "def twice(shots, difficulty, rng):\n    return [0, 0]\n"
        "def beyond(shots, difficulty, rng):\n    return [len(shots)]\n"
        "def empty(shots, difficulty, rng):\n    return []\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert perturb("own_lists:rotate", places(4), 2, random.Random(0)) == (1, 2, 3, 0)
    assert perturb("own_lists:same", places(4), 2, random.Random(0)) is None
    for name in ("twice", "beyond", "empty"):
        with pytest.raises(TPOError, match=f"own_lists:{name}` gave"):
            perturb(f"own_lists:{name}", places(4), 2, random.Random(0))
    with pytest.raises(RecipeError, match="drop, drop_similar, drop_group, shuffle, reverse"):
        perturb("rotate", places(4), 2, random.Random(0))
