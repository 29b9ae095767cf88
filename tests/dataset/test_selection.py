from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pytest

from tpo_plugin.dataset.pairs import Row
from tpo_plugin.dataset.selection import at_levels, check_ratio, difficulty_of, select
from tpo_plugin.errors import RecipeError, TPOError

ROWS = [(f"row {place}", ("localized", "comprehensive", "caption")[place % 3]) for place in range(90)]


def drawn(most: int | None, ratio: Mapping[str, float] | None = None, seed: int = 0) -> list[tuple[str, str]]:
    return select(ROWS, lambda row: row[0], lambda row: row[1], most, ratio, seed)


def test_no_wish_takes_all() -> None:
    assert drawn(None) == ROWS


@pytest.mark.parametrize(
    "ratio", [None, {"localized": 5, "comprehensive": 5}, {"localized": 1, "comprehensive": 2, "caption": 4}]
)
def test_every_draw_is_part_of_the_next_larger_one(ratio: dict[str, float] | None) -> None:
    before: set[tuple[str, str]] = set()
    for most in range(1, 41):
        rows = drawn(most, ratio)
        assert len(rows) == most
        assert before < set(rows)
        assert rows == [row for row in ROWS if row in rows], "in their order"
        before = set(rows)


@pytest.mark.parametrize(("first", "second"), [(10, 0), (8, 2), (5, 5), (2, 8), (0, 10)])
def test_the_papers_ratios(first: float, second: float) -> None:
    found = Counter(kind for _, kind in drawn(30, {"localized": first, "comprehensive": second}))
    assert (found["localized"], found["comprehensive"]) == (3 * first, 3 * second)


def test_a_ratio_alone_takes_as_many_as_it_allows() -> None:
    found = Counter(kind for _, kind in drawn(None, {"localized": 2, "comprehensive": 1}))
    assert found == {"localized": 30, "comprehensive": 15}


def test_the_seed_draws() -> None:
    assert drawn(20) == drawn(20)
    assert drawn(20) != drawn(20, seed=1)


def test_rows_of_one_name_are_still_several_rows() -> None:
    assert len(select(["same"] * 9, str, lambda row: "", 4, None, 0)) == 4


def test_too_few_are_counted() -> None:
    with pytest.raises(TPOError, match="91 pairs are asked for and there are 90"):
        drawn(91)
    with pytest.raises(
        TPOError, match=r"61 pairs in the ratio localized 5 : comprehensive 5 .* 30 localized, 30 comprehensive"
    ):
        drawn(61, {"localized": 5, "comprehensive": 5})
    with pytest.raises(TPOError, match="pairs in the ratio unheard 1 are asked for and there are 0 unheard"):
        drawn(None, {"unheard": 1})


@pytest.mark.parametrize("ratio", [{}, {"localized": -1, "comprehensive": 2}, {"localized": 0}])
def test_shares_that_make_no_sense(ratio: dict[str, float]) -> None:
    with pytest.raises(RecipeError, match="`ratio` needs shares of 0 or more that do not sum to 0"):
        check_ratio("ratio", ratio)


def row(perturbation: object) -> Row:
    return Row("id", "a.mp4", "What?", "yes", "no", {} if perturbation is None else {"perturbation": perturbation})


def test_the_difficulty_is_the_perturbations() -> None:
    rows = [row(one) for one in (None, "text", {"name": "cut_segment", "difficulty": None}, {"difficulty": 16})]
    assert [difficulty_of(one) for one in rows] == [None, None, None, 16.0]


def test_levels_are_taken_in_the_rows_order() -> None:
    rows = [row({"difficulty": level}) for level in (2, 16.0, 8, 2)] + [row(None)]
    assert at_levels(rows, (2.0, 16.0)) == [rows[0], rows[1], rows[3]]
    with pytest.raises(
        TPOError, match=r"no pair has difficulty 4 or 32; the data has 16 \(1 pairs\), 8 \(1 pairs\), 2 \(2 pairs\)"
    ):
        at_levels(rows, (2.0, 4.0, 32.0))
    with pytest.raises(TPOError, match="the data has no difficulties at all"):
        at_levels(rows[-1:], (16.0,))
