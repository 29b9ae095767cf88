"""A score is in percent, or it is not said to be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tpo_plugin.evaluation.results import read_task
from tpo_plugin.records import write_json, write_jsonl

RIGHT = (1.0, 1.0, 0.0, 1.0, 0.0)


def _write(folder: Path, task: str, metric: str, value: float) -> None:
    """What lmms-eval leaves of a task with five questions, of which three are answered right."""
    config: dict[str, Any] = {"metric_list": [{"metric": metric}]}
    results = {task: {f"{metric},none": value}}
    write_json(folder / "a_results.json", {"results": results, "configs": {task: config}})
    samples = [
        {"doc_id": place, "input": "?", "target": "A", "filtered_resps": ["A"], metric: right}
        for place, right in enumerate(RIGHT)
    ]
    write_jsonl(folder / f"a_samples_{task}.jsonl", samples)


@pytest.mark.parametrize(
    ("task", "value", "score", "unit"),
    [
        ("nextqa_mc_test", 0.6, 60.0, "%"),
        ("nextqa_mc_test", 60.0, 60.0, "%"),
        ("nextqa_mc_test", 3.7, 3.7, None),
        ("perceptiontest_val_mc", 0.55, 55.0, "%"),
        ("mlvu_dev", 58.5, 58.5, "%"),
    ],
)
def test_the_unit_of_a_score(tmp_path: Path, task: str, value: float, score: float, unit: str | None) -> None:
    """Known of the benchmarks that are known here; of others if the score is the share of right answers, here 3 of 5."""
    _write(tmp_path, task, "exact_match", value)
    result, _ = read_task(tmp_path, task, expected=5)
    assert (result["score"], result["unit"], result["accuracy"]["value"]) == (pytest.approx(score), unit, 60.0)
