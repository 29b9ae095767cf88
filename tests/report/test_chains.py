"""Chains and stages in the report: where a checkpoint comes from, where one training ends and the next begins, SFT over SFT."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tpo_plugin.errors import TPOError
from tpo_plugin.evaluation.common import chain_of
from tpo_plugin.records import write_json, write_text
from tpo_plugin.report import runs, training, write_report

LORA = {"r": 32, "alpha": 64}
STAGES = ((16, 5), (8, 4))  # level, steps
BASE = "Qwen/Qwen2-VL-2B-Instruct"


def run(folder: Path, steps: int, model: str, objective: dict[str, float], **recipe: Any) -> list[dict[str, Any]]:
    """A finished run: loss = its own step number, gradient ten times that."""
    history = [{"step": step, "loss": float(step), "grad_norm": 10.0 * step} for step in range(1, steps + 1)]
    write_json(folder / "history.json", history)
    plain = {"model": model, "data": "runs/pairs", "objective": objective, **recipe}
    write_text(folder / "recipe.yaml", yaml.safe_dump(plain, sort_keys=False))
    done = {"steps": steps, "pairs": 16 * steps, "seconds": 100.0, "inputs": {"model": f"{steps:016x}", "pairs": "p"}}
    write_json(folder / "done.json", done | {"versions": {"torch": "2.13.0"}})
    return history


def staged(folder: Path) -> None:
    """As `tpo train` leaves a curriculum: a folder a stage, the whole's history counted on."""
    entries, before, start, rows = [], 0, BASE, []
    for number, (level, steps) in enumerate(STAGES, 1):
        name = f"stage-{number}-r{level}"
        objective = {"beta": 0.1, "dpo_alpha": 1.0, "gamma": 0.0}
        history = run(folder / name, steps, start, objective, difficulty=[level], lora=LORA)
        entries += [{"stage": name, **entry, "step": before + entry["step"]} for entry in history]
        rows.append({"name": name, "pairs": 16 * steps, "steps": steps, "seconds": 100.0})
        before, start = before + steps, f"{folder}/{name}/model"
    write_json(folder / "history.json", entries)
    write_text(folder / "recipe.yaml", yaml.safe_dump({"model": BASE, "curriculum": {"order": "staged"}}))
    write_json(folder / "done.json", {"steps": before, "pairs": 16 * before, "seconds": 200.0, "stages": rows})


