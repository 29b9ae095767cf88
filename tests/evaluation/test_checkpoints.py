"""Is a checkpoint in place, before a run asks for it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tpo_plugin.errors import TPOError
from tpo_plugin.evaluation import checkpoints
from tpo_plugin.evaluation.checkpoints import check_model
from tpo_plugin.evaluation.workers import environment
from tpo_plugin.options import EvaluateRecipe

LONGVA = {"model_type": "llava_qwen", "mm_patch_merge_type": "unires", "mm_spatial_pool_mode": "average"}
CLIP = "openai/clip-vit-large-patch14-336"


@pytest.fixture
def given(checkpoint: Path, tmp_path: Path) -> EvaluateRecipe:
    return EvaluateRecipe(models={"base": str(checkpoint)}, output=str(tmp_path / "out"), data=str(tmp_path))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """An empty cache of the hub; a function that puts files of a model into it."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    def put(model: str, **files: str) -> Path:
        kept = tmp_path / "hub" / f"models--{model.replace('/', '--')}"
        (kept / "refs").mkdir(parents=True, exist_ok=True)
        (kept / "refs" / "main").write_text("a" * 40)
        return write(kept / "snapshots" / ("a" * 40), **files)

    return put


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "offline", lambda: False)


def write(folder: Path, config: dict[str, Any] | None = None, **files: str) -> Path:
    """A folder with a config.json and these files, named without their dots."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "clip"} if config is None else config))
    for name, text in files.items():
        (folder / name.replace("_dot_", ".")).write_text(text)
    return folder


def problem(*given: Any) -> str:
    """What the user is told to do."""
    with pytest.raises(TPOError) as error:
        check_model(*given)
    return str(error.value)


def test_what_a_folder_lacks_is_said(given: EvaluateRecipe, checkpoint: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(checkpoint, tmp_path / "broken")
    assert check_model(given, str(broken)) == f"complete in {broken}"
    (broken / "model.safetensors").unlink()
    assert "holds no weights" in problem(given, str(broken))
    assert "no checkpoint folder at runs/none/model" in problem(given, "runs/none/model")
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (broken / "model.safetensors.index.json").write_text(json.dumps(index))
    (broken / "one.safetensors").touch()
    assert "lacks two.safetensors (1 files): copy or fetch it again" in problem(given, str(broken))
    (broken / "config.json").write_text("{")
    assert "config.json is missing or broken" in problem(given, str(broken))


def test_an_adapter_needs_its_weights(given: EvaluateRecipe, checkpoint: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(checkpoint)}))
    assert "holds no adapter's weights" in problem(given, str(adapter))
    (adapter / "adapter_model.safetensors").touch()
    assert check_model(given, str(adapter)) == f"an adapter on {checkpoint}, complete in {checkpoint}"


def test_what_the_hub_has_is_fetched(given: EvaluateRecipe, hub: Any, online: None) -> None:
    """Also if the cache holds the config alone, as a run leaves it that has asked for the newest commit."""
    assert check_model(given, "some/model") == "on the hub; fetched by the first cell"
    kept = hub("some/model", config={"model_type": "qwen2_vl"})
    assert check_model(given, "some/model") == "on the hub; fetched by the first cell"
    (kept / "model.safetensors").touch()
    assert check_model(given, "some/model") == f"complete in {kept}"


def test_offline_nothing_is_fetched(given: EvaluateRecipe, hub: Any) -> None:
    assert "says offline: hf download some/model" in problem(given, "some/model")
    hub("some/model")
    assert "holds no weights, neither *.safetensors nor *.bin, and the environment says off" in problem(
        given, "some/model"
    )


@pytest.mark.parametrize(
    ("wrapper", "config", "says"),
    [
        ("tpo_hf", LONGVA, "is a llava_qwen model; tpo_hf was tried with llava_onevision"),
        ("longva_tpo", {"model_type": "qwen2_vl"}, "is a qwen2_vl model; LLaVA-NeXT's and LongVA's classes take"),
        ("llava_video_tpo", LONGVA, "its `upstream` must be a checkout of LongVA"),
        ("longva_tpo", {**LONGVA, "mm_vision_tower": "google/siglip-x"}, "names the vision tower google/siglip-x"),
        ("longva_tpo", {**LONGVA, "mm_vision_tower": CLIP}, f"{CLIP} is not in the hub cache"),
        ("longva", {**LONGVA, "mm_vision_tower": CLIP}, f"says offline: hf download {CLIP}"),
    ],
)
def test_what_the_wrapper_would_refuse_is_said(
    given: EvaluateRecipe, hub: Any, tmp_path: Path, wrapper: str, config: dict[str, Any], says: str
) -> None:
    folder = write(tmp_path / "model", config=config, model_dot_safetensors="x")
    assert says in problem(replace(given, wrapper=wrapper), str(folder))


def test_a_tower_in_its_place(given: EvaluateRecipe, hub: Any, tmp_path: Path) -> None:
    """On the disk, and of an adapter's base in the cache; the config's pooling may come from the recipe."""
    tower = write(tmp_path / "tower", pytorch_model_dot_bin="x")
    bare = {name: value for name, value in LONGVA.items() if name != "mm_spatial_pool_mode"}
    folder = write(tmp_path / "a", config={**bare, "mm_vision_tower": str(tower)}, model_dot_safetensors="x")
    recipe = replace(given, wrapper="longva_tpo", wrapper_args={"mm_spatial_pool_mode": "max"})
    assert check_model(recipe, str(folder)) == f"complete in {folder}; its vision tower {tower}: complete in {tower}"
    kept = hub(CLIP, pytorch_model_dot_bin="x")
    base = write(tmp_path / "b", config={**LONGVA, "mm_vision_tower": CLIP}, model_dot_safetensors="x")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    (adapter / "adapter_model.bin").touch()
    assert check_model(recipe, str(adapter)).endswith(f"its vision tower {CLIP}: complete in {kept}")


def test_offline_is_forced_only_where_nothing_is_fetched(
    given: EvaluateRecipe, hub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert environment(given)["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" not in environment(replace(given, models={"base": "some/model"}))
    folder = write(tmp_path / "model", config={**LONGVA, "mm_vision_tower": CLIP}, model_dot_safetensors="x")
    trained = replace(given, models={**given.models, "trained": str(folder)}, wrapper="longva_tpo")
    assert "HF_HUB_OFFLINE" not in environment(trained)
    hub(CLIP)
    assert "HF_HUB_OFFLINE" not in environment(trained), "its weights are still to be fetched"
    hub(CLIP, pytorch_model_dot_bin="x")
    assert environment(trained)["HF_HUB_OFFLINE"] == "1"


def test_threads_are_shared_among_workers(given: EvaluateRecipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the system does not say which cores a process may use."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert environment(replace(given, workers=3))["OMP_NUM_THREADS"] == "2"
    assert "OMP_NUM_THREADS" not in environment(given)
