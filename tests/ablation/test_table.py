"""The tables, from answers that are written down here."""

from __future__ import annotations

import statistics
from dataclasses import replace

from tpo_plugin.ablation.collect import Measured, summary_rows
from tpo_plugin.ablation.table import (
    ACCURACY_DIFFERENCE,
    DIFFERENCE,
    accuracy_tables,
    main_table,
    needle_table,
    note,
    sweep_table,
)
from tpo_plugin.report.answers import Cell, Question

# Six questions about three videos a seed; who answers which right.
RIGHT = {("base", 0): "111000", ("base", 1): "110000", ("tpo", 0): "111100", ("tpo", 1): "110011"}
FIRST, SECOND = (statistics.fmean(map(int, RIGHT["base", seed])) * 100 for seed in (0, 1))


def question(number: int) -> Question:
    kind = ("localized", "comprehensive")[number % 2]
    return Question("mlvu_dev", str(number), f"video {number // 2}", "A", kind=kind, duration=None)


def cell(right: str, frames: int = 48, task: str = "mlvu_dev") -> Cell:
    """The benchmark's own score is half a point above the accuracy, to tell the two apart."""
    answers = {question(number): int(mark) for number, mark in enumerate(right)}
    score = 100 * statistics.fmean(answers.values()) + 0.5
    categories = {"count": {"value": 50.0, "low": 0.0, "high": 100.0, "n": 2}}
    return Cell(frames, task, {"score": score, "n": 6, "metric": "m", "categories": categories}, answers)


def measured(name: str, seed: int, right: str, frames: int = 48, main: bool = True, data: str = "") -> Measured:
    return Measured(name, seed, cell(right, frames), main, data or f"of seed {seed}")


def cells() -> list[Measured]:
    found = [measured(name, seed, right) for (name, seed), right in RIGHT.items()]
    return [*found, *(measured("tpo", seed, "111111", 96, main=False) for seed in (0, 1))]


def lines(table: str) -> dict[str, list[str]]:
    """The rows' cells; a difference goes by the model of the row before it."""
    found: dict[str, list[str]] = {}
    model = ""
    for line in table.splitlines():
        name, *rest = (part.strip() for part in line.strip("|").split("|"))
        if name in (DIFFERENCE, ACCURACY_DIFFERENCE):
            name = f"{model} {name}"
        else:
            model = name
        found[name] = rest
    return found


def spread(*values: float) -> str:
    return f"{statistics.fmean(values):.1f} \u00b1 {statistics.stdev(values):.1f}"


def test_own_scores_and_accuracies_over_seeds() -> None:
    found = lines(main_table(cells(), "base", {"tpo": "240"}))
    assert found["model"] == ["pairs", "mlvu_dev score", "\u2212\u00a0base", "accuracy (n 12)", "\u2212\u00a0base"]
    assert found["base"] == ["", spread(FIRST + 0.5, SECOND + 0.5), "", spread(FIRST, SECOND), ""]
    own, gain, accuracy, difference = found["tpo"][1:]
    assert (own, accuracy) == ("67.2 \u00b1 0.0", "66.7 \u00b1 0.0")
    assert gain == "+" + spread(4 / 6 * 100 - FIRST, 4 / 6 * 100 - SECOND)
    # of the six videos one has one more right answer and one of them two more: 3 of 12 questions
    assert difference.startswith("+25.0 (")


def test_a_model_that_was_asked_less_says_so() -> None:
    """Its accuracy is over other questions than the rest's, so it is no level to compare."""
    asked = [*cells(), measured("short", 0, "110")]
    for table in (main_table(asked, "base", {}), accuracy_tables(asked, "base")[0]):
        found = lines(table)
        assert any("(n 12)" in column for column in found["model"])
        assert "66.7 (n 3)" in found["short"]
        assert not any("(n " in column for column in found["tpo"])


def test_accuracy_by_kind_of_question() -> None:
    by_task, by_kind = map(lines, accuracy_tables(cells(), "base"))  # no length of video is known
    assert by_task["model"] == ["mlvu_dev (n 12)"]
    assert by_kind["model"] == ["localized (n 6)", "comprehensive (n 6)"]
    localized = [100 * statistics.fmean(int(RIGHT["tpo", seed][place]) for place in (0, 2, 4)) for seed in (0, 1)]
    assert by_kind["tpo"][0] == spread(*localized)
    assert by_kind[f"tpo {DIFFERENCE}"][0].startswith(f"+{statistics.fmean(localized) - 50:.1f} (")
    assert f"base {DIFFERENCE}" not in by_kind