def step(name: str, start: str, pairs: int, steps: int, **more: Any) -> dict[str, Any]:
    told = {"name": name, "trainer": "hf", "folder": name, "start": {"checkpoint": start, "digest": f"of {name}"}}
    return {**told, "data": f"data of {name}", "pairs": pairs, "steps": steps, "seconds": 200.0, "versions": {}, **more}


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two DPO stages, then SFT."""
    folder = tmp_path_factory.mktemp("chain")
    staged(folder / "dpo")
    for name in ("dpo/model", "sft/model", "model"):
        (folder / name).mkdir(parents=True)
    frames = {"fps": 2.0, "max": 100, "max_pixels": 90_000}
    arguments = {"learning_rate": 1e-4}
    run(folder / "sft", 6, "dpo/model", {"dpo_alpha": 0.0, "gamma": 1.0}, arguments=arguments, frames=frames)
    steps = [step("dpo", BASE, 144, 9), step("sft", f"{folder}/dpo/model", 96, 6)]
    write_json(folder / "chain.json", {"steps": steps})
    plan = [{"name": "dpo", "recipe": "qwen2_vl/temple_dpo"}, {"name": "sft", "recipe": "qwen2_vl/sft"}]
    write_text(folder / "recipe.yaml", yaml.safe_dump({"output": "o", "model": BASE, "steps": plan}))
    return folder


def cells(html: str, heading: str) -> list[str]:
    """The texts of the last row with this heading."""
    row = re.findall(rf'<tr><th scope="row">{re.escape(heading)}</th>(.*?)</tr>', html)[-1]
    return [re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row)]


def test_a_chain_is_one_run_whose_steps_count_on(chain: Path) -> None:
    loaded = training.load("temple", chain)
    assert loaded.finished
    assert [part.name for part in loaded.parts] == ["dpo: stage-1-r16", "dpo: stage-2-r8", "sft"]
    # 5 + 4 + 6 steps, each part's loss its own step number.
    assert loaded.values("loss") == [
        (float(at), float(loss)) for at, loss in enumerate([1, 2, 3, 4, 5, 1, 2, 3, 4, 1, 2, 3, 4, 5, 6], 1)
    ]
    assert loaded.borders == [5.0, 9.0]
    html = str(training.section([loaded], {"temple": 1}))
    assert html.count('class="reference"') == 2 * 2, "two borders in the charts of loss and gradient"
    loss = next(svg for svg in re.findall(r"<svg.*?</svg>", html, re.DOTALL) if "<title>Loss" in svg)
    assert len(re.findall(r'<polyline[^>]* class="line s1"', loss)) == 3, "the line begins anew behind each border"


def test_where_each_part_comes_from(chain: Path) -> None:
    html = str(runs.provenance(training.load("temple", chain)))
    assert "How temple was made" in html
    assert cells(html, "trainer") == ["hf", "hf", "hf"]
    assert cells(html, "starts from") == [BASE, f"{chain}/dpo/stage-1-r16/model", f"{chain}/dpo/model"]
    assert cells(html, "its digest") == ["0000000000000005", "0000000000000004", "of sft"]
    assert cells(html, "reference") == ["its start", "its start", "\u2013"]
    assert cells(html, "data") == ["runs/pairs", "runs/pairs", "data of sft"]
    assert (cells(html, "pairs"), cells(html, "steps")) == (["80", "64", "96"], ["5", "4", "6"])
    assert cells(html, "time") == ["1 min 40 s"] * 2 + ["3 min 20 s"]
    assert cells(html, "level r") == ["16", "8", "\u2013"]
    assert cells(html, "LoRA") == ["r 32, alpha 64", "r 32, alpha 64", "\u2013"]
    assert cells(html, "learning rate") == ["\u2013", "\u2013", "0.0001"]
    assert cells(html, "preference loss") == ["1", "1", "0"]
    assert cells(html, "frames")[-1] == "2 a second, at most 100, of 90,000 pixels at most"
    assert cells(html, "releases") == ["torch 2.13.0", "torch 2.13.0", "\u2013"]


def test_stages_alone_are_told_too(chain: Path) -> None:
    loaded = training.load("dpo", chain / "dpo")
    assert [part.name for part in loaded.parts] == ["stage-1-r16", "stage-2-r8"]
    assert loaded.borders == [5.0]
    assert cells(str(runs.provenance(loaded)), "level r") == ["16", "8"]


def test_supervised_steps_are_laid_over_each_other(chain: Path, tmp_path: Path) -> None:
    """TEMPLE's Fig. 4: the same SFT with a preference training before it and without."""
    run(tmp_path / "sft", 8, BASE, {"dpo_alpha": 0.0, "gamma": 1.0})
    temple, sft = training.load("temple", chain), training.load("sft", tmp_path / "sft")
    html = str(training.supervised([sft, temple], {"sft": 0, "temple": 1}))
    assert re.findall(r"<title>(.*?) \(", html) == [title for _, title, *_ in training.SFT_CHARTS]
    assert "sft: 10 at step 1, 80 at step 8. temple: 10 at step 1, 60 at step 6." in html
    assert training.supervised([temple], {"temple": 1}) is None
    assert training.supervised([sft, sft], {"sft": 0}) is None, "those charts are there already"


