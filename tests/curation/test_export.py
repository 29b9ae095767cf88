"""`max_pairs`: as many as asked, the kinds in the recipe's ratio, whatever the order of the videos."""

from __future__ import annotations

from collections import Counter

import pytest

from tpo_plugin.curation.export import limit
from tpo_plugin.records import Perturbation, PreferencePair, Query, Video


def pairs(localized: int, comprehensive: int, dropped: int = 3) -> list[PreferencePair]:
    video, cut = Video("v", "v.mp4", 9.0, 25.0, 64, 64), Perturbation("drop", ((0.0, 5.0),))
    kinds = ["localized"] * localized + ["comprehensive"] * comprehensive
    kept = [
        PreferencePair(f"p{i}", video, Query(f"q{i}", kind, "object", "?"), cut, "a", "b")
        for i, kind in enumerate(kinds)
    ]
    gone = [
        PreferencePair(f"d{i}", video, Query(f"e{i}", "localized", "object", "?"), cut, "a", "b", drop="identical")
        for i in range(dropped)
    ]
    return kept + gone


def kept_kinds(limited: list[PreferencePair]) -> Counter[str]:
    return Counter(pair.query.kind for pair in limited if pair.drop is None)


@pytest.mark.parametrize(
    ("most", "ratio", "expected"),
    [
        (10, {"localized": 5, "comprehensive": 5}, {"localized": 5, "comprehensive": 5}),
        (10, {"localized": 8, "comprehensive": 2}, {"localized": 8, "comprehensive": 2}),
        (10, {"localized": 0, "comprehensive": 10}, {"comprehensive": 10}),
        (5, {"localized": 1, "comprehensive": 1}, {"localized": 3, "comprehensive": 2}),
        (1, {"localized": 1, "comprehensive": 1}, {"localized": 1}),
        (7, {"localized": 1, "comprehensive": 2}, {"localized": 2, "comprehensive": 5}),
        (100, {"localized": 5, "comprehensive": 5}, {"localized": 20, "comprehensive": 20}),
    ],
)
def test_ratio(most: int, ratio: dict[str, float], expected: dict[str, int]) -> None:
    made = limit(pairs(20, 20), most, ratio)
    assert kept_kinds(made) == expected
    assert Counter(pair.drop for pair in made)["identical"] == 3
    assert Counter(pair.drop for pair in made)["over_max_pairs"] == 40 - sum(expected.values())
    assert [pair.id for pair in made] == [pair.id for pair in pairs(20, 20)], "in the old order"


def test_order_of_the_videos_does_not_matter() -> None:
    ratio = {"localized": 1.0, "comprehensive": 1.0}
    one = {pair.id for pair in limit(pairs(20, 20), 8, ratio) if not pair.drop}
    other = {pair.id for pair in limit(pairs(20, 20)[::-1], 8, ratio) if not pair.drop}
    assert one == other
    more = {pair.id for pair in limit(pairs(20, 20), 16, ratio) if not pair.drop}
    assert one < more, "a larger set holds the smaller one"


def test_no_limit() -> None:
    assert limit(pairs(2, 2), None, {"localized": 1}) == pairs(2, 2)
