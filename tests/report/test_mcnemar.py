"""The exact test and the adjustment, against values worked out by hand."""

from __future__ import annotations

import pytest

from tpo_plugin.report.mcnemar import Discordance, discordance, holm


@pytest.mark.parametrize(
    ("gained", "lost", "p"),
    [
        (0, 0, 1.0),  # nothing speaks for a difference
        (3, 3, 1.0),  # as even as can be
        (1, 0, 2 * 1 / 2),  # one toss always falls on one side
        (5, 0, 2 * 1 / 2**5),
        (8, 2, 2 * (1 + 10 + 45) / 2**10),  # 0, 1 or 2 heads of 10: C(10, 0) + C(10, 1) + C(10, 2)
        (2, 8, 2 * (1 + 10 + 45) / 2**10),
        (4, 3, 1.0),  # 2 * (1 + 7 + 21 + 35) / 2^7 = 1
    ],
)
def test_p_is_twice_the_tail_of_a_fair_coin(gained: int, lost: int, p: float) -> None:
    assert Discordance(gained, lost).p == pytest.approx(p, rel=1e-12)


def test_thousands_of_questions_neither_overflow_nor_vanish() -> None:
    # 300 tosses of 3,640 off the middle are 300 / (sqrt(3640) / 2) = 9.94 standard deviations: 2 * P(Z > 9.94) = 2.8e-23.
    assert 1e-24 < Discordance(2120, 1520).p < 1e-22
    assert Discordance(1500, 1500).p == 1.0


def test_only_questions_that_change_count() -> None:
    first, second = [1, 1, 0, 0, 0, 1], [1, 0, 1, 1, 0, 1]
    assert discordance(first, second) == Discordance(gained=2, lost=1)
    with pytest.raises(ValueError, match="same questions"):
        discordance([1], [1, 0])


def test_holm_by_hand() -> None:
    # Sorted 0.01, 0.03, 0.04 times 3, 2, 1 = 0.03, 0.06, 0.04: never below the one before.
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]  # never above 1
    assert holm([]) == []
