"""Which trainings made a checkpoint: those whose record says so and no others; a record that is torn ends an evaluation before it starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tpo_plugin.errors import TPOError
from tpo_plugin.evaluation.common import chain_of
from tpo_plugin.evaluation.run import evaluate
from tpo_plugin.options import EvaluateRecipe
from tpo_plugin.records import write_json


def row(name: str, start: str) -> dict[str, Any]:
    return {"name": name, "folder": name, "start": {"checkpoint": start, "digest": "d"}, "pairs": 3}


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """A chain of two steps, and beside them a checkpoint that is none of theirs."""
    for name in ("dpo/model", "sft/model", "model", "other/model", "aside"):
        (tmp_path / "chain" / name).mkdir(parents=True)
    write_json(tmp_path / "chain" / "chain.json", {"steps": [row("dpo", "a/b"), row("sft", "dpo/model")]})
    return tmp_path / "chain"


@pytest.mark.parametrize(
    ("checkpoint", "made"),
    [
        ("model", ["dpo", "sft"]),
        ("sft/model", ["dpo", "sft"]),
        ("dpo/model", ["dpo"]),
        ("other/model", []),
        ("aside", []),
        ("nowhere", []),
    ],
)
def test_only_what_a_chain_made_has_its_steps(output: Path, checkpoint: str, made: list[str]) -> None:
    assert [step["name"] for step in chain_of(str(output / checkpoint))] == made


def test_a_name_on_the_hub_has_no_chain_wherever_it_is_asked_for(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(output)
    assert chain_of("Qwen/Qwen2-VL-7B-Instruct") == []
    assert [step["start"] for step in chain_of("model")] == ["a/b", "dpo/model"]


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("chain.json", '{"steps": [{"name"', r"chain\.json cannot be read as JSON"),
        ("chain.json", '["not ours"]', r"chain\.json must hold a dict"),
        ("chain.json", '{"steps": [{"name": "dpo"}]}', r"chain\.json must list `steps` with `name` and `folder`"),
        ("sft/done.json", '{"stages": ["one"]}', r"done\.json must list `stages` with their `name`"),
        ("sft/done.json", "", r"done\.json cannot be read as JSON"),
    ],
)
def test_torn_and_foreign_records(
    output: Path, benchmark_folder: Path, checkpoint: Path, file: str, text: str, says: str
) -> None:
    (output / "model").rmdir()
    (output / "model").symlink_to(checkpoint)
    (output / file).write_text(text)
    models, run = {"tpo": str(output / "model")}, output / "evaluation"
    with pytest.raises(TPOError, match=says):
        evaluate(EvaluateRecipe(models=models, output=str(run), data=str(benchmark_folder)))
    assert not list(run.glob("tpo*")), "no cell was run"
