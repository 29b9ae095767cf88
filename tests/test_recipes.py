"""Every recipe that is shipped fits the dataclass of its command."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from pathlib import Path

import pytest
import yaml

from tpo_plugin import recipe
from tpo_plugin.integrations.checkout import upstreams
from tpo_plugin.integrations.llava_family.arguments import PRESETS, TemporalArguments
from tpo_plugin.integrations.llava_family.traps import traps
from tpo_plugin.options import (
    AblateRecipe,
    BenchRecipe,
    ChainRecipe,
    CurateRecipe,
    EvaluateRecipe,
    NeedleRecipe,
    TrainRecipe,
    UpstreamRecipe,
)

RECIPES = Path(__file__).parents[1] / "recipes"
FILES = sorted(RECIPES.rglob("*.yaml"))

# The flags that the upstream scripts add to transformers', as far as the recipes use them (tests/upstream asks the scripts themselves).
MODEL = ("model_name_or_path", "version", "attn_implementation", "model_max_length")
VISION = (
    "vision_tower",
    "mm_vision_select_layer",
    "mm_use_im_start_end",
    "mm_use_im_patch_token",
    "mm_patch_merge_type",
)
POOLING = ("mm_resampler_type", "mm_spatial_pool_mode", "mm_spatial_pool_stride", "mm_spatial_pool_out_channels")
DATA = ("data_path", "lazy_preprocess", "video_fps", "frames_upbound", "image_aspect_ratio", "image_grid_pinpoints")
LEARNS = ("mm_tunable_parts", "mm_projector_type", "lora_enable", "lora_r", "lora_alpha", "lora_dropout")
RUN = ("group_by_modality_length", "dpo_alpha", "beta", "gamma")
OF_THE_SCRIPT = {*MODEL, *VISION, *POOLING, *DATA, *LEARNS, *RUN}
OLDER = {"warmup_ratio"}  # of transformers 4 alone


def kind_of(file: Path) -> type:
    keys = set(yaml.safe_load(file.read_text(encoding="utf-8")))
    if "flags" in keys:
        return UpstreamRecipe
    if "evaluate" in keys:
        return AblateRecipe
    if "steps" in keys:
        return ChainRecipe
    if "size" in keys:
        return BenchRecipe
    if "needles" in keys:
        return NeedleRecipe
    return EvaluateRecipe if "models" in keys else TrainRecipe if "data" in keys else CurateRecipe


def of_kind(kind: type) -> list[Path]:
    return [file for file in FILES if kind_of(file) is kind]


def name(file: Path) -> str:
    return file.relative_to(RECIPES).as_posix()


@pytest.mark.parametrize("file", FILES, ids=name)
def test_recipe_fits_its_command(file: Path, beside_longva: Path) -> None:
    kind = kind_of(file)
    loaded = recipe.load(kind, file)
    assert recipe.parse(kind, recipe.to_plain(loaded)) == loaded, "a resolved recipe reads back as itself"
    if kind is CurateRecipe:
        from tpo_plugin.curation.checks import check

        check(loaded)
    if kind is AblateRecipe:
        from tpo_plugin.ablation.plan import plan

        names = (
            ("videos", "benchmarks", "needles", "instructions", "encoder", "server", "shipped")
            if loaded.prepare
            else ()
        )
        planned = plan(loaded, Path("out"), 0, dict.fromkeys(names, "http://some/where") | {"shipped": "a/b"})
        for stage in planned:
            if stage.command == "train" and not {"flags", "steps"} & stage.recipe.keys():
                check_training(recipe.parse(TrainRecipe, stage.recipe))
    if kind is ChainRecipe:
        for step in loaded.steps:  # a step's own check also asks for a GPU (bf16) and the checkout
            data = recipe.read(step["recipe"])
            for key in step.keys() - {"name", "recipe"}:
                recipe.change(data, key, step[key])
            parsed = recipe.parse(UpstreamRecipe if "upstream" in data else TrainRecipe, data)
            if isinstance(parsed, TrainRecipe):
                check_training(parsed)
    if kind is NeedleRecipe:
        from tpo_plugin.evaluation.needle.grid import check_grid

        check_grid(loaded)
    if kind is TrainRecipe:
        check_training(loaded)
    if kind is EvaluateRecipe:
        from tpo_plugin.evaluation.run import check_recipe
        from tpo_plugin.evaluation.wrapper import frame_counts, model_arguments

        check_recipe(replace(loaded, upstream=None))  # a checkout that is not here
        for frames in frame_counts(loaded):
            assert all(
                model_arguments(loaded, path, frames)["max_frames_num"] == frames for path in loaded.models.values()
            )


def check_training(loaded: TrainRecipe) -> None:
    from trl import DPOConfig

    from tpo_plugin.training.run import check_recipe

    check_recipe(loaded)
    assert set(loaded.arguments) <= {field.name for field in fields(DPOConfig)}


@pytest.mark.parametrize("folder", ["qwen2_vl", "qwen2_5_vl"])
def test_temple_recipes_hold_the_papers_numbers(folder: str) -> None:
    """arXiv 2503.16929: stages 16 to 2 without SFT term, reference reset, LoRA r 32; SFT with the vision tower; 90,000 pixels, 8,192 tokens."""
    curation = recipe.load(CurateRecipe, f"{folder}/curate")
    dpo, sft = (recipe.load(TrainRecipe, f"{folder}/{one}") for one in ("temple_dpo", "sft"))
    chain, evaluation = recipe.load(ChainRecipe, f"{folder}/temple"), recipe.load(EvaluateRecipe, f"{folder}/evaluate")
    assert dpo.curriculum is not None
    assert (dpo.curriculum.order, dpo.curriculum.levels) == ("staged", (16, 8, 4, 2))
    assert dpo.curriculum.reference == "reset"
    assert curation.perturbations.levels == dpo.curriculum.levels
    assert (dpo.objective.dpo_alpha, dpo.objective.gamma, sft.objective.dpo_alpha) == (1, 0, 0)
    lora = [(one.lora.r, one.lora.alpha, one.arguments["learning_rate"]) for one in (dpo, sft) if one.lora]
    assert lora == [(32, 64, 5e-6), (32, 32, 1e-4)]
    assert ("vision_tower" in dpo.trainable, "vision_tower" in sft.trainable) == (False, True)
    assert dpo.arguments["per_device_train_batch_size"] * dpo.arguments["gradient_accumulation_steps"] == 16
    for one in (dpo, sft):
        assert (one.frames.fps, one.frames.max, one.frames.max_pixels, one.max_length) == (2, 100, 90_000, 8192)
    assert (evaluation.frames.max, evaluation.frames.max_pixels) == (64, 250_000)
    assert curation.responses.model == curation.captions.generator.model == dpo.model == sft.model == chain.model
    assert dpo.data == curation.output
    assert evaluation.models == {"base": chain.model, "temple": f"{chain.output}/model"}
    assert [step["recipe"] for step in chain.steps] == [f"{folder}/temple_dpo", f"{folder}/sft"]


@pytest.mark.parametrize(("folder", "size"), [("qwen2_vl", "2B"), ("qwen2_5_vl", "3B")])
def test_what_temple_recipes_say_of_the_small_model_fits_together(folder: str, size: str) -> None:
    """The overrides that the comments name: the pairs are where the training looks for them, and of the model that is trained."""
    hints = {
        name: re.findall(rf"{size}: ((?:\S+=[^\s,]+ ?)+)", (RECIPES / folder / f"{name}.yaml").read_text())
        for name in ("curate", "temple_dpo", "temple", "sft")
    }
    overrides = {name: tuple(found[0].split()) for name, found in hints.items()}
    curation = recipe.load(CurateRecipe, f"{folder}/curate", overrides["curate"])
    dpo = recipe.load(TrainRecipe, f"{folder}/temple_dpo", overrides["temple_dpo"])
    chain = recipe.load(ChainRecipe, f"{folder}/temple", overrides["temple"])
    assert curation.output == dpo.data
    assert size in chain.model
    assert {curation.responses.model, curation.captions.generator.model, dpo.model} == {chain.model}


def test_the_ablation_of_temple_takes_pairs_of_the_model_that_it_trains() -> None:
    pairs = recipe.load(AblateRecipe, "ablations/temple").curate["pairs"]
    assert (pairs["responses.model"], pairs["captions.generator.model"]) == ("{base}", "{base}")


def test_both_families_are_trained_alike() -> None:
    for file in sorted((RECIPES / "qwen2_vl").glob("*.yaml")):
        other = (RECIPES / "qwen2_5_vl" / file.name).read_text(encoding="utf-8")
        renamed = file.read_text(encoding="utf-8").replace("Qwen2-VL", "Qwen2.5-VL").replace("qwen2_vl", "qwen2_5_vl")
        assert yaml.safe_load(renamed) == yaml.safe_load(other)


@pytest.mark.parametrize("file", of_kind(UpstreamRecipe), ids=name)
def test_flags_exist(file: Path) -> None:
    from transformers import TrainingArguments

    known = {field.name for kind in (TrainingArguments, TemporalArguments) for field in fields(kind)}
    assert set(recipe.load(UpstreamRecipe, file).flags) <= known | OF_THE_SCRIPT | OLDER


@pytest.mark.parametrize("file", of_kind(UpstreamRecipe), ids=name)
def test_upstream_recipes_hold_the_papers_numbers(file: Path) -> None:
    """The training details of arXiv 2501.13919: beta, alpha (gamma), schedule, batch, frozen tower. LoRA has a learning rate of its own."""
    loaded = recipe.load(UpstreamRecipe, file)
    flags, preset = loaded.flags, PRESETS[loaded.flags["tpo_preset"]]
    free = {"frames_upbound", *(("learning_rate",) if flags.get("lora_enable") else ())}
    free |= {"dpo_alpha", "gamma"} if "SFT" in flags["output_dir"] else set()
    assert {key: flags[key] for key in preset if key not in free} == {
        key: preset[key] for key in preset if key not in free
    }
    assert loaded.processes * flags["per_device_train_batch_size"] * flags["gradient_accumulation_steps"] == 64
    assert flags["mm_tunable_parts"] == "mm_mlp_adapter,mm_language_model"
    assert flags["tpo"] is True


@pytest.mark.parametrize(
    ("baseline", "curation", "objective"),
    [
        ("train_sft_self", "curate", {"dpo_alpha": 0.0, "gamma": 1.0}),
        ("train_sft_llm", "curate_llm", {"dpo_alpha": 0.0, "gamma": 1.0}),
        ("train_hound", "curate_hound", {}),
    ],
)
def test_a_baseline_is_tpos_training_on_other_data(baseline: str, curation: str, objective: dict[str, float]) -> None:
    paper, other = (recipe.load(UpstreamRecipe, f"longva/{one}") for one in ("train", baseline))
    data = recipe.load(CurateRecipe, f"longva/{curation}").output
    place = {"data_path": data, "output_dir": other.flags["output_dir"]}
    assert other == replace(paper, flags={**paper.flags, **place, **objective})
    assert other.flags["output_dir"] != paper.flags["output_dir"]


def test_the_baselines_data_are_made_of_the_same_videos_and_queries() -> None:
    paper, hound, llm = (recipe.load(CurateRecipe, f"longva/{one}") for one in ("curate", "curate_hound", "curate_llm"))
    assert hound.queries.curated == llm.queries.curated == paper.output
    assert (hound.videos, hound.frames, hound.responses) == (paper.videos, paper.frames, paper.responses)
    assert (llm.videos, llm.frames, llm.llm) == (paper.videos, paper.frames, paper.llm)


@pytest.mark.parametrize("file", of_kind(UpstreamRecipe), ids=name)
def test_names_select_the_right_class(file: Path) -> None:
    """The scripts choose classes by words in a checkpoint's name."""
    loaded = recipe.load(UpstreamRecipe, file)
    package = {known["title"]: known["package"] for known in upstreams().values()}[loaded.upstream]
    found = traps(loaded.flags["model_name_or_path"], loaded.flags["vision_tower"], package)
    assert [trap.what for trap in found if trap.fatal and trap.repair is None] == []


def test_there_are_recipes_for_each_command() -> None:
    assert {kind_of(file) for file in FILES} == {
        CurateRecipe,
        TrainRecipe,
        EvaluateRecipe,
        UpstreamRecipe,
        BenchRecipe,
        AblateRecipe,
        ChainRecipe,
        NeedleRecipe,
    }
