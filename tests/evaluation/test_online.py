"""Without `data`: lmms-eval fetches the questions and the videos, and what it used is known afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tpo_plugin.evaluation import cached, run
from tpo_plugin.evaluation.cells import Cell
from tpo_plugin.evaluation.data import read_benchmark
from tpo_plugin.evaluation.workers import FailedForGood
from tpo_plugin.options import EvaluateRecipe
from tpo_plugin.records import read_jsonl

TASK = "videomme_w_subtitle"


@pytest.fixture
def given(
    papers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_knowing: Callable[..., dict[str, Any]]
) -> EvaluateRecipe:
    """The recipe of a run with a network, as far as this one can tell: all that it would fetch is in the caches."""
    hub = tmp_path / "hub"
    kept = hub / "datasets--lmms-eval--Video-MME"
    (kept / "snapshots").mkdir(parents=True)
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text("a" * 40)
    (kept / "snapshots" / ("a" * 40)).symlink_to(papers / "lmms-eval" / "Video-MME")
    monkeypatch.chdir(papers)
    monkeypatch.setenv("HF_HOME", str(papers))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub))
    for module in (cached, run):
        monkeypatch.setattr(module, "offline", lambda: False)
    models, output = {"right": "right/model"}, str(tmp_path / "out")
    return EvaluateRecipe(models=models, output=output, tasks=(TASK,), **with_knowing())


def test_the_data_are_recorded_and_missing_subtitles_found(given: EvaluateRecipe, papers: Path) -> None:
    output = run.evaluate(given)
    results = json.loads((output / "results.json").read_text())
    known = read_benchmark(papers, TASK)
    assert known is not None
    assert results["data_digest"] == {TASK: known.digest}
    assert results["subtitled"] == {TASK: 2}
    folder = output / "right" / "default" / TASK
    assert {one["video"] for one in read_jsonl(folder / "answers.jsonl")} == {"short-000", "long-000"}
    assert run.evaluate(given) == output
    assert json.loads((output / "results.json").read_text()) == results

    (papers / "videomme" / "subtitle" / "long-000.srt").unlink()
    with pytest.raises(FailedForGood, match=r"no subtitles long-000\.srt"):
        run._collect(given, Cell("right", None, TASK, "some", folder), "", None)