def test_an_upstream_step_is_told_by_its_flags(tmp_path: Path) -> None:
    run(tmp_path / "first", 3, BASE, {"dpo_alpha": 0.0, "gamma": 1.0})
    flags = {"beta": 0.2, "dpo_alpha": 1.0, "learning_rate": 3e-7, "tpo_difficulty": "16,8"}
    state = {
        "log_history": [{"step": 1, "loss": 0.7, "grad_norm": 2.0}, {"step": 2, "loss": 0.6}, {"train_loss": 0.65}]
    }
    write_json(tmp_path / "second" / "LLaVA-TPO" / "trainer_state.json", state)
    second = step("second", "first/model", 10, 2, trainer="upstream", recipe={"upstream": "LLaVA-NeXT", "flags": flags})
    write_json(tmp_path / "chain.json", {"steps": [step("first", BASE, 48, 3), second]})
    loaded = training.load("both", tmp_path)
    assert loaded.values("loss")[3:] == [(4.0, 0.7), (5.0, 0.6)], "from the state that the script leaves"
    alone = training.load("alone", tmp_path / "second" / "LLaVA-TPO")
    assert (alone.finished, alone.values("loss")) == (True, [(1.0, 0.7), (2.0, 0.6)])
    html = str(runs.provenance(loaded))
    assert cells(html, "trainer") == ["hf", "upstream"]
    assert cells(html, "beta") == ["\u2013", "0.2"]
    assert cells(html, "learning rate") == ["\u2013", "3e-07"]
    assert cells(html, "level r") == ["\u2013", "16,8"]


def test_a_chain_under_way(chain: Path, tmp_path: Path) -> None:
    run(tmp_path / "dpo", 3, BASE, {"dpo_alpha": 1.0, "gamma": 0.0})
    write_text(tmp_path / "recipe.yaml", (chain / "recipe.yaml").read_text())
    loaded = training.load("temple", tmp_path)
    assert ([part.name for part in loaded.parts], loaded.finished) == (["dpo"], False)
    assert "Not finished" in training.section([loaded], {"temple": 1})
    (tmp_path / "dpo" / "history.json").unlink()
    with pytest.raises(TPOError, match="has logged a `loss` yet"):
        training.load("temple", tmp_path)
    write_json(tmp_path / "chain.json", {"steps": [{"name": "dpo"}]})
    with pytest.raises(TPOError, match=r"chain\.json must list `steps` with `name` and `folder`"):
        training.load("temple", tmp_path)


def test_a_checkpoint_names_its_chain(chain: Path) -> None:
    dpo = {
        "name": "dpo",
        "data": "data of dpo",
        "pairs": 144,
        "steps": 9,
        "start": BASE,
        "stages": ["stage-1-r16", "stage-2-r8"],
    }
    sft = {"name": "sft", "data": "data of sft", "pairs": 96, "steps": 6, "start": f"{chain}/dpo/model"}
    assert chain_of(str(chain / "model")) == [dpo, sft]
    assert chain_of(str(chain / "sft" / "model")) == [dpo, sft]
    assert chain_of(str(chain / "dpo" / "model")) == [dpo]
    assert chain_of(BASE) == chain_of("runs/nowhere/model") == []
    (chain / "chain.json").rename(chain / "aside")
    assert chain_of(str(chain / "dpo" / "model")) == [{"name": "dpo", "start": BASE, "stages": dpo["stages"]}]
    (chain / "aside").rename(chain / "chain.json")


def test_an_evaluation_names_the_chain_of_its_models(
    chain: Path, evaluation: Path, trainings: dict[str, Path], tmp_path: Path
) -> None:
    import shutil

    folder = tmp_path / "evaluation"
    shutil.copytree(evaluation, folder)
    results = json.loads((folder / "results.json").read_text())
    results["models"]["tpo"]["chain"] = chain_of(str(chain / "model"))
    write_json(folder / "results.json", results)
    html = write_report(tmp_path / "a.html", None, {"temple": chain, **trainings}, {"run": folder}).read_text()
    assert f"{BASE}, then dpo (stage-1-r16, stage-2-r8), then sft" in html
    assert "How temple was made" in html
    plain = write_report(tmp_path / "b.html", None, trainings, {"run": evaluation}).read_text()
    assert "Made by" not in plain
