"""lmms-eval's task `needle`: the frames reach our models as they are, and no other model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tpo_plugin.errors import EvaluationError, TPOError
from tpo_plugin.evaluation.needle import task
from tpo_plugin.evaluation.needle.run import needle
from tpo_plugin.options import NeedleRecipe
from tpo_plugin.records import read_jsonl
from tpo_plugin.tiny.demo import base_checkpoint

GRID = {"needles": "needles", "haystack": "haystack.mp4", "frames": [8, 64], "depths": [0, 0.55], "max_side": 96}


@pytest.fixture(scope="module")
def home(needle_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """HF_HOME with the tiny world's needles and a small grid."""
    folder = tmp_path_factory.mktemp("hf")
    (folder / "needle").mkdir()
    for name in ("needles", "haystack.mp4"):
        (folder / "needle" / name).symlink_to(needle_folder / name)
    (folder / "needle" / "needle.json").write_text(json.dumps(GRID))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HOME", str(folder))
        patch.setenv("LMMS_EVAL_DATASETS_CACHE", str(folder / "cache"))
        task._world.cache_clear()
        yield folder
    task._world.cache_clear()


def manager(model: str) -> Any:
    """lmms-eval's tasks as `lmms-eval --model MODEL` sees them with this package installed."""
    from lmms_eval.tasks import TaskManager

    from tpo_plugin.integrations.lmms_eval import manifests

    manifests()
    return TaskManager("WARNING", model_name=model)


def test_the_task_says_what_tpo_needle_says(
    home: Path, make_needle_recipe: Callable[..., NeedleRecipe], tmp_path: Path
) -> None:
    from lmms_eval.evaluator import simple_evaluate

    from tpo_plugin.evaluation.wrappers.hf import TemporalHF

    model = TemporalHF(base_checkpoint(), dtype="float32", device="cpu", batch_size=16)
    found = simple_evaluate(model=model, tasks=["needle"], task_manager=manager("tpo_hf"), batch_size=16)
    samples = {one["doc"]["question_id"]: one for one in found["samples"]["needle"]}
    assert len(samples) == 2 * 2 * 12
    output = needle(make_needle_recipe(tmp_path, frames=GRID["frames"], depths=GRID["depths"], max_new_tokens=16))
    ours = {
        f"{one['id']}@{one['frames']}@{one['depth']:g}": one for one in read_jsonl(output / "base" / "answers.jsonl")
    }
    assert set(samples) == set(ours)
    for name, sample in samples.items():
        assert sample["filtered_resps"][0] == ours[name]["response"].strip(), name
        assert sample[task.METRIC]["score"] == ours[name]["generated"], name
    score = found["results"]["needle"][f"{task.METRIC},none"]
    assert score == pytest.approx(100 * sum(one["generated"] for one in ours.values()) / len(ours))
    assert 0 < score < 100, "both right and wrong answers are compared"


@pytest.mark.parametrize("model", ["qwen2_5_vl", "llava_vid"])
def test_a_model_that_samples_is_refused_before_it_is_asked(home: Path, model: str) -> None:
    with pytest.raises(EvaluationError, match=r"only tpo_hf, llava_video_tpo, longva_tpo take"):
        manager(model).load_task_or_group(["needle"], task_type="chat")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "set HF_HOME to the data folder"),
        ("[]", "must hold an object"),
        ("{", "is not JSON"),
        (json.dumps({**GRID, "frame": [8]}), "unknown key `frame`; did you mean `frames`"),
        (json.dumps({**GRID, "frames": [97]}), "the haystack has 96 frames"),
        (json.dumps({**GRID, "needles": "no"}), "no such file or folder"),
    ],
)
def test_data_that_is_not_in_place(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, problem: str
) -> None:
    folder = tmp_path / "needle"
    folder.mkdir()
    for name in ("needles", "haystack.mp4"):
        (folder / name).symlink_to(home / "needle" / name)
    if text is not None:
        (folder / "needle.json").write_text(text)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    task._world.cache_clear()
    with pytest.raises(TPOError, match=problem):
        task.docs(None)
    task._world.cache_clear()
