"""A recipe for an upstream script: what becomes of its flags, and what is refused before anything starts."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tpo_plugin import recipe as recipes
from tpo_plugin.cli import main
from tpo_plugin.errors import RecipeError
from tpo_plugin.integrations.checkout import Checkout
from tpo_plugin.options import ChainRecipe, UpstreamRecipe
from tpo_plugin.training.upstream import _check, _command, known_flags, words

SCRIPT = """
class ModelArguments:
    model_name_or_path: str = None
    mm_vision_select_layer: int = -1

class DataArguments:
    "The data."
    data_path: str = None
    frames_upbound: int = 0

class TrainingArguments(transformers.TrainingArguments):
    beta: float = 0.1

class DPODataCollator:
    tokenizer: object = None
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    root = tmp_path / "LongVA" / "longva"
    script = root / "longva" / "train" / "train_dpo.py"
    script.parent.mkdir(parents=True)
    script.write_text(SCRIPT)
    (root / "scripts").mkdir()
    (root / "scripts" / "zero3.json").write_text("{}")
    return Checkout(root.parent, "longva", "LongVA", "longva", root, script, None, False)


def needed(**more: object) -> dict[str, object]:
    return {"model_name_or_path": "m", "data_path": "d", "output_dir": "o", **more}


def test_flags_are_the_scripts_transformers_and_ours(checkout: Checkout) -> None:
    known = known_flags(checkout)
    assert {"mm_vision_select_layer", "frames_upbound", "beta", "output_dir", "bf16", "tpo", "tpo_preset"} <= known
    assert "tokenizer" not in known


def test_values_become_words(tmp_path: Path) -> None:
    flags = {
        "tpo": True,
        "bf16": False,
        "image_folder": None,
        "learning_rate": 4.0e-6,
        "mm_vision_select_layer": -2,
        "image_grid_pinpoints": "[(336, 672)]",
        "report_to": ["wandb", "tensorboard"],
        "deepspeed": {"zero_optimization": {"stage": 2}},
    }
    line = [
        "--tpo",
        "True",
        "--bf16",
        "False",
        "--learning_rate",
        "4e-06",
        "--mm_vision_select_layer",
        "-2",
        "--image_grid_pinpoints",
    ]
    line += [
        "[(336, 672)]",
        "--report_to",
        "wandb",
        "tensorboard",
        "--deepspeed",
        '{"zero_optimization": {"stage": 2}}',
    ]
    assert words(flags, tmp_path) == line


def test_a_deepspeed_file_is_found_from_here_then_in_the_checkout(
    checkout: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = {"deepspeed": "scripts/zero3.json"}
    assert words(flags, checkout.root) == ["--deepspeed", str(checkout.root / "scripts" / "zero3.json")]
    assert words({"deepspeed": "scripts/none.json"}, checkout.root) == ["--deepspeed", "scripts/none.json"]
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "zero3.json").write_text("{}")
    assert words(flags, checkout.root) == ["--deepspeed", "scripts/zero3.json"]


@pytest.mark.parametrize(
    ("processes", "flags", "start"),
    [
        (1, {}, []),
        (1, {"deepspeed": None}, []),
        (
            1,
            {"deepspeed": "scripts/zero3.json"},
            ["torch.distributed.run", "--standalone", "--nproc_per_node", "1", "-m"],
        ),
        (8, {}, ["torch.distributed.run", "--standalone", "--nproc_per_node", "8", "-m"]),
    ],
)
def test_torchrun_is_used_where_it_is_needed(processes: int, flags: dict[str, object], start: list[str]) -> None:
    recipe = UpstreamRecipe("LongVA", needed(**flags), processes)
    command = _command(recipe, ["--tpo", "True"])
    assert command == [
        sys.executable,
        "-m",
        *start,
        "tpo_plugin",
        "train",
        "--upstream",
        "LongVA",
        "--",
        "--tpo",
        "True",
    ]


@pytest.mark.parametrize(
    ("recipe", "text"),
    [
        (UpstreamRecipe("LongVA", needed(output_dir=None)), "`flags.output_dir` is missing"),
        (UpstreamRecipe("LongVA", {"data_path": "d", "output_dir": "o"}), "`flags.model_name_or_path` is missing"),
        (UpstreamRecipe("LongVA", needed(data_path=" ")), "`flags.data_path` is missing"),
        (UpstreamRecipe("LongVA", needed(), 0), "`processes` must be 1 or more"),
        (UpstreamRecipe("LongVA", needed(frame_upbound=3)), "no flag `frame_upbound`; did you mean `frames_upbound`"),
    ],
)
def test_what_the_script_would_not_take_is_refused(checkout: Checkout, recipe: UpstreamRecipe, text: str) -> None:
    known = known_flags(checkout)
    with pytest.raises(RecipeError, match=text):
        _check(recipe, known)
    _check(UpstreamRecipe("LongVA", needed(beta=0.3)), known)


def test_temples_recipe_holds_the_papers_numbers() -> None:
    """arXiv 2503.16929: stages 16 to 2 without SFT term, then SFT with the vision tower; LoRA r 32, batch 16."""
    chain = recipes.load(ChainRecipe, "llava_video/temple")
    steps = []
    for step in chain.steps:
        data = recipes.read(step["recipe"])
        for key in step.keys() - {"name", "recipe"}:
            recipes.change(data, key, step[key])
        steps.append(recipes.parse(UpstreamRecipe, data))
    *stages, sft = steps
    assert [one.flags["tpo_difficulty"] for one in stages] == ["16", "8", "4", "2"]
    same = [{key: value for key, value in one.flags.items() if key != "tpo_difficulty"} for one in stages]
    assert same == [same[0]] * 4
    names = ("lora_r", "lora_alpha", "learning_rate", "dpo_alpha", "gamma")
    assert [same[0][name] for name in names] == [32, 64, 5e-6, 1.0, 0.0]
    assert [sft.flags[name] for name in names] == [32, 32, 1e-4, 0.0, 1.0]
    assert ["tower" in one["mm_tunable_parts"] for one in (same[0], sft.flags)] == [False, True]
    assert sft.flags["tpo_difficulty"] is None
    for one in steps:
        assert one.processes * one.flags["per_device_train_batch_size"] * one.flags["gradient_accumulation_steps"] == 16


def test_the_command_takes_such_a_recipe_by_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", "longva/train", "upstream=elsewhere/LongVA"]) == 1
    assert "elsewhere/LongVA is not there" in capsys.readouterr().err


def test_overrides_reach_the_flags() -> None:
    changes = (
        "upstream=../LongVA",
        "flags.data_path=pairs.json",
        "flags.deepspeed=null",
        "flags.beta=0.5",
        "processes=2",
    )
    loaded = recipes.load(UpstreamRecipe, "longva/train", changes)
    assert (loaded.upstream, loaded.processes) == ("../LongVA", 2)
    assert [loaded.flags[name] for name in ("data_path", "deepspeed", "beta")] == ["pairs.json", None, 0.5]
