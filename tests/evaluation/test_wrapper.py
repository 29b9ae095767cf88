"""What our models and others of lmms-eval's are given, what is recorded, what is refused. Runs of them: tests/upstream."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tpo_plugin.errors import EvaluationError, RecipeError, TPOError
from tpo_plugin.evaluation.wrapper import check_log, check_wrapper, facts, frame_counts, model_arguments
from tpo_plugin.integrations.checkout import DEFINED, FILES, IMPORTED, LOOKED_UP
from tpo_plugin.options import EvaluateRecipe, FrameOptions


def recipe(**changes: Any) -> EvaluateRecipe:
    values = {"models": {"base": "lmms-lab/LongVA-7B"}, "output": "o", "wrapper": "longva"}
    return EvaluateRecipe(**{**values, **changes})


def test_a_wrapper_gets_its_own_arguments_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "longva-qwen").mkdir()
    given = recipe(wrapper_args={"max_frames_num": 128})
    check_wrapper(given)
    assert frame_counts(given) == [128]
    local = {"pretrained": str(tmp_path / "longva-qwen"), "max_frames_num": 128}
    assert model_arguments(given, "longva-qwen", 128) == local
    assert model_arguments(given, "lmms-lab/LongVA-7B", 128)["pretrained"] == "lmms-lab/LongVA-7B"
    assert facts(given) == {"wrapper": {"model": "longva", "args": {"max_frames_num": 128}}}
    assert facts(recipe(wrapper="tpo_hf"))["frames"]["max"] == 32


def test_another_checkout_or_an_edit_of_it_is_another_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the environment names it."""
    given = recipe(wrapper="longva_tpo", wrapper_args={"conv_template": "qwen_1_5"})
    found = []
    for name in ("one", "other"):
        _write_checkout(tmp_path / name, name)
        monkeypatch.setenv("TPO_LONGVA", str(tmp_path / name))
        found.append(facts(given)["wrapper"])
    assert found[0]["args"] == given.wrapper_args
    assert found[0]["upstream"]["name"] == "LongVA"
    assert found[0] != found[1]
    assert facts(replace(given, upstream=str(tmp_path / "one")))["wrapper"] == found[0]


def _write_checkout(root: Path, edit: str) -> None:
    """A checkout of LongVA as far as its structure counts."""
    package = root / "longva" / "longva"
    for file in FILES:
        (package / file).parent.mkdir(parents=True, exist_ok=True)
        (package / file).write_text("")
    functions = "".join(f"def {name}(): pass\n" for name in DEFINED)
    uses = "".join(f"    {name}\n" for name in LOOKED_UP)
    guard = 'if __name__ == "__main__":\n    train()\n'
    source = f"from trainer import {IMPORTED}\n{functions}def train():\n{uses}{guard}"
    (package / "train" / "train_dpo.py").write_text(source)
    (package / "model" / "builder.py").write_text(f"# {edit}\n")


def test_a_sweep_takes_the_place_of_the_number_of_frames() -> None:
    swept = recipe(wrapper_args={"max_frames_num": 128}, sweep=[16, 32])
    assert frame_counts(swept) == [16, 32]
    assert model_arguments(swept, "a/b", 16)["max_frames_num"] == 16
    assert frame_counts(recipe()) == [None]
    assert "max_frames_num" not in model_arguments(recipe(), "a/b", None)
    ours = recipe(wrapper="tpo_hf", frames=FrameOptions(max=96))
    assert frame_counts(ours) == [96]
    assert model_arguments(ours, "a/b", 96)["max_frames_num"] == 96


def test_ours_take_the_recipe_and_what_else_they_know() -> None:
    given = recipe(
        wrapper="llava_video_tpo",
        frames=FrameOptions(fps=2, max=96, time_instruction=True),
        wrapper_args={"sampler": "upstream", "force_sample": True, "mm_spatial_pool_mode": "average"},
        dtype="bfloat16",
        unreadable="count",
    )
    check_wrapper(given)
    arguments = model_arguments(given, "a/llava-qwen", 96)
    assert arguments == {
        **{"pretrained": "a/llava-qwen", "fps": 2, "max_frames_num": 96, "time_instruction": True},
        **{"dtype": "bfloat16", "device": "auto", "attn_implementation": "sdpa", "unreadable": "count"},
        **given.wrapper_args,
    }
    shared = replace(given, wrapper_args={"conv_template": "qwen_1_5"})
    assert model_arguments(shared, "a/llava-qwen", 96)["max_side"] == 768
    assert "max_pixels" not in model_arguments(shared, "a/llava-qwen", 96)
    limited = replace(shared, frames=FrameOptions(max_pixels=90_000))
    assert model_arguments(limited, "a/llava-qwen", 96)["max_pixels"] == 90_000


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        ({"wrapper": "tpo_hf", "wrapper_args": {"fps": 1}}, RecipeError, "`wrapper_args.fps` is `frames.fps`"),
        (
            {"wrapper": "longva_tpo", "wrapper_args": {"sampler": "upstream"}, "frames": FrameOptions(max_side=384)},
            RecipeError,
            "`frames.max_side` has no effect with sampler=upstream",
        ),
        (
            {"wrapper": "longva_tpo", "wrapper_args": {"sampler": "upstream"}, "frames": FrameOptions(max_pixels=9000)},
            RecipeError,
            "`frames.max_pixels` has no effect with sampler=upstream",
        ),
        (
            {"wrapper": "tpo_hf", "wrapper_args": {"max_pixels": 90_000}},
            RecipeError,
            "`wrapper_args.max_pixels` is `frames.max_pixels`",
        ),
        ({"unreadable": "count"}, RecipeError, "`unreadable` has no effect with the wrapper longva"),
        ({"wrapper": "tpo_hf", "upstream": "LongVA"}, RecipeError, "`upstream` has no effect"),
        ({"frames": FrameOptions(max=96)}, RecipeError, "`frames` has no effect with the wrapper longva"),
        ({"dtype": "bfloat16"}, RecipeError, "`dtype` has no effect"),
        ({"wrapper_args": {"pretrained": "x"}}, RecipeError, "`models` names the checkpoints"),
        ({"wrapper_args": {"tokens": [1, 2]}}, RecipeError, "plain values"),
        ({"wrapper_args": {"max_frames_num": "many"}}, RecipeError, "must be a whole number, 1 or more, it is 'many'"),
        ({"wrapper_args": {"max_frames_num": 0}}, RecipeError, "`wrapper_args.max_frames_num` must be a whole"),
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
