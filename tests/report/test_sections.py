"""Curation, training and settings: numbers derived from what was written."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from tpo_plugin.errors import TPOError
from tpo_plugin.records import write_json
from tpo_plugin.report import curation, runs, sources, training


def cells(html: str, heading: str) -> list[str]:
    """The texts of the row with this heading."""
    row = re.search(rf'<tr><th scope="row">{re.escape(heading)}</th>(.*?)</tr>', html)
    assert row, heading
    return [re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row.group(1))]


def test_funnel() -> None:
    stage = {"stage": "filter", "unit": "pairs", "in": 1200, "out": 900, "dropped": {"identical": 100, "judge": 200}}
    html = str(curation.funnel([stage]))
    assert cells(html, "filter") == ["pairs", "1,200", "900", "300", "", "judge 200identical 100"]
    assert 'width="75%"' in html  # 900 of 1200 went on


def test_a_stage_that_nothing_reached() -> None:
    html = str(curation.funnel([{"stage": "export", "unit": "pairs", "in": 0, "out": 0, "dropped": {}}]))
    assert cells(html, "export") == ["pairs", "0", "0", "0", "", "\u2013"]


def test_task_mix_beside_the_papers() -> None:
    html = str(curation.task_mix({"action": 3, "caption": 1}))
    assert cells(html, "action")[:3] == ["3", "75.0", "12.4"]
    assert cells(html, "causal")[:3] == ["0", "0.0", "11.1"]
    assert cells(html, "caption")[:3] == ["1", "25.0", "\u2013"]  # not one of the paper's


def test_lengths_and_kinds() -> None:
    assert cells(str(curation.lengths({"<1": 1, "1-3": 3})), "1\u20133\u00a0min")[:2] == ["3", "75.0"]
    assert cells(str(curation.kinds({"localized": 0, "comprehensive": 0}, False)), "localized")[:2] == ["0", "0.0"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, None), (12.4, "12 s"), (143.2, "2 min 23 s"), (7322, "2 h 2 min")]
)
def test_clock(seconds: float | None, text: str | None) -> None:
    assert curation.clock(seconds) == text


def test_numbers_behind_the_curves() -> None:
    # 20 steps, loss = step: first 1, last 20, mean of the last tenth (2 values) 19.5; one step is not a number.
    history = [{"step": step, "loss": float(step)} for step in range(1, 21)] + [{"step": 20, "train_runtime": 1.0}]
    run = training.Run("tpo", None, [*history, {"step": 21, "loss": math.nan}], True)
    assert cells(str(training.numbers([run])), "tpo") == ["20", "1", "20", "19.5"]


def test_only_what_was_logged_is_drawn(trainings: dict[str, Path]) -> None:
    sft, tpo = (training.load(label, path) for label, path in trainings.items())
    colours = {"sft_self": 1, "tpo": 2}
    alone = str(training.section([sft], colours))
    both = str(training.section([sft, tpo], colours))
    assert alone.count("<svg") == 2
    assert both.count("<svg") == 8
    assert len(re.findall(r'class="line s1"', both)) == 2  # the loss and its SFT term
    assert len(re.findall(r'class="line s2"', both)) == 8


def test_an_unfinished_run_is_said_to_be_one(tmp_path: Path) -> None:
    write_json(tmp_path / "history.json", [{"step": 1, "loss": 0.7}])
    run = training.load("tpo", tmp_path)
    assert "Not finished (no completion marker): tpo." in training.section([run], {"tpo": 1})
    assert cells(str(runs.section(None, [run], [], [])), "finished") == ["no"]


def test_a_history_without_losses_is_an_error(tmp_path: Path) -> None:
    write_json(tmp_path / "history.json", [{"step": 1, "train_runtime": 3.0}])
    with pytest.raises(TPOError, match="no step with a `loss`"):
        training.load("tpo", tmp_path)


def test_secrets_are_hidden_and_names_of_variables_are_not() -> None:
    recipe = {
        "llm": {"base_url": "https://user:pass@host/v1", "key_env": "OPENAI_API_KEY", "api_key": "sk-1"},
        "list": [{"token": "t"}],
        "max_new_tokens": 5,
    }
    assert sources.without_secrets(recipe) == {
        "llm": {"base_url": "https://(hidden)@host/v1", "key_env": "OPENAI_API_KEY", "api_key": "(hidden)"},
        "list": [{"token": "(hidden)"}],
        "max_new_tokens": 5,
    }


def test_settings_of_runs_stand_side_by_side(trainings: dict[str, Path]) -> None:
    loaded = [training.load(label, path) for label, path in trainings.items()]
    html = str(runs.section(None, loaded, [], []))
    assert cells(html, "weight of the preference loss") == ["0", "1"]
    assert cells(html, "frames") == ["1 a second, at most 24"] * 2
