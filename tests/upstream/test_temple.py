"""TEMPLE on the real scripts: rows by difficulty, a reference of one's own, stages whose adapters are merged in between, then SFT."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tpo_plugin.errors import TPOError
from tpo_plugin.folders import checkpoint_digest
from tpo_plugin.options import UpstreamRecipe
from tpo_plugin.recipe import to_plain
from tpo_plugin.training.upstream import run_step

WORKER = Path(__file__).with_name("temple.py")
LEVELS = (16, 8, 4, 2)
NAMES = ("r16", "r8", "sft")  # of the chain's steps
TEXTS = ("A red circle.", "A blue square, then red.", "A circle, a square.", "Red.")
LN_2 = pytest.approx(math.log(2), abs=1e-3)


@pytest.fixture(scope="module")
def rows(world: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two rejected captions a level for each of two videos, as TEMPLE's curation writes them, one chosen text a video."""
    written = [
        {
            "id": f"{video}-{name}-{level}",
            "video": f"video {video}.mp4",
            "prompt": "What shape is shown in the video?",
            "chosen": f"A red circle, then a blue square, then {video}.",
            "rejected": f"{text} {name}",
            "tpo": {"kind": "caption", "perturbation": {"name": name, "difficulty": float(level)}},
        }
        for video in range(2)
        for level, text in zip(LEVELS, TEXTS)
        for name in ("drop", "shuffle")
    ]
    file = tmp_path_factory.mktemp("rows") / "rows.json"
    file.write_text(json.dumps(written))
    return file


def train(world: Any, output: Path, **changes: object) -> list[dict[str, Any]]:
    """The logged steps of a run that must succeed."""
    flags = world.flags(output, tpo=True, gamma=0.0, **changes)
    done = world.run("-m", "tpo_plugin", "train", "--upstream", world.checkout.path, "--", *flags)
    assert done.returncode == 0, done.stdout[-4000:]
    return history(output)


def history(output: Path) -> list[dict[str, Any]]:
    log = json.loads((output / "trainer_state.json").read_text())["log_history"]
    return [entry for entry in log if "loss" in entry]


@pytest.mark.parametrize(("order", "first"), [("easy_to_hard", 16), ("hard_to_easy", 2)])
def test_the_trainer_comes_by_the_levels_in_their_order(
    world: Any, rows: Path, tmp_path: Path, order: str, first: int
) -> None:
    changes = {"per_device_train_batch_size": 2, "tpo_pairs_per_video": 2} if first == 16 else {}
    flags = world.flags(tmp_path, data_path=rows, tpo_order=order, tpo_difficulty="16,8,2", **changes)
    done = world.run(WORKER, world.checkout.path, *flags)
    assert done.returncode == 0, done.stdout[-4000:]
    found = json.loads(done.stdout.splitlines()[-1])
    for ids in found["orders"]:
        levels = [found["levels"][one] for one in ids]
        assert sorted(ids) == sorted(found["levels"]), "each row once"
        assert set(levels) == {16, 8, 2}
        assert levels == sorted(levels, reverse=first == 16)
        if changes:
            assert all(one[0] == other[0] for one, other in zip(ids[::2], ids[1::2])), "a video's pairs together"
    assert found["orders"][0] != found["orders"][1], "shuffled within a level"


def test_an_ordered_run_resumes_within_its_epoch_on_both_paths(world: Any, rows: Path, tmp_path: Path) -> None:
    settings = {"data_path": rows, "tpo_order": "easy_to_hard", "tpo_difficulty": "16,2", "num_train_epochs": 2}
    saving = {"save_strategy": "steps", "save_steps": 11, "learning_rate": 3e-3}
    whole = train(world, tmp_path / "whole", **settings, **saving)
    assert len(whole) == 16
    (tmp_path / "resumed").mkdir()
    shutil.copytree(tmp_path / "whole/checkpoint-11", tmp_path / "resumed/checkpoint-11")
    resumed = train(world, tmp_path / "resumed", **settings, **saving)
    assert [step["loss"] for step in resumed] == [step["loss"] for step in whole]
    plain = train(world, tmp_path / "plain", **settings, tpo_path="plain", learning_rate=3e-3, max_steps=8)
    assert [step["logps/chosen"] for step in plain[:1]] == pytest.approx([whole[0]["logps/chosen"]], rel=1e-5)


def recipe(world: Any, rows: Path, **changes: object) -> UpstreamRecipe:
    """A LoRA step as recipes/llava_video/temple.yaml has them, for the tiny model on the CPU."""
    words = world.flags(Path("runs/tiny-llava-longva-qwen"), data_path=rows)
    flags = dict(zip((word.removeprefix("--") for word in words[::2]), words[1::2]))
    lora = {"lora_enable": True, "lora_r": 4, "lora_alpha": 8, "learning_rate": 0.01, "gamma": 0.0, "max_steps": 3}
    return UpstreamRecipe(str(world.checkout.path), {**flags, "tpo": True, **lora, **changes})


