"""`tpo evaluate --check`: one line a part, `ok` or what to do, without a model or a network."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tpo_plugin import recipe as recipes
from tpo_plugin.cli import main
from tpo_plugin.errors import TPOError
from tpo_plugin.evaluation.check import check, check_packages, check_task, check_wrapper
from tpo_plugin.evaluation.layouts import LAYOUTS
from tpo_plugin.evaluation.run import evaluate
from tpo_plugin.options import EvaluateRecipe

TASKS = tuple(task for task in LAYOUTS if not task.startswith("tempcompass"))


@pytest.fixture
def given(papers_folder: Path, checkpoint: Path, tmp_path: Path) -> EvaluateRecipe:
    models = {"base": str(checkpoint)}
    return EvaluateRecipe(models=models, output=str(tmp_path / "out"), tasks=TASKS, data=str(papers_folder))


def test_all_in_place_from_the_command_line(
    given: EvaluateRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipes.to_plain(given)))
    assert main(["evaluate", "--check", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        *("ok    packages", "ok    wrapper tpo_hf", "ok    model base"),
        *(f"ok    task {task}" for task in TASKS),
    ]
    assert "ok    task videomme: 5 questions, 2 videos, 2 opened" in lines
    assert any("2 with subtitles" in line for line in lines)
    assert not Path(given.output).exists(), "nothing is run"


def problem(part: Callable[..., str], *given: Any) -> str:
    """What the user is told to do."""
    with pytest.raises(TPOError) as error:
        part(*given)
    return str(error.value)


def test_a_missing_folder_leaves_the_other_parts_checked(given: EvaluateRecipe, tmp_path: Path) -> None:
    lines, fine = check(replace(given, data=str(tmp_path / "nowhere"), tasks=("videomme",)))
    assert not fine
    assert [line.partition(":")[0].split()[:2] for line in lines] == [
        *(["ok", "packages"], ["todo", "wrapper"], ["ok", "model"], ["todo", "task"]),
    ]
    assert "set `data`" in lines[1]


def test_missing_data_is_said_with_its_cure(
    given: EvaluateRecipe, papers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = replace(given, data=str(papers))
    bad = papers / "mlvu" / "mlvu-000.mp4"
    bad.write_bytes(bad.read_bytes()[:3000])
    assert "1 of 2 videos that were opened cannot be used" in problem(check_task, given, "mlvu_dev")
    assert "1 of 1 videos" in problem(check_task, replace(given, check=1), "mlvu_dev")
    (papers / "egoschema" / "videos" / "x.mp4").unlink()
    assert problem(check_task, given, "egoschema_subset").startswith("egoschema_subset: no video x")
    shutil.rmtree(papers / "videomme" / "subtitle")
    assert "extract its subtitle.zip there" in problem(check_task, given, "videomme_w_subtitle")
    expecting = replace(given, expect={"videomme": 2700})
    assert problem(check_task, expecting, "videomme").endswith("holds 5 questions, 2700 expected")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    assert "judged by an LLM: set OPENAI_API_KEY" in problem(check_task, given, "tempcompass_yes_no")
    monkeypatch.setenv("OPENAI_API_KEY", "some")
    assert check_task(given, "tempcompass_yes_no") == "5 questions, 1 videos, 1 opened"


def test_without_data_lmms_evals_own_places_are_looked_at(
    given: EvaluateRecipe, papers_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong HF_HOME is named; with the questions as `datasets` keeps them and the videos in place all is well."""
    given, home = replace(given, data=None), tmp_path / "home"
    monkeypatch.setenv("HF_HOME", str(home))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(home / "datasets"))
    text = problem(check_task, given, "videomme")
    assert text.startswith(f"videomme: its questions are not on this machine (HF_HOME is {home})")
    assert problem(evaluate, replace(given, tasks=("videomme",))) == text, "the run says so too, before it starts"
    assert "hf download --repo-type dataset lmms-eval/Video-MME" in text

    from datasets import load_dataset

    monkeypatch.chdir(papers_folder)  # where the name of the hub data set is a folder
    load_dataset("lmms-eval/Video-MME", cache_dir=str(home / "datasets"))
    (kept,) = (path for path in (home / "datasets").iterdir() if path.is_dir())
    kept.rename(home / "datasets" / "lmms-eval___video-mme")
    assert f"no video long-000 in {home / 'videomme' / 'data'}" in problem(check_task, given, "videomme")
    (home / "videomme").symlink_to(papers_folder / "videomme")
    assert check_task(given, "videomme") == "5 questions, 2 videos, 2 opened"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"wrapper": "longva_tpo"}, "no LongVA here: give the path of its checkout as `upstream`"),
        ({"wrapper": "llava_video_tpo", "wrapper_args": {"sampeler": "upstream"}}, "llava_video_tpo takes no sampeler"),
        ({"wrapper_args": {"sampler": "upstream"}}, "tpo_hf takes no sampler"),
    ],
)
def test_what_the_wrapper_would_fail_with_is_said(
    given: EvaluateRecipe, changes: dict[str, Any], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TPO_LONGVA", raising=False)
    assert text in problem(check_wrapper, replace(given, **changes))


def test_an_environment_that_the_wrapper_does_not_run_in_is_named(given: EvaluateRecipe) -> None:
    assert check_packages(given).startswith("lmms-eval 0.")
    assert "LLaVA-NeXT and LongVA are supported on transformers" in problem(
        check_packages, replace(given, wrapper="longva_tpo")
    )
