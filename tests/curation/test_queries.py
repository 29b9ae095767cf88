"""Queries: the draws hold the recipe's shares, the replies are read as they are meant."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from tpo_plugin.curation.queries import check_options, drafts, draw_queries, parse_query, queries_from_qa
from tpo_plugin.errors import RecipeError
from tpo_plugin.options import TASK_MIX, QueryOptions
from tpo_plugin.records import Segment, Video

SEGMENTS = [Segment("s0", 0.0, 5.0), Segment("s1", 9.0, 12.0), Segment("s2", 20.0, 25.0)]


def video(index: int) -> Video:
    return Video(f"v{index}", f"{index}.mp4", 60.0, 25.0, 64, 64)


def test_default_mix_is_the_papers() -> None:
    assert len(TASK_MIX) == 8
    assert sum(TASK_MIX.values()) == pytest.approx(98.9)  # as printed in the paper
    check_options(QueryOptions())


@pytest.mark.parametrize(("local", "whole"), [(5, 5), (8, 2), (2, 8), (10, 0), (0, 10)])
@pytest.mark.parametrize("per_video", [1, 4, 7])
def test_shares_of_each_video_and_of_all(local: float, whole: float, per_video: int) -> None:
    options = QueryOptions(per_video=per_video, ratio={"localized": local, "comprehensive": whole})
    kinds, tasks = Counter[str](), Counter[str]()
    for index in range(400):
        draws = draw_queries(video(index), SEGMENTS, options, seed=3)
        assert len(draws) == per_video
        mine = Counter(draw.kind for draw in draws)
        share = per_video * local / 10
        assert math.floor(share) <= mine["localized"] <= math.ceil(share), "as close as whole numbers allow"
        for task, count in Counter(draw.task for draw in draws).items():
            assert abs(count - per_video * TASK_MIX[task] / sum(TASK_MIX.values())) < 1
        kinds.update(mine)
        tasks.update(draw.task for draw in draws)
    # A random start leaves at most one query a video to chance: a standard deviation of at most half a query times sqrt(400).
    assert abs(kinds["localized"] - 400 * per_video * local / 10) <= 4 * 0.5 * 20
    for task, share in TASK_MIX.items():
        assert abs(tasks[task] - 400 * per_video * share / sum(TASK_MIX.values())) <= 4 * 0.5 * 20


def test_share_of_zero_is_never_drawn() -> None:
    options = QueryOptions(per_video=9, task_mix={"action": 0, "object": 1, "causal": 0}, ratio={"comprehensive": 1})
    for index in range(100):
        assert {draw.task for draw in draw_queries(video(index), [], options, 0)} == {"object"}


def test_segments_are_used_in_turn_and_only_for_localized() -> None:
    draws = draw_queries(video(0), SEGMENTS, QueryOptions(per_video=8), 0)
    localized = [draw.segment for draw in draws if draw.kind == "localized"]
    assert Counter(segment.id for segment in localized if segment) == {"s0": 2, "s1": 1, "s2": 1}
    assert all(draw.segment is None for draw in draws if draw.kind == "comprehensive")


def test_draws_depend_on_video_and_seed_only() -> None:
    options = QueryOptions(per_video=6)
    assert draw_queries(video(1), SEGMENTS, options, 0) == draw_queries(video(1), SEGMENTS, options, 0)
    ids = [
        draw.id for index in (1, 2) for seed in (0, 1) for draw in draw_queries(video(index), SEGMENTS, options, seed)
    ]
    assert len(set(ids)) == 24
    named = drafts(video(1), SEGMENTS, (), options, 0)
    assert [query.id for query in named] == [draw.id for draw in draw_queries(video(1), SEGMENTS, options, 0)]


@pytest.mark.parametrize(
    ("reply", "read"),
    [
        ("Q: What?\nA: This.", ("What?", "This.")),
        ("  q:What?  \n\n  a:   This.  ", ("What?", "This.")),
        ("**Q:** What?\n**A:** This.", ("What?", "This.")),
        ("**Q**: What?\n**A**: This.", ("What?", "This.")),
        ("- Q: What?\n- A: This.", ("What?", "This.")),
        ("Sure, here is one:\n\nQ: What?\nA: This.\n\nI hope it helps. Q: more?", ("What?", "This.")),
        ("Q: One?\nA: First.\nQ: Two?\nA: Second.", ("One?", "First.")),
        ("Q: What comes\nfirst?\nA: This,\nthen that.", ("What comes\nfirst?", "This,\nthen that.")),
        ("Q: Is it a Q: or an A: mark?\nA: Both.", ("Is it a Q: or an A: mark?", "Both.")),
        ("Q: „Was“?\nA: „Das“.", ("„Was“?", "„Das“.")),
        ("Q: 何ですか\nA: 星", ("何ですか", "星")),
        ("None", "none_appropriate"),
        ("none.", "none_appropriate"),
        ("**None**", "none_appropriate"),
        ("None. The frames show nothing that happens.", "none_appropriate"),
        ("Q: None\nA: None", "none_appropriate"),
        ("Nonetheless, no.", "query_malformed"),
        ("Q: What?", "query_malformed"),
        ("A: This.", "query_malformed"),
        ("Q:\nA: This.", "query_malformed"),
        ("Q: What?\nA:", "query_malformed"),
        ("What is shown? A star.", "query_malformed"),
        ("FAQ: see our page\nA: no", "query_malformed"),
        ("", "query_malformed"),
    ],
)
def test_replies(reply: str, read: tuple[str, str] | str) -> None:
    assert parse_query(reply) == read


def test_qa_picks() -> None:
    qa = tuple((f"Q{index}", f"A{index}") for index in range(10))
    picked = queries_from_qa(video(0), qa, QueryOptions(source="qa", per_video=4), 0)
    assert len(picked) == len({query.id for query in picked}) == 4
    assert [query.text for query in picked] == sorted(query.text for query in picked), "in the order of the set"
    assert {query.kind for query in picked} == {"comprehensive"}
    assert len(queries_from_qa(video(0), qa[:2], QueryOptions(source="qa", per_video=4), 0)) == 2
    assert queries_from_qa(video(0), (), QueryOptions(source="qa"), 0) == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (QueryOptions(ratio={"localised": 1}), "localised; known: localized, comprehensive"),
        (QueryOptions(task_mix={"counting": 1}), "counting; known: temporal_reasoning"),
        (QueryOptions(ratio={}), "do not sum to 0"),
        (QueryOptions(ratio={"localized": 0}), "do not sum to 0"),
        (QueryOptions(ratio={"localized": -1, "comprehensive": 2}), "0 or more"),
        (QueryOptions(source="qa"), "know no segment"),
    ],
)
def test_options_that_make_no_sense(options: QueryOptions, says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        check_options(options)
