"""`tpo bench`: each path in a process of its own, the same numbers from all of them, one table."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from tpo_plugin.bench import run, summary
from tpo_plugin.bench.job import Job, gradient_difference
from tpo_plugin.bench.meta import count_step
from tpo_plugin.bench.plot import log_chart
from tpo_plugin.bench.rounds import in_a_process
from tpo_plugin.bench.sizes import sized
from tpo_plugin.cli import main
from tpo_plugin.errors import RecipeError, TPOError
from tpo_plugin.options import BenchRecipe

KEYS = {
    "size",
    "frames",
    "pairs_per_video",
    "path",
    "flops_per_pair",
    "seconds_per_pair",
    "peak_bytes",
    "loss",
    "max_grad_rel_diff",
}


def test_bench_measures_every_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "FIGURES", (("tiny", 8, 2),))
    monkeypatch.setattr(summary, "SWEEP_FRAMES", (2, 4))
    output = tmp_path / "bench"
    flags = ["--size", "tiny", "--frames", "4", "--pairs-per-video", "2", "--device", "cpu"]
    assert main(["bench", f"output={output}", "repeats=1", *flags]) == 0
    rows = json.loads((output / "summary.json").read_text())
    assert all(set(row) >= KEYS for row in rows)
    measured, counted = rows[:3], rows[3:]
    assert [row["path"] for row in measured] == [row["path"] for row in counted] == ["upstream", "plain", "fast"]
    assert {row["frames"] for row in measured} == {4}
    upstream, plain, fast = measured
    assert plain["loss"] == pytest.approx(upstream["loss"], rel=1e-5)
    assert fast["loss"] == pytest.approx(upstream["loss"], rel=1e-5)
    assert plain["max_grad_rel_diff"] == 0.0
    assert 0 < fast["max_grad_rel_diff"] < 1e-5
    assert upstream["max_grad_rel_diff"] < 1e-5
    assert fast["flops_per_pair"] < plain["flops_per_pair"] < upstream["flops_per_pair"]
    assert all(row["seconds_per_pair"] > 0 and row["peak_bytes"] > 50e6 for row in measured)
    assert fast["reference_seconds_per_pair"] > 0
    assert all(row["seconds_per_pair"] is None for row in counted)
    printed = capsys.readouterr().out
    assert printed.strip() == (output / "table.md").read_text().strip()
    assert "and its reference pass" in printed
    ElementTree.fromstring((output / "sweep.svg").read_text())
    assert len(json.loads((output / "sweep.json").read_text())) == 2 * (1 + 1 + 4)
    assert json.loads((output / "environment.json").read_text())["versions"]["torch"] == torch.__version__


def test_several_rejected_responses_are_measured_as_one_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "FIGURES", ())
    monkeypatch.setattr(run, "COUNTED", ())
    recipe = BenchRecipe(
        str(tmp_path),
        size="tiny",
        frames=8,
        rejected_per_chosen=3,
        answer_tokens=7,
        device="cpu",
        paths=("plain", "fast"),
        repeats=1,
        sweep=False,
    )
    text = run.bench(recipe)
    plain, fast = json.loads((tmp_path / "summary.json").read_text())
    assert (fast["pairs_per_video"], fast["rejected_per_chosen"]) == (3, 3)
    assert fast["loss"] == pytest.approx(plain["loss"], rel=1e-5)
    assert 0 < fast["max_grad_rel_diff"] < 1e-5
    [costs] = json.loads((tmp_path / "tree.json").read_text())
    one = count_step(sized("tiny", 7), 8, 1, "fast").needed
    assert costs["step"] == pytest.approx(3 * fast["flops_per_pair"] / one)
    assert 1 < costs["reference"] < costs["step"] < 3
    assert "| tiny | 8 | 3 | 3 | fast |" in text
    assert f"as one tree: {costs['step']:.2f} times the operations of one pair" in text
    assert text.strip() == (tmp_path / "table.md").read_text().strip()


def test_a_share_of_upstreams_is_of_the_same_number_of_rejected_responses() -> None:
    rows = [
        summary.row("tiny", 8, 4, path, rejected_per_chosen=count) for count in (1, 4) for path in ("upstream", "fast")
    ]
    lines = [line for line in summary.table(rows).splitlines() if "| fast |" in line]
    assert [line.split(" | ")[:4] for line in lines] == [["| tiny", "8", "4", "1"], ["| tiny", "8", "4", "4"]]
    for line, (upstream, fast) in zip(lines, (rows[:2], rows[2:])):
        assert f"(1/{upstream['flops_per_pair'] / fast['flops_per_pair']:.2f})" in line
    assert all(line.count("|") == 13 for line in summary.table(rows).splitlines())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rejected_per_chosen": 0}, "rejected_per_chosen"),
        ({"upstream": "somewhere", "size": "tiny", "rejected_per_chosen": 2}, "take `rejected_per_chosen`"),
        ({"frames": 0}, "frames"),
        ({"paths": ("fast", "faster")}, "upstream, plain, fast"),
        ({"paths": ()}, "upstream, plain, fast"),
    ],
)
def test_a_recipe_that_cannot_run_is_refused(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        run.bench(BenchRecipe(str(tmp_path), **changes))  # type: ignore[arg-type]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("changes", [{"device": "cuda"}, {"size": "7b-random"}])
def test_a_gpu_that_is_not_there_is_said(tmp_path: Path, changes: dict[str, str]) -> None:
    with pytest.raises(RecipeError, match=r"GPU|cuda"):
        run.bench(BenchRecipe(str(tmp_path), **changes))  # type: ignore[arg-type]


def test_a_process_that_fails_says_why(tmp_path: Path) -> None:
    job = Job("tiny", 4, 1, "fast", device="no such device")
    with pytest.raises(TPOError, match=r"fast path ended.*no such device"):
        in_a_process(job, tmp_path / "result.json")


def test_gradients_that_are_rounding_alone_are_not_compared() -> None:
    one = {"weight": torch.tensor([1.0, 2.0]), "key bias": torch.tensor([1e-9])}
    other = {"weight": torch.tensor([1.0, 2.002]), "key bias": torch.tensor([-1e-9])}
    assert gradient_difference(one, other) == pytest.approx(0.001, rel=1e-3)


def test_the_chart_is_logarithmic() -> None:
    svg = log_chart("title", "x", "y", [("line", [(8, 1.0), (16, 10.0), (32, 100.0)])])
    line = next(element for element in ElementTree.fromstring(svg).iter() if element.tag.endswith("polyline"))
    places = [tuple(map(float, point.split(","))) for point in line.attrib["points"].split()]
    steps = [(after[0] - before[0], after[1] - before[1]) for before, after in pairwise(places)]
    assert steps[0] == pytest.approx(steps[1], abs=0.2)
    assert steps[0][0] > 0 > steps[0][1]
