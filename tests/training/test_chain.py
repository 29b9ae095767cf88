"""Chains: each step from the checkpoint of the one before, found again when it is finished, its provenance written down."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tpo_plugin.cli import main
from tpo_plugin.errors import RecipeError, TPOError
from tpo_plugin.folders import checkpoint_digest
from tpo_plugin.integrations.huggingface import load_model
from tpo_plugin.options import ChainRecipe, TrainRecipe
from tpo_plugin.recipe import load, parse
from tpo_plugin.training.chain import plan, train_chain
from tpo_plugin.training.run import train

QUICK = {
    "per_device_train_batch_size": 4,
    "learning_rate": 1e-3,
    "gradient_checkpointing": False,
    "use_cpu": True,
    "disable_tqdm": True,
    "save_strategy": "no",
    "max_grad_norm": 0.0,
    "warmup_steps": 0,
}
DPO = {"dpo_alpha": 1.0, "gamma": 0.0}
SFT = {"dpo_alpha": 0.0, "gamma": 1.0}


@pytest.fixture(scope="module")
def setting(base: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe of DPO by difficulty, and data: pairs of two levels, and conversations about the same videos."""
    folder = tmp_path_factory.mktemp("chain")
    rows = json.loads(data.read_text())
    for number, row in enumerate(rows):
        row["tpo"] = {
            "kind": "caption",
            "perturbation": {"name": "drop", "kept": [], "difficulty": (16, 4)[number % 2]},
        }
    (data.parent / "chain.json").write_text(json.dumps(rows))
    talks = [
        {
            "id": row["id"],
            "video": row["video"],
            "conversations": [
                {"from": "human", "value": f"<image>\n{row['prompt']}"},
                {"from": "gpt", "value": row["chosen"]},
            ],
        }
        for row in rows[:4]
    ]
    (data.parent / "talks.json").write_text(json.dumps([*talks, {"id": "text", "conversations": []}]))
    recipe = {
        "model": "overridden",
        "data": str(data.parent / "chain.json"),
        "output": "overridden",
        "frames": {"fps": 1, "max": 4},
        "arguments": QUICK,
    }
    (folder / "train.yaml").write_text(yaml.safe_dump(recipe))
    return folder


