"""Recipes: what does not fit is named with the cure; what fits is saved and reads back as itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from tpo_plugin import recipe
from tpo_plugin.errors import RecipeError
from tpo_plugin.options import ChainRecipe, CurateRecipe, EvaluateRecipe, TrainRecipe

GOOD = "output: out\nvideos: {source: videos}\n"


def load(tmp_path: Path, text: str, *overrides: str) -> CurateRecipe:
    file = tmp_path / "recipe.yaml"
    file.write_text(text, encoding="utf-8")
    return recipe.load(CurateRecipe, file, overrides)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("outptu: x\n", "unknown key `outptu`; did you mean `output`?"),
        (GOOD + "frames: {fsp: 1}\n", "unknown key `frames.fsp`; did you mean `frames.fps`?"),
        (
            GOOD + "responses: {server: {base_ulr: x}}\n",
            "`responses.server.base_ulr`; did you mean `responses.server.base_url`",
        ),
        (GOOD + "llm: {key: sk-1}\n", "unknown key `llm.key`; did you mean `llm.key_env`?"),
        (GOOD + "zzz: 1\n", "unknown key `zzz`"),
        (GOOD + "1: 1\n", "unknown key `1`"),
        ("output: out\n", "videos"),
        (GOOD + "frames: 3\n", "`frames` must be FrameOptions, not 3"),
        (GOOD + "frames: {fps: fast}\n", "`frames.fps` must be float, not 'fast'"),
        (GOOD + "frames: {max: 1.5}\n", "`frames.max` must be int, not 1.5"),
        (GOOD + "frames: {max: true}\n", "`frames.max` must be int, not True"),
        (GOOD + "max_pairs: false\n", "`max_pairs` must be int | None, not False"),
        (GOOD + "frames: {fps: true}\n", "`frames.fps` must be float, not True"),
        (GOOD + "responses: {type: vllm}\n", "`responses.type` must be one of hf, llava, server, not 'vllm'"),
        (GOOD + "filters: {use: judge}\n", "`filters.use` must be a list of str, not 'judge'"),
        (GOOD + "queries: {ratio: {localized: many}}\n", "queries.ratio"),
        (GOOD + "queries: {ratio: [5, 5]}\n", "`queries.ratio` must be"),
        ("- a\n- b\n", "must hold `key: value` lines, it holds list"),
        ("", "must hold `key: value` lines, it holds NoneType"),
        ("a: [1\n", "is not readable YAML"),
        ("a: \x00\n", "is not readable YAML"),
    ],
)
def test_what_does_not_fit(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load(tmp_path, text)
    assert says in str(caught.value)
    assert "recipe.yaml" in str(caught.value)


def test_overrides(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        GOOD,
        "frames.fps=2",
        "responses.server.model=m=1",
        "filters.use=[length]",
        "videos.source=a b",
        "seed=7",
    )
    assert (loaded.frames.fps, loaded.responses.server.model, loaded.seed) == (2.0, "m=1", 7)
    assert (loaded.filters.use, loaded.videos.source) == (("length",), "a b")
    assert load(tmp_path, GOOD, "max_pairs=").max_pairs is None


@pytest.mark.parametrize(
    "text", ["runs/demo #2/x", "a: b", "[a", "3", "yes", "'q'", "{a}", " x ", "@", "a=b", "null x", "日本"]
)
def test_override_of_a_text_is_taken_as_it_is(tmp_path: Path, text: str) -> None:
    loaded = load(tmp_path, GOOD, f"videos.source={text}", f"videos.root={text}", f"llm.model={text}")
    assert (loaded.videos.source, loaded.videos.root, loaded.llm.model) == (text, text, text)
    models = {"models": {"base": "x"}, "output": "o"}
    (tmp_path / "evaluate.yaml").write_text(str(models))
    evaluation = recipe.load(EvaluateRecipe, tmp_path / "evaluate.yaml", (f"models.tpo={text}",))
    assert evaluation.models == {"base": "x", "tpo": text}


def test_override_with_nothing(tmp_path: Path) -> None:
    for nothing in ("", "null", "~"):
        assert load(tmp_path, GOOD + "llm: {model: m}", f"videos.root={nothing}").videos.root is None
    assert load(tmp_path, GOOD, "llm.model=").llm.model == ""
    train = recipe.parse(TrainRecipe, {"model": "m", "data": "d", "output": "o"})
    recipe.save(train, tmp_path / "train")
    read = recipe.load(TrainRecipe, tmp_path / "train" / "recipe.yaml", ("arguments.max_steps=3", "model=a: b"))
    assert (read.arguments, read.model) == ({"max_steps": 3}, "a: b")


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("frames.fps", "an override is written key=value"),
        ("frames.fsp=1", "did you mean `frames.fps`"),
        ("output.x=1", "`output` is not a section"),
        ("seed=[1", "the value of the override 'seed=[1' is not YAML"),
        ("seed=x", "`seed` must be int, not 'x'"),
        ("=1", "unknown key ``"),
    ],
)
def test_bad_override(tmp_path: Path, override: str, says: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load(tmp_path, GOOD, override)
    assert says in str(caught.value)


def test_missing_recipe(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"no recipe at nowhere\.yaml"):
        recipe.load(CurateRecipe, "nowhere.yaml")
    with pytest.raises(RecipeError, match="not readable YAML"):
        recipe.load(CurateRecipe, tmp_path)


def test_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_bytes(b"output: \xff\n")
    with pytest.raises(RecipeError, match="not readable YAML"):
        recipe.load(CurateRecipe, tmp_path / "r.yaml")


def test_shipped_recipe_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert recipe.load(CurateRecipe, "tiny/curate", ("output=x",)).output == "x"
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "curate").write_text(GOOD)
    assert recipe.load(CurateRecipe, "tiny/curate").output == "out", "a file of one's own comes first"


def test_saved_recipe_reads_back_as_itself(tmp_path: Path) -> None:
    loaded = load(tmp_path, GOOD, "frames.fps=0.1", "videos.source=日本 'x'", "filters.use=[length, identical]")
    recipe.save(loaded, tmp_path / "saved")
    assert recipe.load(CurateRecipe, tmp_path / "saved" / "recipe.yaml") == loaded
    train = recipe.parse(TrainRecipe, {"model": "m", "data": "d", "output": "o", "lora": {"r": 8}})
    recipe.save(train, tmp_path / "saved")
    assert recipe.load(TrainRecipe, tmp_path / "saved" / "recipe.yaml") == train


def test_an_override_changes_no_other_place_that_holds_the_same_section(tmp_path: Path) -> None:
    shared = {"objective": {"gamma": 1.0}}
    steps = [{"name": "a", "recipe": "r", **shared}, {"name": "b", "recipe": "r", **shared}]
    data = {"first": shared, "second": shared}
    recipe.change(data, "first.objective.gamma", 0.5)
    assert data == {"first": {"objective": {"gamma": 0.5}}, "second": {"objective": {"gamma": 1.0}}}
    for step in steps:
        one: dict[str, object] = {}
        recipe.change(one, "objective", step["objective"])
        recipe.change(one, "objective.gamma", 0.0)
    assert shared == {"objective": {"gamma": 1.0}}


CHAIN = "output: o\nmodel: m\nsteps: [{name: dpo, recipe: r, max_pairs: 8}, {name: sft, recipe: r}]\n"


def test_an_override_reaches_a_step_of_a_chain(tmp_path: Path) -> None:
    (tmp_path / "chain.yaml").write_text(CHAIN)
    changes = ("steps.dpo.max_pairs=100", "steps.sft.objective.gamma=0.5", "seed=3")
    loaded = recipe.load(ChainRecipe, tmp_path / "chain.yaml", changes)
    assert loaded.steps == (
        {"name": "dpo", "recipe": "r", "max_pairs": 100},
        {"name": "sft", "recipe": "r", "objective.gamma": 0.5},
    )
    assert loaded.seed == 3
    for key in ("steps.other.seed=1", "steps.dpo=1"):
        with pytest.raises(RecipeError, match=r"cannot set steps.*: there is no such step"):
            recipe.load(ChainRecipe, tmp_path / "chain.yaml", (key,))
