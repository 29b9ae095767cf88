from __future__ import annotations

import math

import pytest

from tpo_plugin.evaluation.bootstrap import accuracy, difference, intervals


def test_all_right_leaves_no_doubt():
    interval = accuracy([1] * 30)
    assert (interval.value, interval.low, interval.high, interval.n) == (1.0, 1.0, 1.0, 30)


def test_two_questions():
    # Resampled means are 0, 1/2, 1 with probability 1/4, 1/2, 1/4: both ends hold more than 2.5 %.
    interval = accuracy([0, 1])
    assert (interval.value, interval.low, interval.high) == (0.5, 0.0, 1.0)


def test_width_is_the_binomial_one():
    interval = accuracy([0, 1] * 200)
    expected = 1.96 * math.sqrt(0.5 * 0.5 / 400)
    assert interval.high - interval.value == pytest.approx(expected, abs=0.004)
    assert interval.value - interval.low == pytest.approx(expected, abs=0.004)


def test_groups_are_resampled_whole():
    # 100 videos with 4 equal answers each are worth 100 questions, not 400.
    correct = [video % 2 for video in range(100) for _ in range(4)]
    videos = [video for video in range(100) for _ in range(4)]
    expected = 1.96 * math.sqrt(0.5 * 0.5 / 100)
    assert accuracy(correct, videos).high - 0.5 == pytest.approx(expected, abs=0.01)
    assert accuracy(correct).high - 0.5 == pytest.approx(expected / 2, abs=0.01)


def test_groups_of_unequal_size_weigh_by_their_questions():
    # a a -> 1/1, a b -> 1/4, b b -> 0/3 with probability 1/4, 1/2, 1/4.
    interval = accuracy([1, 0, 0, 0], ["a", "b", "b", "b"])
    assert (interval.value, interval.low, interval.high) == (0.25, 0.0, 1.0)


def test_difference_is_paired():
    first = [0, 1] * 50
    second = [1, 1] * 10 + [0, 1] * 40  # 10 of 100 questions are won, none is lost
    same = difference(first, first)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    won = difference(first, second)
    assert won.value == pytest.approx(0.1)
    # Each question's difference is 1 with probability 0.1: far narrower than two unpaired accuracies (0.139).
    assert won.high - won.value == pytest.approx(1.96 * math.sqrt(0.1 * 0.9 / 100), abs=0.015)
    assert won.low > 0


def test_columns_see_the_same_resamples():
    correct = [[0, 1, 1, 0, 1, 1], [1, 1, 1, 0, 0, 0], [1, 0, 0, 0, -1, -1]]
    videos = ["a", "a", "b", "b", "b", "c"]
    assert intervals(correct, videos, seed=5) == [accuracy(column, videos, seed=5) for column in correct]
    # The third column is the second minus the first: so are its resampled means, hence their ends are those of `difference`.
    assert intervals(correct, videos)[2] == difference(correct[0], correct[1], videos)


def test_seed_decides():
    correct = [0, 1, 1] * 40
    assert accuracy(correct, seed=3) == accuracy(correct, seed=3)
    assert accuracy(correct, seed=3, resamples=300) != accuracy(correct, seed=4, resamples=300)


@pytest.mark.parametrize(
    "bad", [lambda: accuracy([]), lambda: difference([1], [1, 0]), lambda: accuracy([1, 0], ["a"])]
)
def test_what_has_no_answer_is_refused(bad):
    with pytest.raises(ValueError, match="question"):
        bad()