@pytest.fixture(scope="module")
def stages(world: Any, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """The folder of a chain, two stages and SFT on conversations with the tower, made by one command; and the checkpoint of each step."""
    folder = tmp_path_factory.mktemp("chain")
    talk = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "A circle."}]
    talk += [{"from": "human", "value": "And then?"}, {"from": "gpt", "value": "A blue square."}]
    (folder / "sft.json").write_text(json.dumps([{"id": "a", "video": "video 1.mp4", "conversations": talk}] * 2))
    (folder / "step.yaml").write_text(json.dumps(to_plain(recipe(world, rows))))
    step = {"recipe": str(folder / "step.yaml")}
    tower = {"flags.mm_tunable_parts": "mm_vision_tower,mm_mlp_adapter,mm_language_model", "flags.max_steps": 2}
    sft = {"flags.data_path": str(folder / "sft.json"), "flags.dpo_alpha": 0.0, "flags.gamma": 1.0, **tower}
    steps = [{"name": f"r{level}", **step, "flags.tpo_difficulty": str(level)} for level in (16, 8)]
    plain = {"output": str(folder), "model": str(world.model), "steps": [*steps, {"name": "sft", **step, **sft}]}
    (folder / "chain.yaml").write_text(json.dumps(plain))
    done = world.run("-m", "tpo_plugin", "train", folder / "chain.yaml")
    assert done.returncode == 0, done.stdout[-4000:]
    return folder, [folder / name / "tiny-llava-longva-qwen-merged" for name in NAMES]


def weights(checkpoint: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(checkpoint / "model.safetensors")


def test_each_stage_starts_from_the_merged_result_of_the_one_before(
    world: Any, stages: tuple[Path, list[Path]]
) -> None:
    folder, (first, second, last) = stages
    entries = json.loads((folder / "chain.json").read_text())["steps"]
    starts = [checkpoint_digest(str(start)) for start in (world.model, first, second)]
    assert [entry["start"]["digest"] for entry in entries] == starts
    assert [(entry["name"], entry["trainer"], entry["pairs"], entry["steps"]) for entry in entries] == [
        ("r16", "upstream", 4, 3), ("r8", "upstream", 4, 3), ("sft", "upstream", 4, 2),
    ]  # fmt: skip
    assert all(entry["seconds"] > 0 and entry["versions"]["torch"] for entry in entries)
    for name, start in zip(NAMES[:2], starts):
        output = folder / name / "tiny-llava-longva-qwen"
        losses = [step["loss"] for step in history(output)]
        assert losses[0] == LN_2, "the reference is the model that the stage starts from"
        assert losses[-1] != LN_2
        table = json.loads((output / "reference.jsonl").read_text().splitlines()[0])
        assert table["reference"]["model_name_or_path"] == start
    base, after = weights(first), weights(last)
    changed = {name.split(".")[1] for name in base if not base[name].equal(after[name])}
    assert changed == {"layers", "mm_projector", "vision_tower"}, "SFT trains the tower as well"
    assert not [name for name in after if "lora_" in name]
    assert checkpoint_digest(str(folder / "model")) == checkpoint_digest(str(last))


def test_a_finished_step_is_reused_and_another_is_refused(
    world: Any, rows: Path, stages: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    folder, found = stages
    before = (folder / "r8/step.json").stat().st_mtime_ns
    again = recipe(world, rows, seed=0, tpo_difficulty="8")
    assert run_step(again, str(found[0]), folder / "r8") == found[1]
    assert (folder / "r8/step.json").stat().st_mtime_ns == before
    other = replace(again, flags={**again.flags, "tpo_difficulty": "4"})
    with pytest.raises(
        TPOError, match=r"step of another recipe or another start \(recipe.flags.tpo_difficulty: 8 -> 4"
    ):
        run_step(other, str(found[0]), folder / "r8")
    with pytest.raises(TPOError, match=r"another start .*remove that folder and those of the steps after it"):
        run_step(again, str(world.model), folder / "r8")
    lost = tmp_path / "r8"
    lost.mkdir()
    shutil.copy(folder / "r8/step.json", lost)
    with pytest.raises(TPOError, match=r"its result .*-merged is gone: remove .*r8, and the step runs again"):
        run_step(again, str(found[0]), lost)
    written = rows.read_text()
    rows.write_text(written.replace("What shape", "Which shape"))
    try:
        with pytest.raises(TPOError, match=r"another start \(data: "):
            run_step(again, str(found[0]), folder / "r8")
    finally:
        rows.write_text(written)
    with pytest.raises(TPOError, match="holds an adapter, which the script cannot start from"):
        run_step(again, str(folder / "r16/tiny-llava-longva-qwen"), tmp_path)


def test_a_reference_of_ones_own_on_both_paths(
    world: Any, rows: Path, stages: tuple[Path, list[Path]], tmp_path: Path
) -> None:
    """Stage 2 with the reference of stage 1: the loss does not start at ln 2, and both paths have the same."""
    start = stages[1][0]
    settings = {"model_name_or_path": start, "data_path": rows, "tpo_difficulty": "8", "max_steps": 3}
    settings |= {"lora_enable": True, "lora_r": 4, "learning_rate": 0.01}
    fast = train(world, tmp_path / "fast", tpo_reference_model=world.model, **settings)
    plain = train(world, tmp_path / "plain", tpo_reference_model=world.model, tpo_path="plain", **settings)
    assert fast[0]["loss"] != LN_2
    for one, other in zip(fast, plain, strict=True):
        for key in ("loss", "rewards/margins", "ref_logps/chosen", "ref_logps/rejected", "grad_norm"):
            assert one[key] == pytest.approx(other[key], rel=1e-4, abs=1e-5), key
    table = json.loads((tmp_path / "fast/reference.jsonl").read_text().splitlines()[0])["reference"]
    assert table["model_name_or_path"] == checkpoint_digest(str(world.model))
    saved = (tmp_path / "fast/reference.jsonl").stat().st_mtime_ns
    train(world, tmp_path / "fast", tpo_reference_model=world.model, **settings)
    assert (tmp_path / "fast/reference.jsonl").stat().st_mtime_ns == saved, "its rows are not computed again"