def test_a_difference_is_over_the_questions_that_both_answered() -> None:
    one = [measured("base", 0, "111000"), measured("tpo", 0, "111100"), measured("tpo", 1, "000000")]
    assert lines(main_table(one, "base", {}))["tpo"][-1].startswith("+16.7 (")


def test_seeds_that_share_their_videos_do_not_narrow_the_interval() -> None:
    """The same questions, trained three times alike: the interval is that of one seed. Three worlds are three times the videos."""

    def interval(seeds: int, data: str) -> str:
        rights = (("base", "110000"), ("tpo", "111101"))
        found = [measured(name, seed, right, data=data) for seed in range(seeds) for name, right in rights]
        return lines(main_table(found, "base", {}))["tpo"][-1]

    assert interval(3, "one benchmark") == interval(1, "one benchmark")
    assert interval(3, "") != interval(1, "")


def test_only_a_difference_whose_interval_excludes_0_is_bold() -> None:
    one = [measured("base", 0, "000000"), measured("up", 0, "111111"), measured("same", 0, "000000")]
    found = lines(main_table(one, "base", {}))
    assert found["up"][-1] == "**+100.0 (+100.0 to +100.0)**"
    assert found["same"][-3:] == ["0.0", "0.0", "0.0 (0.0 to 0.0)"]


def test_variants_of_a_benchmark_do_not_overwrite_each_other() -> None:
    """They ask the same questions in two ways: each counts."""
    rights = {"base": ("111111", "000000"), "tpo": ("111111", "111111")}
    one = [
        replace(measured(name, 0, right), cell=cell(right, task=task))
        for name, both in rights.items()
        for task, right in zip(("mlvu_dev", "mlvu_dev_prompt_x"), both)
    ]
    found = lines(main_table(one, "base", {}))
    assert found["model"][-2] == "accuracy (n 12)"
    assert found["base"][-2] == "50.0"
    assert found["tpo"][-1].startswith("**+50.0 (")
    assert lines(accuracy_tables(one, "base")[0])["base"] == ["100.0", "0.0"]


def test_the_note_speaks_of_seeds_only_where_there_are_several() -> None:
    assert "accuracy over all questions, of one seed." in note("base", 1)
    assert "\u00b1" not in note("base", 1)
    assert "mean \u00b1 standard deviation over 3 seeds" in note("base", 3)
    assert note("base", 3).endswith("n is the number of questions, counted once a seed.")


def test_the_sweep_shows_models_with_several_numbers_of_frames() -> None:
    table = sweep_table([*cells(), measured("base", 0, "000000", 96, main=False)], "base")
    assert table is not None
    found = lines(table)
    assert found["benchmark, model"] == ["48 frames", "96 frames"]
    assert found["mlvu_dev, tpo"][1] == "100.5 \u00b1 0.0"
    assert found[f"mlvu_dev, tpo {DIFFERENCE}"][1] == "+100.0"  # of the one seed that both have
    assert found[f"mlvu_dev, tpo {ACCURACY_DIFFERENCE}"][1] == "**+100.0 (+100.0 to +100.0)**"
    table = sweep_table(cells(), "base")
    assert table is not None
    assert "mlvu_dev, base" not in lines(table)
    assert sweep_table([one for one in cells() if one.main], "base") is None


def test_needles_over_all_depths() -> None:
    rows = [
        {"name": "base", "seed": seed, "benchmark": "needle", "frames": frames, "category": f"{how}, depth {depth}", "score": score, "n": 4}
        for seed in (0, 1)
        for frames in (8, 16)
        for depth in (0, 1)
        for how, score in (("teacher-forced", 100.0), ("generated", 50.0 * depth + 10 * seed))
    ]  # fmt: skip
    table = needle_table(rows)
    assert table is not None
    found = lines(table)
    assert found["base, teacher-forced"] == ["100.0 \u00b1 0.0"] * 3
    assert found["base, generated"] == [spread(25, 35)] * 3
    assert needle_table([]) is None


def test_rows_of_the_summary() -> None:
    rows = [row for row in summary_rows(cells(), []) if (row["name"], row["seed"], row["frames"]) == ("tpo", 1, 48)]
    assert all(list(row) == ["name", "seed", "benchmark", "frames", "category", "score", "n"] for row in rows)
    assert {row["category"]: (round(row["score"], 1), row["n"]) for row in rows} == {
        "all": (67.2, 6),  # the benchmark's own metric
        "count": (50.0, 2),
    }