@pytest.fixture
def chain(setting: Path, base: Path, data: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """A function that makes the plain values of a chain: DPO in two stages, SFT with adapters and the tower in full."""

    def make(**sft: Any) -> dict[str, Any]:
        source = str(setting / "train.yaml")
        lora = {"lora.r": 4, "trainable": ["projector", "language_model", "vision_tower"]}
        steps = [
            {"name": "dpo", "recipe": source, "objective": DPO, "curriculum": {"levels": [16, 4]}},
            {"name": "sft", "recipe": source, "objective": SFT, "data": str(data.parent / "talks.json"), **lora, **sft},
        ]
        return {"output": str(tmp_path / "out"), "model": str(base), "seed": 3, "steps": steps}

    return make


def write(values: dict[str, Any], file: Path) -> Path:
    file.write_text(yaml.safe_dump(values))
    return file


def test_a_chain_from_the_command_line(
    chain: Any, base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    output, file = tmp_path / "out", write(chain(), tmp_path / "chain.yaml")
    assert main(["train", str(file)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(output / "model")
    dpo, sft = json.loads((output / "chain.json").read_text())["steps"]
    assert [(step["name"], step["trainer"], step["folder"]) for step in (dpo, sft)] == [
        ("dpo", "hf", "dpo"),
        ("sft", "hf", "sft"),
    ]
    assert dpo["start"] == {"checkpoint": str(base), "digest": checkpoint_digest(str(base))}
    assert sft["start"] == {
        "checkpoint": str(output / "dpo" / "model"),
        "digest": checkpoint_digest(str(output / "dpo" / "model")),
    }
    assert [(step["pairs"], step["steps"], step["recipe"]["seed"]) for step in (dpo, sft)] == [(8, 2, 3), (4, 1, 3)]
    assert all(step["seconds"] > 0 and step["versions"]["transformers"] for step in (dpo, sft))
    assert sft["data"].endswith("talks.json")
    assert sft["recipe"] == {**sft["recipe"], "model": sft["start"]["checkpoint"], "output": str(output / "sft")}
    history = [json.loads((output / name / "history.json").read_text()) for name in ("dpo", "sft")]
    assert all(entry["grad_norm"] > 0 and "loss" in entry for entries in history for entry in entries)
    assert "1 of 5 rows are left out: they have no video" in caplog.text
    # The same as the runs one after the other.
    recipe = parse(TrainRecipe, {**sft["recipe"], "output": str(tmp_path / "alone")})
    alone, whole = (load_model(str(one), "float32", "cpu").state_dict() for one in (train(recipe), output / "model"))
    assert all(torch.equal(alone[name], value) for name, value in whole.items())
    started = load_model(sft["start"]["checkpoint"], "float32", "cpu").state_dict()
    assert any(not torch.equal(whole[name], started[name]) for name in whole if "vision_tower" in name)

    stamps = {name: (output / name / "done.json").stat().st_mtime_ns for name in ("dpo", "sft")}
    (output / "sft" / "done.json").unlink()  # as a stop before the end leaves it
    train_chain(load(ChainRecipe, file))
    assert (output / "dpo" / "done.json").stat().st_mtime_ns == stamps["dpo"]
    assert (output / "sft" / "done.json").stat().st_mtime_ns > stamps["sft"]
    again = load_model(str(output / "model"), "float32", "cpu").state_dict()
    assert all(torch.equal(again[name], value) for name, value in whole.items())
    with pytest.raises(
        RecipeError, match=r"step `sft` .*objective.gamma: 1.0 -> 0.5\): remove .*sft and the folders of"
    ):
        train_chain(parse(ChainRecipe, chain(**{"objective.gamma": 0.5})))

    output = output.rename(tmp_path / "moved")
    for name in ("sft", "dpo", "dpo/stage-2-r4"):
        (output / name / "done.json").unlink()
    stamp = (output / "dpo" / "stage-1-r16" / "done.json").stat().st_mtime_ns
    train_chain(replace(load(ChainRecipe, file), output=str(output)))
    assert (output / "dpo" / "stage-1-r16" / "done.json").stat().st_mtime_ns == stamp
    moved = load_model(str(output / "model"), "float32", "cpu").state_dict()
    assert all(torch.equal(moved[name], value) for name, value in whole.items())


@pytest.mark.parametrize(
    ("step", "says"),
    [
        ({"name": "a", "recipe": "tiny/tpo"}, "`a` cannot be step 3's name"),
        ({"name": "model", "recipe": "tiny/tpo"}, "`model` cannot be step 3's name"),
        ({"name": "../up", "recipe": "tiny/tpo"}, "cannot be step 3's name"),
        ({"recipe": "tiny/tpo"}, "step 3 must be {name: ..., recipe: NAME OR PATH"),
        ({"name": "c", "recipe": "tiny/none"}, "no recipe at tiny/none"),
        ({"name": "c", "recipe": "tiny/tpo", "model": "x"}, r"`steps.c`: the chain sets `model`"),
        ({"name": "c", "recipe": "tiny/tpo", "objektive": {}}, "unknown key `objektive`; did you mean `objective`"),
        ({"name": "c", "recipe": "tiny/tpo", "seed.x": 1}, "`steps.c` .*`seed` is not a section"),
        ({"name": "c", "recipe": "tiny/tpo", "objective.beta": -1.0}, "`steps.c`: `objective` needs beta > 0"),
        ({"name": "c", "recipe": "tiny/tpo", "arguments.lr": 1.0}, "`steps.c`: unknown key `arguments.lr`"),
    ],
)
def test_a_step_that_cannot_run_is_refused_before_the_first_one(
    tmp_path: Path, step: dict[str, Any], says: str
) -> None:
    steps = ({"name": "a", "recipe": "tiny/tpo"}, {"name": "b", "recipe": "tiny/sft_self"}, step)
    with pytest.raises(RecipeError, match=says):
        plan(ChainRecipe(str(tmp_path), "start", steps))


def test_a_chain_without_steps_or_with_a_start_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="`steps` is empty"):
        plan(ChainRecipe(str(tmp_path), "start", ()))
    with pytest.raises(TPOError, match="no checkpoint folder at"):
        train_chain(ChainRecipe(str(tmp_path), str(tmp_path / "gone"), ({"name": "a", "recipe": "tiny/tpo"},)))


def test_an_upstream_step_is_not_started_by_torchrun(
    beside_longva: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RecipeError, match="starts its processes itself"):
        plan(ChainRecipe(str(tmp_path), "start", ({"name": "a", "recipe": "longva/train"},)))


def test_data_that_a_later_step_cannot_take_is_told_before_the_first_one(chain: Any, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    for sft, says in (
        ({"data": "gone.json"}, r"`steps.sft`: no file gone.json"),
        ({"difficulty": [16]}, r"`steps.sft`: no pair has difficulty 16"),
        ({"max_pairs": 5}, r"`steps.sft`: 5 pairs are asked for and there are 4"),
        ({"objective": DPO}, r"`steps.sft`: 4 of 4 rows have no rejected response"),
        (
            {"video_root": str(tmp_path / "elsewhere")},
            r"`steps.sft`: 4 of the pairs' videos are not under .*elsewhere: video 0.mp4, .*, \.\.\.; set `video_root` to the folder",
        ),
    ):
        with pytest.raises(RecipeError, match=says):
            train_chain(parse(ChainRecipe, chain(**sft)))
    assert not (tmp_path / "out" / "dpo").exists()


def test_a_step_put_between_two_is_refused_before_it_is_trained(chain: Any, tmp_path: Path) -> None:
    values = chain()
    del values["steps"][0]["curriculum"]
    first, last = values["steps"]
    train_chain(parse(ChainRecipe, values))
    between = {**values, "steps": [first, {**first, "name": "more"}, last]}
    with pytest.raises(RecipeError, match=r"step `sft` .*model: .*out/dpo/model -> .*out/more/model"):
        train_chain(parse(ChainRecipe, between))
    assert not (tmp_path / "out" / "more").exists()


def test_what_is_missing_is_named_by_the_extra_of_the_chains_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {"output": str(tmp_path / "out"), "model": "m", "steps": [{"name": "a", "recipe": "longva/train"}]}
    file = write(values, tmp_path / "chain.yaml")
    for name in ("chain", "claims"):  # are imported anew, where a package is missing
        monkeypatch.delitem(sys.modules, f"tpo_plugin.training.{name}")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    assert main(["train", str(file)]) == 1
    assert "pip install 'tpo-plugin[llava]'" in capsys.readouterr().err
