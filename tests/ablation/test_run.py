"""A whole ablation of a very small world through the command line, stopped by a failure and continued."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tpo_plugin.ablation.plan import Stage
from tpo_plugin.ablation.run import _finished, check
from tpo_plugin.errors import RecipeError

KEYS = ["name", "seed", "benchmark", "frames", "category", "score", "n"]


def run(recipe: Path, *changes: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tpo_plugin", "ablate", str(recipe), *changes]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)


@pytest.fixture(scope="module")
def done(
    tmp_path_factory: pytest.TempPathFactory, plain_recipe
) -> tuple[Path, subprocess.CompletedProcess[str], subprocess.CompletedProcess[str]]:
    """The output, a run that fails in its second stage, and one that goes on."""
    folder = tmp_path_factory.mktemp("ablation")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(plain_recipe(folder / "out"), sort_keys=False))
    failed = run(folder / "recipe.yaml", "curate.answers.queries={source: curated, curated: nowhere}")
    return folder / "out", failed, run(folder / "recipe.yaml")


def test_a_failure_is_loud_and_names_its_log(done) -> None:
    _, failed, _ = done
    assert failed.returncode == 1
    assert "seed 0: curate answers ended with status 1; its log is" in failed.stderr
    assert "tpo: `queries.curated`: nowhere holds no finished curation" in failed.stderr
    assert "train" not in failed.stderr.partition("ended with")[0], "nothing starts after it"


def test_a_run_goes_on_where_it_was_and_fills_the_table(done) -> None:
    output, _, whole = done
    assert whole.returncode == 0, whole.stderr[-3000:]
    assert "curate pairs is finished" in whole.stderr
    table = (output / "table.md").read_text()
    assert table in whole.stdout
    models = [[part.strip() for part in line.split("|")[1:3]] for line in table.splitlines() if "| tpo_sft " in line]
    assert models[0] == ["tpo_sft", "8 + 16"]
    rows = json.loads((output / "summary.json").read_text())
    assert all(list(row) == KEYS for row in rows)
    assert {row["name"] for row in rows} == {"base", "tpo_sft"}
    whole_benchmark = [row for row in rows if row["benchmark"] == "mlvu_dev" and row["category"] == "all"]
    assert [(row["n"], row["frames"], row["seed"]) for row in whole_benchmark] == [(4, 48, 0)] * 2
    assert {row["name"] for row in rows if row["benchmark"] == "needle"} == {"base", "tpo_sft"}
    assert (output / "seed-0" / "needle" / "needle" / "base-tpo_sft.svg").is_file()
    assert "<html" in (output / "seed-0" / "report.html").read_text()[:200]
    stages = json.loads((output / "stages.json").read_text())
    assert [(stage["command"], stage["name"]) for stage in stages][:3] == [
        ("curate", "pairs"),
        ("curate", "answers"),
        ("train", "tpo_sft"),
    ]
    assert all((Path(stage["folder"]) / "recipe.yaml").is_file() and stage["seconds"] > 0 for stage in stages)


def test_sft_on_the_llms_answers_needs_no_rejected_side(done) -> None:
    step = done[0] / "seed-0" / "train" / "tpo_sft" / "step-2"
    trained = json.loads((step / "done.json").read_text())
    assert trained["absent"] == ["rejected side", "reference", "DPO loss", "rewards"]
    for entry in json.loads((step / "history.json").read_text()):
        assert {"loss", "loss/sft", "logps/chosen"} <= set(entry)
        assert not [name for name in entry if "rejected" in name or name.startswith(("rewards", "loss/dpo"))]
    assert not (step / "reference.jsonl").exists()


def test_a_finished_run_does_nothing(done) -> None:
    output = done[0]
    recipe = output.parent / "recipe.yaml"
    before = {path: path.stat().st_mtime_ns for path in output.glob("seed-0/*/**/ablation.json")}
    again = run(recipe)
    assert again.returncode == 0
    assert again.stdout == done[2].stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_an_evaluation_of_other_files_is_not_finished(done) -> None:
    folder = done[0] / "seed-0" / "evaluate" / "benchmarks"
    recipe = yaml.safe_load((folder / "given.yaml").read_text())
    identity = json.loads((folder / "ablation.json").read_text())["identity"]
    stage = Stage("evaluate", "benchmarks", folder, recipe, identity)
    assert _finished(stage)
    video = next(Path(recipe["data"]).glob("mlvu/*.mp4"))
    content = video.read_bytes()
    video.write_bytes(content + b"more")
    assert not _finished(stage)
    video.write_bytes(content)
    assert _finished(stage)


def test_a_training_starts_from_the_result_of_another(done) -> None:
    train = done[0] / "seed-0" / "train"
    assert yaml.safe_load((train / "after/recipe.yaml").read_text())["model"] == str(train / "tpo_sft/step-2/model")
    started = {name: (train / name / "given.yaml").stat().st_mtime for name in ("after", "tpo_sft/step-2")}
    finished = (train / "tpo_sft/step-2/ablation.json").stat().st_mtime
    assert started["after"] > finished > started["tpo_sft/step-2"], "though two trainings may run at once"


def test_a_changed_training_runs_again_and_what_was_there_is_kept(done) -> None:
    folder = done[0] / "seed-0" / "train" / "after"
    before = json.loads((folder / "done.json").read_text())
    again = run(done[0].parent / "recipe.yaml", "train.after.max_pairs=5")
    assert again.returncode == 0, again.stderr[-3000:]
    assert f"it runs again, and what was there is now {folder}.old-1" in again.stderr
    assert json.loads((folder.with_name("after.old-1") / "done.json").read_text()) == before
    assert json.loads((folder / "done.json").read_text())["pairs"] == 5
    assert "train tpo_sft is finished" in again.stderr


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"models": {}}, "`models` is empty"),
        ({"seeds": []}, "`seeds` must be different numbers"),
        ({"seeds": [1, 1]}, "`seeds` must be different numbers"),
        ({"workers": 0}, "`workers` must be 1 or more"),
    ],
)
def test_values_that_make_no_sense(make_recipe, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        check(make_recipe(**changes))
