"""Another of lmms-eval's models than ours: its arguments, what is recorded, what is refused. Runs of them: tests/upstream."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tpo_plugin.errors import EvaluationError, RecipeError, TPOError
from tpo_plugin.evaluation.wrapper import check_log, check_wrapper, facts, model_arguments
from tpo_plugin.options import EvaluateRecipe, FrameOptions


def recipe(**changes: Any) -> EvaluateRecipe:
    values = {"models": {"base": "lmms-lab/LongVA-7B"}, "output": "o", "wrapper": "longva"}
    return EvaluateRecipe(**{**values, **changes})


def test_a_wrapper_gets_its_own_arguments_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "longva-qwen").mkdir()
    given = recipe(wrapper_args={"max_frames_num": 128})
    check_wrapper(given)
    assert model_arguments(given, "longva-qwen") == {"pretrained": str(tmp_path / "longva-qwen"), "max_frames_num": 128}
    assert model_arguments(given, "lmms-lab/LongVA-7B")["pretrained"] == "lmms-lab/LongVA-7B"
    assert facts(given) == {"wrapper": {"model": "longva", "args": {"max_frames_num": 128}}}
    assert facts(recipe(wrapper="tpo_hf"))["frames"]["max"] == 32


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"wrapper": "tpo_hf", "wrapper_args": {"fps": 1}}, RecipeError, "`wrapper_args` has no effect"),
        ({"wrapper": "tpo_hf", "upstream": "LongVA"}, RecipeError, "`upstream` has no effect"),
        ({"frames": FrameOptions(max=96)}, RecipeError, "`frames` has no effect with the wrapper longva"),
        ({"dtype": "bfloat16"}, RecipeError, "`dtype` has no effect"),
        ({"wrapper_args": {"pretrained": "x"}}, RecipeError, "`models` names the checkpoints"),
        ({"wrapper_args": {"tokens": [1, 2]}}, RecipeError, "plain values"),
        ({"upstream": "missing/LongVA"}, TPOError, "missing/LongVA is not there"),
        ({"wrapper": "llava_vid", "models": {"a": "yi/llava-qwen"}}, RecipeError, "with 'yi' anywhere in its path"),
    ],
)
def test_what_would_have_no_effect_is_refused(changes: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        check_wrapper(recipe(**changes))


def test_an_adapter_is_to_be_merged_first(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "lmms-lab/LongVA-7B"}))
    with pytest.raises(RecipeError, match=r"merge --upstream CHECKOUT"):
        check_wrapper(recipe(models={"lora": str(tmp_path)}))


@pytest.mark.parametrize("line", ["Video a.mp4 can not load, check the source", "Error moov in loading video"])
def test_an_answer_without_the_video_is_an_error(tmp_path: Path, line: str) -> None:
    log = tmp_path / "lmms_eval.log"
    log.write_text("all is well\n")
    check_log(log, "longva")
    log.write_text(f"a\n{line}\nb\n")
    with pytest.raises(EvaluationError, match="went on without it"):
        check_log(log, "longva")
    check_log(log, "tpo_hf")
