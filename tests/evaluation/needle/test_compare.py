"""Two results side by side."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tpo_plugin.cli import main
from tpo_plugin.errors import EvaluationError
from tpo_plugin.evaluation.needle.compare import compare
from tpo_plugin.evaluation.needle.results import write_results

FACTS = {"haystack": {"digest": "a"}, "fps": 1.0, "prompt": None}
MODEL = {"checkpoint": "x", "digest": "y", "wrapper": {"model": "tpo_hf"}, "needle_frames": 1}


def line(frames: int, depth: float, needle: str, right: int) -> dict[str, object]:
    return {
        "frames": frames, "depth": depth, "id": needle, "needle": "picture", "question": "?", "teacher_forced": right, "generated": 1,
    }  # fmt: skip


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Two models: `one` misses needle b everywhere, `two` misses it in one place and a in another."""
    places = [(frames, depth) for frames in (4, 8) for depth in (0.0, 1.0)]
    one = [line(*place, needle, int(needle == "a")) for place in places for needle in "ab"]
    missed = {(4, 0.0, "b"), (8, 1.0, "a")}
    two = [line(*place, needle, int((*place, needle) not in missed)) for place in places for needle in "ab"]
    write_results(tmp_path / "out", {"one": MODEL, "two": MODEL}, {"one": one, "two": two}, FACTS)
    return tmp_path / "out"


def test_scores_difference_and_test(output: Path, tmp_path: Path) -> None:
    text = compare(f"{output}:one", f"{output}:two", tmp_path / "both.svg").splitlines()
    # one: 4 of 8 right; two: 6 of 8; three gained, one lost: 2 * (1 + 4) / 16. Both needles' pictures have one name.
    assert text[0] == (
        "teacher-forced: one 0.500, two 0.750, difference +0.250 (too few needles to tell: 2) over 8 questions; 3 only right "
        "in the second, 1 only in the first (McNemar p = 0.62)"
    )
    assert text[1].startswith("generated: one 1.000, two 1.000, difference +0.000 (too few needles")
    assert "which takes 10 of them or more: the cells" in text[2]
    assert "McNemar's test does not know" in text[2]
    root = ElementTree.parse(tmp_path / "both.svg").getroot()
    inner = [child for child in root.iter() if child.tag.endswith("svg")][1:]
    assert len(inner) == 3, "both maps and their difference"
    assert float(root.get("width")) >= sum(float(one.get("width")) for one in inner)
    assert "two minus one" in "".join(root.itertext())


def test_an_interval_resamples_whole_needles(tmp_path: Path) -> None:
    """Two cells of ten needles: five needles are gained in both, so the mean of ten draws of 0 or 1 spreads about 0.5."""
    places = [(4, 0.0), (8, 0.0)]
    old, new = (
        [line(*place, name, int(name in right)) for place in places for name in "abcdefghij"] for right in ("", "abcde")
    )
    write_results(tmp_path, {"one": MODEL, "two": MODEL}, {"one": old, "two": new}, FACTS)
    text = compare(f"{tmp_path}:one", f"{tmp_path}:two").splitlines()
    assert "difference +0.500 [+0.200, +0.800] over 20 questions" in text[0]
    assert text[2].startswith("Intervals (95 %) resample whole needles: the cells")


def test_answers_that_cannot_be_told_apart_are_not_compared(tmp_path: Path) -> None:
    """As files were before an answer had its needle's id."""
    same = [{key: value for key, value in line(4, 0.0, name, 1).items() if key != "id"} for name in "ab"]
    write_results(tmp_path, {"one": MODEL, "two": MODEL}, {"one": same, "two": same}, FACTS)
    with pytest.raises(EvaluationError, match="one has several answers to one question in one cell"):
        compare(f"{tmp_path}:one", f"{tmp_path}:two")


def test_the_same_by_the_command_line(output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "new" / "both.svg"
    assert main(["needle", "--compare", f"{output}:one", f"{output}:two", "--output", str(file)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(file)
    assert file.is_file()


def changed(output: Path, change: Callable[[dict], None]) -> str:
    other = output.with_name("other")
    shutil.copytree(output, other)
    plain = json.loads((other / "results.json").read_text())
    change(plain)
    (other / "results.json").write_text(json.dumps(plain))
    return f"{other}:one"


def test_what_is_not_alike_is_listed(output: Path) -> None:
    other = changed(output, lambda plain: plain.update(fps=2.0))
    text = compare(f"{output}:one", other)
    assert text.splitlines()[-1] == "not alike: fps: 1.0 -> 2.0"
    assert f"{output}:one 0.500, {other} 0.500" in text, "equal labels are told apart by their folders"


def test_other_haystacks_and_other_questions_are_not_compared(output: Path) -> None:
    other = changed(output, lambda plain: plain["haystack"].update(digest="b"))
    with pytest.raises(EvaluationError, match="not shown the same haystack"):
        compare(f"{output}:one", other)
    answers = Path(other.rpartition(":")[0]) / "one" / "answers.jsonl"
    answers.write_text("".join(answers.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(EvaluationError, match="1 questions only of the first, 0 only of the second"):
        compare(f"{output}:one", other)


@pytest.mark.parametrize(
    ("named", "problem"),
    [
        ("{}", "say which model, one of .*out:one, .*out:two"),
        ("{}:three", "say which model"),
        ("{}/nowhere", "no finished needle run"),
    ],
)
def test_a_result_that_is_not_there(output: Path, named: str, problem: str) -> None:
    with pytest.raises(EvaluationError, match=problem):
        compare(f"{output}:one", named.format(output))


def test_another_commands_result_is_no_needle_run(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text(json.dumps({"cells": [], "models": {"base": {"checkpoint": "x"}}}))
    with pytest.raises(EvaluationError, match="is not of a needle run"):
        compare(str(tmp_path), str(tmp_path))
