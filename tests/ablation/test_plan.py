"""What an ablation is going to run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tpo_plugin.ablation.plan import Stage, plan, result
from tpo_plugin.ablation.run import _ready
from tpo_plugin.errors import RecipeError, TPOError
from tpo_plugin.options import AblateRecipe, ChainRecipe, CurateRecipe, EvaluateRecipe, TrainRecipe, UpstreamRecipe
from tpo_plugin.recipe import parse
from tpo_plugin.tiny.setting import base_checkpoint

TRAIN = {
    "tpo": {"recipe": "tiny/tpo", "data": "{pairs}", "max_pairs": 8},
    "chain": [{"recipe": "tiny/tpo", "data": "{pairs}"}, {"recipe": "tiny/sft_self", "data": "{answers}"}],
}
EVALUATE = {"recipe": "tiny/evaluate", "tasks": ["mlvu_dev"]}
PREPARED = {"videos": "films", "benchmarks": "marks", "needles": "hay", "server": "http://here/v1", "shipped": "a/b"}


@pytest.fixture
def make(make_recipe: Callable[..., AblateRecipe]) -> Callable[..., AblateRecipe]:
    """As `make_recipe`, with two trainings, of which the needle looks at one."""
    plain = make_recipe()
    needle = {"needle": {**plain.needle["needle"], "models": ["base", "tpo"]}}
    measured = {key: value for key, value in plain.evaluate["benchmarks"].items() if key != "models"}
    return lambda **changes: make_recipe(
        **{"train": TRAIN, "evaluate": {"benchmarks": measured}, "needle": needle, **changes}
    )


def planned(recipe: Any, seed: int = 0, folder: Path = Path("out"), **prepared: str) -> list[Stage]:
    return plan(recipe, folder, seed, {**PREPARED, **prepared})


def test_each_stage_has_its_whole_recipe(make) -> None:
    stages = planned(make(), seed=3)
    assert [(stage.command, stage.name) for stage in stages] == [
        ("curate", "pairs"), ("curate", "answers"), ("train", "tpo"), ("train", "chain"), ("train", "chain"),
        ("evaluate", "benchmarks"), ("needle", "needle"),
    ]  # fmt: skip
    pairs, answers = (parse(CurateRecipe, stage.recipe) for stage in stages[:2])
    assert (pairs.output, pairs.seed, pairs.videos.source) == ("out/curate/pairs", 3, "films")
    assert (pairs.responses.server.base_url, pairs.llm.base_url, pairs.frames.fps) == (
        "http://here/v1",
        "http://here/v1",
        0.5,
    )
    assert answers.queries.curated == "out/curate/pairs"
    tpo, first, second = (parse(TrainRecipe, stage.recipe) for stage in stages[2:5])
    assert (tpo.model, tpo.data, tpo.output, tpo.seed) == ("a/b", "out/curate/pairs", "out/train/tpo", 3)
    assert (first.model, second.model) == ("a/b", "out/train/chain/step-1/model")
    assert (second.data, second.objective.dpo_alpha) == ("out/curate/answers", 0)
    models = parse(EvaluateRecipe, stages[5].recipe).models
    assert models == {"base": "a/b", "tpo": "out/train/tpo/model", "chain": "out/train/chain/step-2/model"}
    assert set(stages[6].recipe["models"]) == {"base", "tpo"}
    assert stages[6].recipe["haystack"] == "hay/haystack.mp4"


def test_a_change_redoes_what_depends_on_it_and_where_the_server_is_does_not_count(make, tmp_path: Path) -> None:
    def identities(**changes: Any) -> list[str]:
        return [stage.identity for stage in planned(make(**changes))]

    before, plain = identities(), make()
    assert before == [stage.identity for stage in planned(plain, server="http://elsewhere/v1")]
    train = {**plain.train, "tpo": {**plain.train["tpo"], "max_pairs": 9}}
    assert [one == other for one, other in zip(before, identities(train=train))] == [
        True,
        True,
        False,
        True,
        True,
        False,
        False,
    ]
    curate = {**plain.curate, "answers": {**plain.curate["answers"], "videos.limit": 2}}
    assert [one == other for one, other in zip(before, identities(curate=curate))] == [
        True,
        False,
        True,
        True,
        False,
        False,
        True,
    ]
    folder = shutil.copytree(base_checkpoint(), tmp_path / "copy")
    first = [stage.identity for stage in planned(plain, shipped=str(folder))]
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "another": 1}))
    second = [stage.identity for stage in planned(plain, shipped=str(folder))]
    assert [one == other for one, other in zip(first, second)] == [True] * 2 + [False] * 5, "the base is another"
    assert not set(before) & {stage.identity for stage in planned(plain, seed=1)}


def test_what_prepares_the_world_counts(make) -> None:
    def identities(**prepare_with: Any) -> list[str]:
        return [stage.identity for stage in planned(make(prepare_with=prepare_with))]

    before, after = identities(videos=1000), identities(videos=5)
    assert before == identities(videos=1000)
    assert not [one for one, other in zip(before, after) if one == other]


def test_another_release_or_commit_is_another_result(
    make, beside_longva: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train = {"tpo": {"recipe": "tiny/tpo", "data": "{pairs}"}, "other": {"recipe": "longva/train"}}
    recipe = make(train=train)

    def identities() -> list[str]:
        return [stage.identity for stage in planned(recipe)]

    before = identities()
    outer = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    for command in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "one"],
    ):
        subprocess.run(["git", "-C", beside_longva.parents[3], *command], check=True, env=outer)
    committed = identities()
    names = [(stage.command, stage.name) for stage in planned(recipe)]
    changed = [name for name, one, other in zip(names, before, committed) if one != other]
    assert changed == [("train", "other"), ("evaluate", "benchmarks")]
    edited = beside_longva.parents[1] / "model" / "builder.py"
    edited.write_text("# edited")
    assert [name for name, one, other in zip(names, committed, identities()) if one != other] == changed
    edited.write_text("")
    (tmp_path / "decord-9.9.dist-info").mkdir()
    (tmp_path / "decord-9.9.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: decord\nVersion: 9.9\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert not set(committed) & set(identities())


def test_code_that_the_environment_names_counts_for_what_it_measures(
    make, beside_longva: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TPO_LONGVA", str(beside_longva.parents[3]))
    with_upstream = {"wrapper": "longva_tpo"}
    plain = make()
    needle = {"needle": {**plain.needle["needle"], **with_upstream}}
    recipe = make(
        evaluate={"e": {**EVALUATE, **with_upstream}, "f": {**EVALUATE, "tasks": ["videomme"]}}, needle=needle
    )
    before = planned(recipe)
    (beside_longva.parents[1] / "model" / "builder.py").write_text("# edited")
    changed = [one.name for one, other in zip(before, planned(recipe)) if one.identity != other.identity]
    assert changed == ["e", "needle"]


def test_an_upstream_script_is_a_training_too(make, beside_longva: Path) -> None:
    train = {
        "first": {"recipe": "longva/train", "flags.data_path": "{pairs}", "flags.tpo_ratio": "8:2"},
        "then": [{"recipe": "longva/train"}, {"recipe": "longva/train_lora", "flags.beta": 0.1}],
    }
    stages = [stage for stage in planned(make(train=train, needle={})) if stage.command == "train"]
    flags = [parse(UpstreamRecipe, stage.recipe).flags for stage in stages]
    assert flags[0]["output_dir"] == result(stages[0]) == "out/train/first/LongVA-7B-Qwen2-TPO", "upstream reads names"
    assert (flags[0]["model_name_or_path"], flags[0]["seed"], flags[0]["tpo_ratio"]) == ("a/b", 0, "8:2")
    assert flags[2]["model_name_or_path"] == flags[1]["output_dir"]
    train["last"] = {"recipe": "longva/train", "model": "{first}"}
    (last,) = [stage for stage in planned(make(train=train, needle={})) if stage.name == "last"]
    assert last.recipe["flags"]["model_name_or_path"] == flags[0]["output_dir"]
    train["last"] = {"recipe": "longva/train", "model": "{then}"}
    with pytest.raises(RecipeError, match=r"`train.last` starts from out/train/then/.* which holds adapters alone"):
        planned(make(train=train, needle={}))


AFTER = {"recipe": "tiny/tpo", "model": "{tpo}", "data": "{pairs}"}


def test_a_training_starts_from_an_earlier_one_and_depends_on_it(make) -> None:
    def trainings(**changes: Any) -> dict[str, Stage]:
        train = {
            **TRAIN,
            "tpo": {**TRAIN["tpo"], **changes},
            "after": AFTER,
            "steps": [AFTER, {"recipe": "tiny/sft_self"}],
        }
        stages = [stage for stage in planned(make(train=train)) if stage.command == "train"]
        return {f"{stage.name} {stage.folder.name}": stage for stage in stages}

    found = trainings()
    for name in ("after after", "steps step-1"):
        assert found[name].recipe["model"] == result(found["tpo tpo"])
        assert found[name].after == ("pairs", "tpo")
    assert found["steps step-2"].recipe["model"] == result(found["steps step-1"])
    changed = trainings(max_pairs=9)
    assert {name for name in found if found[name].identity != changed[name].identity} == {
        "tpo tpo", "after after", "steps step-1", "steps step-2",
    }  # fmt: skip


def test_trainings_wait_for_those_that_they_start_from(make) -> None:
    stages = planned(make(train={**TRAIN, "after": AFTER, "last": {**AFTER, "model": "{after}"}}))
    entries = {
        name: [one for one in stages if (one.command, one.name) == ("train", name)]
        for name in ("chain", "after", "last")
    }
    assert _ready(entries, ["tpo"]) == ["chain"]
    assert _ready(entries, []) == ["chain", "after"]
    assert _ready({"last": entries["last"]}, []) == ["last"]


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    steps = [{"name": "dpo", "recipe": str(tmp_path / "dpo.yaml")}, {"name": "sft", "recipe": "tiny/sft_self"}]
    dpo = {"model": "x", "data": "y", "output": "z", "frames": {"fps": 2}}
    (tmp_path / "dpo.yaml").write_text(yaml.safe_dump(dpo))
    (tmp_path / "chain.yaml").write_text(yaml.safe_dump({"output": "o", "model": "m", "steps": steps}))
    return tmp_path / "chain.yaml"


def test_a_chain_is_a_training(make, chain: Path) -> None:
    given = {"steps.dpo.data": "{pairs}", "steps.dpo.frames.max": 4, "steps.sft.data": "{answers}"}
    train = {"tpo": TRAIN["tpo"], "both": {"recipe": str(chain), "model": "{tpo}", **given}}

    def planned_chain() -> Stage:
        (stage,) = [one for one in planned(make(train=train), seed=3) if one.name == "both"]
        return stage

    stage = planned_chain()
    parsed = parse(ChainRecipe, stage.recipe)
    assert (parsed.output, parsed.model, parsed.seed) == ("out/train/both", "out/train/tpo/model", 3)
    assert parsed.steps[0] | {"recipe": ""} == {
        "name": "dpo", "recipe": "", "data": "out/curate/pairs", "frames.max": 4,
    }  # fmt: skip
    assert parsed.steps[1]["data"] == "out/curate/answers"
    assert stage.after == ("answers", "pairs", "tpo")
    assert result(stage) == "out/train/both/model"
    file = chain.with_name("dpo.yaml")
    file.write_text(file.read_text().replace("fps: 2", "fps: 1"))
    assert planned_chain().identity != stage.identity, "a step's own recipe counts"
    for key in ("steps.other.data", "steps.dpo"):
        with pytest.raises(RecipeError, match=rf"`train.both`: cannot set {key}: there is no such step"):
            planned(make(train={"both": {"recipe": str(chain), key: "x"}}, needle={}))
    with pytest.raises(RecipeError, match=r"steps.dpo .*unknown key `dat`; did you mean `data`"):
        planned(make(train={"both": {"recipe": str(chain), "steps.dpo.dat": "x"}}, needle={}))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"train": {"tpo": {"recipe": "tiny/tpo", "max_pair": 8}}}, r"train.tpo \(tiny/tpo\): unknown key `max_pair`; did you mean `max_pairs`"),
        ({"train": {"tpo": {"recipe": "tiny/tpo", "data": "{pair}"}}}, r"`train.tpo`: nothing is called {pair} there; known are"),
        ({"train": {"a": {**TRAIN["tpo"], "model": "{b}"}, "b": TRAIN["tpo"]}}, r"`train.a`: nothing is called {b} there; known are"),
        ({"train": {"tpo": {"recipe": "tiny/nothing"}}}, "no recipe at tiny/nothing"),
        ({"train": {"tpo": {"max_pairs": 8}}}, "`train.tpo` must be {recipe: NAME OR PATH"),
        ({"train": {"tpo": []}}, "`train.tpo` is an empty list"),
        ({"train": {"pairs": {"recipe": "tiny/tpo"}}}, "the name `pairs` is used twice"),
        ({"train": {"a b": {"recipe": "tiny/tpo"}}}, "`a b` is no name"),
        ({"train": {"tpo": {"recipe": "tiny/tpo", "data.x": 1}}}, "`data` is not a section"),
        ({"evaluate": {"e": {"recipe": "tiny/evaluate", "models": ["other"]}}}, "`evaluate.e.models` lists names of base, tpo, chain, not other"),
        ({"evaluate": {"e": {"recipe": "tiny/evaluate", "sweep": [1]}}}, "`evaluate` needs an entry without a `sweep`"),
        (
            {"evaluate": {"e": EVALUATE, "f": {**EVALUATE, "models": ["base"], "sweep": [16, 48]}}},
            "`evaluate.e` and `evaluate.f` both measure base on mlvu_dev with 48 frames: take it out of one of them",
        ),
        (
            {"evaluate": {"e": EVALUATE, "f": {**EVALUATE, "frames.max": 16}}},
            "`evaluate.e` and `evaluate.f` both measure base on mlvu_dev for the main table: give one of them a `sweep`",
        ),
        ({"evaluate": {"e": {**EVALUATE, "wrapper": "llava_vid"}}}, "`frames` has no effect with the wrapper llava_vid"),
        ({"train": {"tpo": {"recipe": "longva/train"}}}, "LongVA is not there"),
        ({"models": {"base": "no/such/folder"}}, "no checkpoint folder at no/such/folder"),
    ],
)  # fmt: skip
def test_what_could_not_be_run_is_told_before_anything_is(make, changes: dict[str, Any], says: str) -> None:
    with pytest.raises((RecipeError, TPOError), match=says):
        planned(make(**changes))


def test_a_recipe_of_ones_own_by_its_path(make, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"model": "x", "data": "y", "output": "z", "seed": 9}))
    train = {"mine": {"recipe": str(tmp_path / "mine.yaml"), "data": "{pairs}", "seed": 7}}
    (stage,) = [one for one in planned(make(train=train, needle={})) if one.command == "train"]
    assert (stage.recipe["model"], stage.recipe["seed"], stage.recipe["data"]) == ("a/b", 7, "out/curate/pairs")
