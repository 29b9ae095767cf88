"""`tpo needle` with LLaVA-Video and LongVA models that answer by upstream's own code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

pytest.importorskip("lmms_eval", reason="lmms-eval is not installed here: pip install 'tpo-plugin[llava,lmms]'")

from tpo_plugin.evaluation.needle.asker import load
from tpo_plugin.evaluation.needle.grid import cells
from tpo_plugin.evaluation.needle.haystack import read_scenery
from tpo_plugin.evaluation.needle.needles import read_needles
from tpo_plugin.generators.base import Prompt
from tpo_plugin.options import NeedleRecipe, PromptOptions
from tpo_plugin.recipe import to_plain

WRAPPERS = {"llava_next": "llava_video_tpo", "longva": "longva_tpo"}


@pytest.fixture(scope="module")
def recipe(world: Any, without_upstream: None, tmp_path_factory: pytest.TempPathFactory) -> NeedleRecipe:
    from PIL import Image

    folder = tmp_path_factory.mktemp("needle")
    for name, colour in (("red", (200, 0, 0)), ("blue", (0, 0, 200))):
        Image.new("RGB", (80, 50), colour).save(folder / f"{name}.png")
    rows = [{"path": f"{name}.png", "prompt": "\nWhich colour?", "answer": name} for name in ("red", "blue")]
    (folder / "dataset.json").write_text(json.dumps(rows))
    return NeedleRecipe(
        models={"base": str(world.model)},
        output=str(folder / "out"),
        needles=str(folder),
        haystack=[str(world.media / f"video {index}.mp4") for index in (2, 3)],
        frames=[4, 20],
        depths=[0, 0.5, 1],
        fit="square",
        max_new_tokens=4,
        wrapper=WRAPPERS[world.checkout.name],
        upstream=str(world.checkout.path),
        dtype="float32",
        device="cpu",
        tower_batch=8,
    )


def test_remembered_frames_give_the_same_log_probabilities(recipe: NeedleRecipe) -> None:
    from tpo_plugin.integrations.llava_family.writing import encode, generate

    needles = read_needles(recipe.needles)
    scenery = read_scenery(recipe, needles)
    asker: Any = load(recipe, recipe.models["base"], scenery)
    found = []
    for cell in cells(recipe):
        for needle in needles:
            keys = cell.order(needle.id)
            times = tuple(map(float, range(len(keys))))
            whole = Prompt(scenery.pictures(keys), times, float(len(keys)), needle.question.strip())
            with torch.inference_mode():
                direct = encode(asker.loaded, [whole], asker.conv_template)
                ours = asker.inputs(keys, whole)
                logits = [_logits(asker.loaded.model, inputs) for inputs in (direct, ours)]
            assert direct["inputs_embeds"].shape == ours["inputs_embeds"].shape
            assert torch.allclose(*logits, atol=1e-5, rtol=0)
            written, _ = generate(asker.loaded, [whole], asker.conv_template, {"max_new_tokens": 4, "do_sample": False})
            assert asker.ask(keys, whole, [], 4).ids == written[0].tolist()
            found.append(ours["inputs_embeds"])
    assert not torch.equal(found[0], found[1]), "two needles"
    assert asker.memory.units_seen == 20 + 2
    assert "forward" not in vars(asker.memory.tower)


def _logits(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    # The class above upstream's: its own forward would prepare the embeddings.
    return super(type(model), model).forward(**inputs).logits[0, -1].log_softmax(-1)


def test_a_prompt_of_ones_own_and_no_limit(recipe: NeedleRecipe, world: Any) -> None:
    from dataclasses import replace

    from tpo_plugin.integrations.llava_family.writing import embed, pixels, token_ids

    own = replace(recipe, prompt=PromptOptions("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"))
    needles = read_needles(own.needles)
    scenery = read_scenery(own, needles)
    asker: Any = load(own, own.models["base"], scenery)
    keys = (*range(10), needles[0].id)
    clip = Prompt(scenery.haystack[:0], tuple(map(float, range(11))), 11.0, needles[0].question)
    text = f"<|im_start|>user\n<image>{needles[0].question}<|im_end|>\n<|im_start|>assistant\n"
    frames = pixels(asker.loaded, scenery.pictures(keys))
    with torch.inference_mode():
        direct = embed(asker.loaded, [token_ids(asker.loaded, text)], [frames])["inputs_embeds"]
        asker.loaded.model.config.tokenizer_model_max_length = 20  # upstream would cut the question off
        ours = asker.inputs(keys, clip)["inputs_embeds"]
        cut = embed(asker.loaded, [token_ids(asker.loaded, text)], [frames])["inputs_embeds"]
    assert cut.shape[1] == 20
    assert torch.allclose(direct, ours, atol=1e-5, rtol=0)
    assert asker.loaded.model.config.tokenizer_model_max_length == 20


def test_the_task_of_lmms_eval_asks_the_same(
    recipe: NeedleRecipe, world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.tasks import TaskManager

    from tpo_plugin.evaluation.needle import task
    from tpo_plugin.evaluation.wrappers import llava
    from tpo_plugin.integrations.lmms_eval import manifests

    plain = to_plain(recipe)
    grid = {name: plain[name] for name in ("needles", "haystack", "depths", "fit")} | {"frames": [4]}
    (tmp_path / "needle").mkdir()
    (tmp_path / "needle" / "needle.json").write_text(json.dumps(grid))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("LMMS_EVAL_DATASETS_CACHE", str(tmp_path / "cache"))
    task._world.cache_clear()
    cls = {"llava_video_tpo": llava.LlavaVideo, "longva_tpo": llava.LongVA}[recipe.wrapper]
    model = cls(recipe.models["base"], upstream=recipe.upstream, dtype="float32", device="cpu", batch_size=4)
    manifests()
    found = simple_evaluate(
        model=model,
        tasks=["needle"],
        task_manager=TaskManager("WARNING", model_name=recipe.wrapper),
        gen_kwargs="max_new_tokens=4",
    )
    task._world.cache_clear()
    needles = read_needles(recipe.needles)
    scenery = read_scenery(recipe, needles)
    asker: Any = load(recipe, recipe.models["base"], scenery)
    expected = {}
    for cell in cells(recipe)[:3]:
        for needle in needles:
            keys = cell.order(needle.id)
            clip = Prompt(scenery.haystack[:0], tuple(map(float, range(5))), 5.0, needle.question.strip())
            expected[f"{needle.name}@{cell.frames}@{cell.depth:g}"] = asker.ask(keys, clip, [], 4).text.strip()
    samples = {one["doc"]["question_id"]: one["filtered_resps"][0] for one in found["samples"]["needle"]}
    assert samples == expected
    assert len(set(expected.values())) > 1


def test_the_command_runs_and_continues(recipe: NeedleRecipe, world: Any, tmp_path: Path) -> None:
    output = tmp_path / "out"
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({**to_plain(recipe), "output": str(output)}))
    environment = {key: value for key, value in world.environment().items() if key != "PYTHONPATH"}

    def run(*overrides: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tpo_plugin", "needle", str(tmp_path / "recipe.yaml"), *overrides]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=280)

    first = run("frames=[4]")
    assert first.returncode == 0, first.stderr
    assert "processed 6 frames" in first.stderr
    second = run()
    assert second.returncode == 0, second.stderr
    found = json.loads((output / "results.json").read_text())
    assert len(found["models"]["base"]["cells"]) == 6
    assert found["models"]["base"]["wrapper"]["upstream"]["name"] == world.checkout.title
    assert found["models"]["base"]["wrapper"]["mm_spatial_pool_mode"]
    assert len((output / "base" / "answers.jsonl").read_text().splitlines()) == 12
    assert second.stderr.count("12 questions") == 0
