"""What `tpo evaluate` does not start with, and says why."""

from __future__ import annotations

import shutil

import pytest

from tpo_plugin.errors import EvaluationError, RecipeError, TPOError
from tpo_plugin.evaluation.data import read_benchmark
from tpo_plugin.evaluation.run import evaluate


def test_fewer_questions_than_expected_are_an_error(make_recipe, benchmark_folder, checkpoint, tmp_path):
    with pytest.raises(EvaluationError, match="holds 5 questions, 6 expected"):
        evaluate(make_recipe(benchmark_folder, checkpoint, tmp_path, expect={"videomme": 6}))


def test_missing_data_is_named(make_recipe, benchmark_folder, checkpoint, tmp_path):
    with pytest.raises(EvaluationError, match="mlvu_dev: no parquet file in"):
        read_benchmark(tmp_path, "mlvu_dev")
    shutil.copytree(benchmark_folder, tmp_path / "data")
    (tmp_path / "data" / "mlvu" / "mlvu-000.mp4").unlink()
    with pytest.raises(EvaluationError, match=r"mlvu_dev: no video mlvu-000\.mp4"):
        evaluate(make_recipe(tmp_path / "data", checkpoint, tmp_path / "out"))


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"models": {}}, RecipeError, "at least one entry in `models`"),
        ({"models": {"a/b": "x"}}, RecipeError, "label 'a/b' becomes a folder"),
        ({"batch_size": 0}, RecipeError, "`batch_size` must be 1 or more"),
        ({"workers": 0}, RecipeError, "`workers` must be 1 or more"),
        ({"sweep": [8, 0]}, RecipeError, "`sweep` must be 1 or more"),
        ({"tasks": ("egoschema",)}, RecipeError, "use egoschema_subset"),
        ({"tasks": ("videomme_long_prompt_llava_vid",)}, RecipeError, "use videomme, whose category `long` they are"),
        ({"tasks": ("videomme_long_w_subtitle",)}, RecipeError, "use videomme_w_subtitle, whose category `long`"),
        (
            {"tasks": ("egoschema_subset",), "unreadable": "count"},
            RecipeError,
            "draws an option at random for an empty",
        ),
        (
            {"tasks": ("longvideobench_val_v",), "unreadable": "count"},
            RecipeError,
            "cannot go with longvideobench_val_v",
        ),
        (
            {"tasks": ("tempcompass",), "unreadable": "count"},
            RecipeError,
            "cannot go with tempcompass_multi_choice: lmms-eval has an LLM judge an empty answer",
        ),
        ({"expect": {"other": 1}}, RecipeError, "`expect` names other"),
        ({"models": {"base": "runs/missing/model"}}, TPOError, "no checkpoint folder at runs/missing/model"),
        ({"models": {"base": "a,b"}}, RecipeError, "no comma"),
    ],
)
def test_what_cannot_start_is_refused(make_recipe, benchmark_folder, checkpoint, tmp_path, changes, error, text):
    with pytest.raises(error, match=text):
        evaluate(make_recipe(benchmark_folder, checkpoint, tmp_path, **changes))


def test_an_unwritable_output_is_refused(make_recipe, benchmark_folder, checkpoint, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(TPOError, match="cannot write to"):
        evaluate(make_recipe(benchmark_folder, checkpoint, tmp_path / "file"))


def test_two_runs_do_not_share_an_output(make_recipe, benchmark_folder, checkpoint, tmp_path):
    import fcntl

    with (tmp_path / ".lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(TPOError, match="another run is writing"):
            evaluate(make_recipe(benchmark_folder, checkpoint, tmp_path))
