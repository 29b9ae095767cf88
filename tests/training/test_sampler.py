"""The grouping sampler: pairs of one video together, everything else as shuffled as without it."""

from __future__ import annotations

from collections import Counter
from itertools import islice, pairwise

import pytest
from accelerate.data_loader import prepare_data_loader, skip_first_batches
from torch.utils.data import DataLoader

from tpo_plugin.training.sampler import GroupedSampler

VIDEOS = [f"video {index % 7}" for index in range(52)] + ["lonely", "pair", "pair"]


def order(size, epoch=0, seed=0, videos=VIDEOS):
    sampler = GroupedSampler(videos, size, seed)
    sampler.set_epoch(epoch)
    return list(sampler)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 8, 100])
def test_an_epoch_has_all_rows_once(size):
    for epoch in range(3):
        assert sorted(order(size, epoch)) == list(range(len(VIDEOS)))
    assert len(GroupedSampler(VIDEOS, size, 0)) == len(VIDEOS)


LEVELS = [-(2.0 ** (1 + index % 3)) for index in range(len(VIDEOS))]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 8, 100])
def test_levels_come_in_ascending_order(size):
    sampler, seen = GroupedSampler(VIDEOS, size, 0, LEVELS), []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        rows = list(sampler)
        assert sorted(rows) == list(range(len(VIDEOS)))
        assert [LEVELS[row] for row in rows] == sorted(LEVELS)
        seen.append(tuple(rows))
    assert len(set(seen)) == 3
    assert list(GroupedSampler(VIDEOS, size, 0, [7.0] * len(VIDEOS))) == order(size)


@pytest.mark.parametrize("size", [2, 3, 4])
def test_units_stay_whole_within_a_level(size):
    videos, levels = [f"video {row // 12}" for row in range(60)], [float(row % 3) for row in range(60)]
    del videos[-1], levels[-1]  # one level ends with less than a unit
    rows = list(GroupedSampler(videos, size, 0, levels))
    units = [rows[start : start + size] for start in range(0, len(rows), size)]
    whole = Counter(
        (videos[unit[0]], levels[unit[0]]) for unit in units if len({(videos[row], levels[row]) for row in unit}) == 1
    )
    groups = Counter(zip(videos, levels))
    assert sum(whole.values()) >= sum(count // size for count in groups.values()) - 2


def test_a_level_for_each_row():
    with pytest.raises(ValueError, match="55 rows have 1 levels"):
        GroupedSampler(VIDEOS, 2, 0, [1.0])


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_units_hold_one_video_wherever_it_has_enough_rows(size):
    for epoch in range(3):
        rows = order(size, epoch)
        units = [[VIDEOS[row] for row in rows[start : start + size]] for start in range(0, len(rows), size)]
        whole = Counter(unit[0] for unit in units if len(set(unit)) == 1 and len(unit) == size)
        for video, count in Counter(VIDEOS).items():
            assert whole[video] >= count // size


def test_short_groups_stay_whole_where_they_fit():
    # Two videos of 3 rows and two of 1: two units of 4, each a 3 and a 1.
    videos = ["a"] * 3 + ["b"] * 3 + ["c", "d"]
    for epoch in range(5):
        rows = order(4, epoch, videos=videos)
        assert (
            sorted(sorted(Counter(videos[row] for row in rows[at : at + 4]).values()) for at in (0, 4)) == [[1, 3]] * 2
        )


def test_orders_differ_between_epochs_and_seeds_and_are_the_same_again():
    orders = [tuple(order(4, epoch, seed)) for epoch in range(4) for seed in range(4)]
    assert len(set(orders)) == 16
    assert orders == [tuple(order(4, epoch, seed)) for epoch in range(4) for seed in range(4)]


def test_the_partners_of_a_row_change():
    partners = set()
    for epoch in range(10):
        rows = order(2, epoch)
        place = rows.index(0)
        partners.add(rows[place ^ 1])
    assert len(partners) > 3


def test_a_videos_groups_are_spread_over_the_epoch():
    # 100 videos of 40 rows in groups of 4: over many epochs, a video's groups lie as evenly as drawn places would.
    videos = [index % 100 for index in range(4000)]
    places = []
    for epoch in range(20):
        rows = order(4, epoch, videos=videos)
        places += [at / 4000 for at, row in enumerate(rows) if videos[row] == 0]
        units = [videos[rows[at]] for at in range(0, 4000, 4)]
        neighbours = sum(one == other for one, other in pairwise(units))
        assert neighbours < 30  # 10 expected
    assert sum(places) / len(places) == pytest.approx(0.5, abs=0.1)
    for part in range(4):
        share = sum(part / 4 <= place < (part + 1) / 4 for place in places) / len(places)
        assert share == pytest.approx(0.25, abs=0.1)


def loader(rank, epoch):
    sampler = GroupedSampler(VIDEOS, 4, 0)
    made = prepare_data_loader(DataLoader(range(len(VIDEOS)), 4, sampler=sampler), num_processes=2, process_index=rank)
    made.set_epoch(epoch)
    return sampler, made


@pytest.mark.parametrize("rank", [0, 1])
def test_ranks_have_whole_batches_and_a_resumed_one_the_same(rank):
    rows = order(4, epoch=3)
    batches = [rows[at : at + 4] for at in range(0, 48, 4)]
    _, whole = loader(rank, epoch=3)
    assert [batch.tolist() for batch in islice(whole, 6)] == batches[rank::2]
    sampler, resumed = loader(rank, epoch=0)
    resumed = skip_first_batches(resumed, 2)
    resumed.set_epoch(3)
    sampler.set_epoch(3)  # what the trainer's callback does, since accelerate does not reach it there
    assert [batch.tolist() for batch in islice(resumed, 4)] == batches[rank::2][2:]


def test_a_group_has_at_least_one_pair():
    with pytest.raises(ValueError, match="must be at least 1"):
        GroupedSampler(VIDEOS, 0, 0)
