from __future__ import annotations

from pathlib import Path

import pytest

from tpo_plugin.dataset.pairs import Row
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
