"""Needle results: side by side, their difference, and what is unreadable."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tpo_plugin.errors import TPOError
from tpo_plugin.records import write_json
from tpo_plugin.report.needle import MOST_MAPS, gained, load_all, section
from tpo_plugin.report.papers import papers

Writer = Callable[..., Path]


def test_two_models_and_their_difference_for_each_kind_of_score(needle: Path) -> None:
    loaded = load_all({"run": needle})
    html = section(loaded, papers())
    for name in (
        "base, teacher-forced",
        "tpo, teacher-forced",
        "tpo \u2212 base, teacher-forced",
        "base, generated",
        "tpo, generated",
    ):
        assert f"<title>{name}</title>" in html
    assert html.count("<svg") == 6
    cells = json.loads((needle / "results.json").read_text())["models"]["tpo"]["cells"]
    mean = sum(cell["generated"] for cell in cells) / len(cells)
    assert f'<td class="number">{mean:.3f}</td>' in html
    # The published mean of LongVA stands in the same column as the measured teacher-forced ones.
    assert '<th scope="row">LongVA-7B, published</th>' in html
    assert '<td class="number">0.909</td><td class="number">\u2013</td>' in html


def test_difference_only_where_both_were_measured() -> None:
    first = [(8, 0.0, 0.5), (16, 0.0, 1.0)]
    second = [(16, 0.0, 0.25), (32, 0.0, 1.0)]
    assert gained(first, second) == [(16, 0.0, -0.75)]


def test_a_difference_has_no_more_digits_than_its_scores() -> None:
    assert gained([(8, 0.0, 0.1)], [(8, 0.0, 0.3)]) == [(8, 0.0, 0.2)]  # 0.3 - 0.1 is 0.19999999999999998


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("haystack", {"digest": "bb"}, "another haystack than one"),
        ("needles", [{"shown": "2", "question": "?", "answer": "A"}], "other needles than one"),
    ],
)
def test_what_was_not_asked_alike_has_no_difference(
    key: str, value: Any, why: str, write_needle: Writer, tmp_path: Path
) -> None:
    """The order of the needles and their names do not count: what is shown and asked does."""
    needles = [{"name": "x", "shown": shown, "question": "?", "answer": "A"} for shown in ("1", "2")]
    facts = {"haystack": {"digest": "aa"}, "needles": needles}
    renamed = facts | {"needles": [one | {"name": "y"} for one in needles[::-1]]}
    folders = {name: write_needle(tmp_path / name, {name: 8}) for name in ("one", "two", "three")}
    for name, known in (("one", facts), ("two", renamed), ("three", facts | {key: value})):
        results = json.loads((folders[name] / "results.json").read_text())
        write_json(folders[name] / "results.json", results | known)
    html = section(load_all(folders), [])
    assert f"No difference is drawn for three: {why}." in html
    assert "<title>two \u2212 one, generated</title>" in html
    assert "three \u2212 one" not in html


def test_grids_without_a_common_cell_have_no_difference(write_needle: Writer, tmp_path: Path) -> None:
    one = write_needle(tmp_path / "one", {"base": 8}, frames=(8,))
    two = write_needle(tmp_path / "two", {"base": 16}, frames=(16,))
    loaded = load_all({"one": one, "two": two})
    assert [model.label for model in loaded] == ["one: base", "two: base"]
    html = section(loaded, [])
    assert "No difference is drawn for two: base: no cell in common with one: base." in html
    assert html.count("<svg") == 4


def test_settings_that_differ_are_listed(write_needle: Writer, tmp_path: Path) -> None:
    folders = {name: write_needle(tmp_path / name, {name: 8}) for name in ("one", "two")}
    results = json.loads((folders["two"] / "results.json").read_text())
    write_json(folders["two"] / "results.json", results | {"dtype": "bfloat16"})
    assert "two: dtype: float32 -&gt; bfloat16" in section(load_all(folders), [])


def test_two_models_of_one_folder_may_have_been_shown_differently(needle: Path, tmp_path: Path) -> None:
    results = json.loads((needle / "results.json").read_text())
    for label, mode in (("base", "average"), ("tpo", "bilinear")):
        results["models"][label]["wrapper"] = {"mm_spatial_pool_mode": mode}
    write_json(tmp_path / "results.json", results)
    html = section(load_all({"": tmp_path}), [])
    assert "Settings that differ from those of base (1)" in html
    assert "tpo: wrapper.mm_spatial_pool_mode: average -&gt; bilinear" in html


def test_many_models_do_not_make_the_page_grow_without_end(write_needle: Writer, tmp_path: Path) -> None:
    html = section(load_all({"": write_needle(tmp_path, {f"m{at}": 8 for at in range(MOST_MAPS + 2)})}), [])
    assert html.count("<svg") == 2 * (2 * MOST_MAPS - 1)
    assert "Not drawn: m5 and m6; their means are above." in html


@pytest.mark.parametrize(
    "cells",
    [
        [],
        [{"frames": 8, "depth": 0.0}],
        [{"frames": 8, "depth": 0.0, "teacher_forced": 50.0, "generated": 50.0, "n": 5}],
        [{"frames": 8, "depth": 0.0, "teacher_forced": 0.5, "generated": 0.5, "n": 5}] * 2,
    ],
)
def test_unusable_cells_are_an_error_that_names_the_file(cells: list[dict[str, Any]], tmp_path: Path) -> None:
    write_json(tmp_path / "results.json", {"models": {"base": {"cells": cells}}})
    with pytest.raises(TPOError, match=r"results\.json has a model without usable cells .*; run `tpo needle` again"):
        load_all({"": tmp_path})


def test_other_results_are_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "results.json", {"cells": []})
    with pytest.raises(TPOError, match=r"results\.json names no models; run `tpo needle` again"):
        load_all({"": tmp_path})
