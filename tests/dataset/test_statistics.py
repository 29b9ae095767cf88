from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tpo_plugin.dataset.card import card
from tpo_plugin.dataset.pairs import Row, to_llava
from tpo_plugin.dataset.statistics import length_class, statistics, stats_text
from tpo_plugin.options import TASK_MIX
from tpo_plugin.records import write_json

FUNNEL = [
    {"stage": "probe", "in": 10, "out": 8, "dropped": {"empty_file": 1, "truncated": 1}},
    {"stage": "filter", "in": 300, "out": 3, "dropped": {f"a_rather_long_reason_{n}": n for n in range(1, 13)}},
]


def test_counts_of_the_rows(example_rows: list[Row]):
    counts = statistics(example_rows)
    assert (counts["rows"], counts["videos"]) == (3, 2)
    assert counts["tasks"] == {"object": 2, "spatial": 1}
    assert counts["kinds"] == {"localized": 2, "comprehensive": 1}
    # one video of 40 s, one of 200 s, each counted once
    assert counts["lengths"] == {"<1": 1, "1-3": 0, "3-10": 1, ">10": 0}
    assert counts["perturbations"] == {"cut_segment": 2, "drop": 1}
    # chosen: 'A red cup stands there.' 5 words, 'On the left side.' 4, '{"b": 1}' 2
    assert counts["responses"]["chosen"] == {"mean": pytest.approx(11 / 3), "median": 4, "longest": 5}
    # rejected: 1, 3 and 1 words
    assert counts["responses"]["rejected"] == {"mean": pytest.approx(5 / 3), "median": 1, "longest": 3}


@pytest.mark.parametrize(
    ("seconds", "name"), [(59.9, "<1"), (60, "1-3"), (179, "1-3"), (180, "3-10"), (600, "3-10"), (600.1, ">10")]
)
def test_length_classes(seconds: float, name: str):
    assert length_class(seconds) == name


def test_rows_without_provenance_count_as_unknown():
    counts = statistics([Row("1", "a.mp4", "What?", "yes", "no")])
    assert counts["tasks"] == counts["kinds"] == {"unknown": 1}
    assert counts["lengths"] == {"<1": 0, "1-3": 0, "3-10": 0, ">10": 0, "unknown": 1}


def test_the_text_shows_the_funnel_and_the_papers_mix(curated: Path):
    llm = {"calls": 12, "cached": 3, "tokens_in": 400, "tokens_out": 50, "cost": 0.0}
    write_json(curated / "statistics.json", {"funnel": FUNNEL, "llm": llm})
    text = stats_text(curated)
    lines = [line.split() for line in text.splitlines()]
    assert max(map(len, text.splitlines())) <= 100
    assert ["object", "2", "66.7", "14.9"] in lines
    assert ["spatial", "1", "33.3", "13.5"] in lines
    assert ["causal", "0", "0.0", "11.1"] in lines
    assert all(name in text for name in TASK_MIX)
    assert ["probe", "10", "8", "empty_file", "1,", "truncated", "1"] in lines
    assert all(f"a_rather_long_reason_{n} {n}" in text for n in range(1, 13))
    assert "3 pairs of 2 videos" in text
    assert "LLM: calls 12, cached 3" in text


def test_a_file_has_no_funnel(curated: Path):
    text = stats_text(curated / "pairs.json")
    assert "Funnel" not in text
    assert "3 pairs of 2 videos" in text


def test_the_funnel_is_shown_where_nothing_was_kept(curated: Path):
    write_json(curated / "statistics.json", {"funnel": FUNNEL})
    write_json(curated / "pairs.json", [])
    text = stats_text(curated)
    assert "0 pairs of 0 videos" in text
    assert "truncated 1" in text


def caption_row(name: str, level: float) -> Row:
    made = {"name": name, "kept": [[0.0, 1.0]], "difficulty": level}
    says: dict[str, Any] = {"kind": "caption", "task": "captioning", "perturbation": made, "seconds": 70.0}
    return Row(f"{name} {level}", "a.mp4", "Describe.", "a, b", "b", says)


CAPTION_ROWS = [caption_row(*one) for one in (("drop", 2.0), ("drop", 16.0), ("shuffle", 16.0), ("drop", 16.0))]


def test_pairs_with_a_difficulty_are_counted_by_it(example_rows: list[Row]):
    assert statistics(CAPTION_ROWS)["difficulties"] == {
        "drop": {"16": 2, "2": 1},
        "shuffle": {"16": 1, "2": 0},
    }
    assert "difficulties" not in statistics(example_rows[:2])


def test_the_tables_of_temples_pairs(curated: Path):
    write_json(curated / "pairs.json", [to_llava(row) for row in CAPTION_ROWS])
    shots = {"videos": 40, "after_shots": 10, "after_groups": 1}
    write_json(curated / "statistics.json", {"funnel": FUNNEL, "shots": shots})
    text = stats_text(curated)
    lines = [line.split() for line in text.splitlines()]
    assert ["videos", "that", "can", "be", "read", "40", "100.0", "47112", "100.0"] in lines
    # 10,915 / 47,112 and 2,195 / 47,112, as in the paper
    assert ["left", "by", "the", "rules", "on", "shots", "10", "25.0", "10915", "23.2"] in lines
    assert ["left", "by", "the", "rules", "on", "groups", "1", "2.5", "2195", "4.7"] in lines
    assert ["r", "=", "16", "r", "=", "2", "all"] in lines
    assert ["drop", "2", "1", "3"] in lines
    assert ["all", "3", "1", "4"] in lines
    assert ["captioning", "4", "100.0"] in lines
    assert not [name for name in TASK_MIX if name in text]
    written = card(CAPTION_ROWS, {"shots": shots})
    assert "arXiv 2503.16929" in written
    assert "arXiv 2501.13919" not in written
    assert "beside the TPO paper's" not in written
    for table in ("rules on groups", "r = 16"):
        assert table in written


def test_a_curation_of_lists_that_left_nothing_has_no_mix_of_tasks(curated: Path):
    write_json(
        curated / "statistics.json", {"funnel": FUNNEL, "shots": {"videos": 3, "after_shots": 0, "after_groups": 0}}
    )
    write_json(curated / "pairs.json", [])
    text = stats_text(curated)
    assert ["captioning", "0", "-"] in [line.split() for line in text.splitlines()]
    assert "temporal_reasoning" not in text


def test_a_set_of_both_kinds_keeps_the_papers_mix(example_rows: list[Row]):
    written = card([*example_rows, *CAPTION_ROWS])
    for part in ("arXiv 2503.16929", "arXiv 2501.13919", "beside the TPO paper's", "temporal_reasoning"):
        assert part in written
    assert "rules on groups" not in written
