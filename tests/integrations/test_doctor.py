"""`tpo doctor` in this project's own environment, and its parts on packages and checkouts made for the purpose."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from tpo_plugin.cli import main
from tpo_plugin.integrations.checkout import find_checkout
from tpo_plugin.integrations.doctor import machine, packages, upstream
from tpo_plugin.integrations.doctor.probe import Answer, ask
from tpo_plugin.integrations.doctor.report import Report, Row, Section
from tpo_plugin.integrations.llava_family.repairs import NEWEST, OLDEST

OURS = pytest.mark.skipif(Version(version("transformers")) < Version("4.58"), reason="an environment for LLaVA")


@OURS
def test_without_a_checkout_this_environment_is_fit() -> None:
    """The whole command; the process that prints imports nothing heavy itself."""
    code = (
        "import sys; from tpo_plugin.cli import main; status = main(['doctor']);"
        "heavy = {'torch', 'transformers', 'numpy', 'av'} & set(sys.modules); print(status, heavy)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "0 set()", run.stdout
    lines = [line.split() for line in run.stdout.splitlines()]
    assert ["transformers", version("transformers"), "ok"] in lines
    assert ["av", version("av"), "reads", "H.264", "in", "mp4", "ok"] in lines
    assert ["flash-attn", "-", "not", "needed"] in lines
    assert "Nothing found that stops a run." in run.stdout


@OURS
def test_with_a_checkout_this_environment_is_not(
    upstream_tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], package: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    root = package(upstream_tree("llava_next"), "trl")
    folder = Path("copying/llava-qwen")
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(
        json.dumps({"architectures": ["LlavaQwenForCausalLM"], "mm_spatial_pool_mode": "average"})
    )
    Path("pairs.json").write_text(json.dumps([{"video": "a.mp4", "prompt": "?", "chosen": "yes"}]))
    flags = ["--model", str(folder), "--tower", "openai/clip-vit-large-patch14-336", "--data", "pairs.json"]
    assert main(["doctor", str(root), *flags]) == 1
    said = capsys.readouterr().out
    assert said.startswith(f"tpo doctor: LLaVA-NeXT at {root.resolve()}\n")
    assert f"transformers {version('transformers')}: supported are 4.40 - 4.57" in said
    assert "pip install 'transformers" in said
    assert "takes copying/llava-qwen for LlavaLlamaForCausalLM, because of 'yi' in 'copying'" in said
    assert "config.json lacks add_faster_video (AttributeError)  repaired (config_defaults)" in said
    assert "pairs.json: missing key `rejected`" in said
    assert "Repairs that --tpo applies here" not in said, "--tpo refuses this transformers"
    assert "not applied" in said
    assert "Nothing found" not in said


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_a_folder_that_is_no_checkout(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    monkeypatch.setattr(packages, "SHOWN", ("av",))
    assert main(["doctor", name]) == 1
    assert "Expected: the root folder of LLaVA-NeXT" in capsys.readouterr().out


def test_where_python_finds_upstream(
    upstream_tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: Any, cells: Any
) -> None:
    checkout = find_checkout(package(upstream_tree("longva") / "longva", "trl").parent)
    other = package(package(tmp_path / "other", "longva"), "trl")

    def rows(*path: Path) -> dict[str, tuple[str, str]]:
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, path)))
        return cells(upstream.checkout_rows(checkout, ask(["find longva", "find trl"], None, tmp_path)))

    assert {name: rows(checkout.root)[name][0] for name in ("longva", "trl")} == {"longva": "ok", "trl": "ok"}
    found = rows(other)
    assert found["longva"][0] == "error"
    assert f"imports longva from {other}" in found["longva"][1]
    assert f"pip install --no-deps -e {checkout.root}" in found["longva"][1]
    assert found["trl"][0] == "warning"
    assert f"({other / 'trl'}" in found["trl"][1]
    level, text = rows(package(tmp_path / "third", "trl"))["longva"]
    assert level == "warning"
    assert f"export PYTHONPATH={checkout.root}" in text


def test_a_checkout_without_its_trl(upstream_tree, cells: Any) -> None:
    checkout = find_checkout(upstream_tree("llava_next"))
    rows = cells(upstream.checkout_rows(checkout, {"find llava": Answer(), "find trl": Answer()}))
    assert rows["trl"][0] == "error"
    assert "lacks its own folder trl/" in rows["trl"][1]


def test_patches_are_shown(upstream_tree, capsys: pytest.CaptureFixture[str]) -> None:
    root = upstream_tree("llava_next")
    nothing = {"find llava": Answer(), "find trl": Answer()}

    def shown() -> dict[str, tuple[str, str]]:
        rows = upstream.checkout_rows(find_checkout(root), nothing)
        return {row.name: (row.found, row.level) for row in rows if row.name.startswith("patch ")}

    assert set(shown().values()) == {("not applied", "ok")}
    assert main(["patch", "apply", str(root)]) == 0
    assert set(shown().values()) == {("applied", "ok")}
    script = root / "llava" / "train" / "train_dpo.py"
    lines = script.read_bytes().splitlines(keepends=True)
    first = next(index for index, line in enumerate(lines) if b"# tpo-plugin" in line)
    script.write_bytes(b"".join(lines[:first] + lines[first + 1 :]))
    assert ("partly", "warning") in shown().values()


@pytest.mark.skipif(
    not OLDEST <= Version(version("transformers")).release[:2] <= NEWEST, reason="--tpo refuses this transformers"
)
def test_repairs_are_listed() -> None:
    assert "data_processing" in {row.name for row in upstream.repair_rows("llava")}


def test_gpus_and_attention() -> None:
    gpus = [{"name": "H100", "gib": 79.6, "bf16": True}, {"name": "T4", "gib": 14.8, "bf16": False}]
    rows = machine.device_rows({"gpu": Answer(gpus)}, llava=True)
    assert [(row.name, row.found, row.level) for row in rows[:2]] == [
        ("GPU 0", "H100, 80 GiB, bf16", "ok"),
        ("GPU 1", "T4, 15 GiB", "warning"),
    ]
    assert rows[1].cure == "train with --bf16 False"
    assert (rows[2].level, rows[2].cure) == ("warning", "give --attn_implementation sdpa")
    (none, _) = machine.device_rows({"gpu": Answer([])}, llava=True)
    assert (none.level, none.cure) == ("warning", "on the CPU give --use_cpu True --attn_implementation sdpa")
    (none,) = machine.device_rows({"gpu": Answer([])}, llava=False)
    assert none.level == "note"


def test_a_decoder_that_crashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, distribution: Any) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    for name in ("av", "decord"):
        distribution(tmp_path, name, "1.0")
    av, decord = machine.video_rows({"av": Answer(4), "decord": Answer(error="crashed (signal 11)")}, llava=True)
    assert (av.level, av.found) == ("ok", "1.0 reads H.264 in mp4")
    assert (decord.level, decord.problem) == ("error", "decord 1.0 cannot read a video: crashed (signal 11)")


def test_the_hub_is_mentioned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert machine.hub_row().level == "ok"
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert machine.hub_row().level == "note"


def test_data(tmp_path: Path) -> None:
    row = {"video": "a.mp4", "prompt": "?", "chosen": "yes", "rejected": "no"}
    picture = {"image": "a.png", "prompt": "?", "chosen": "yes", "rejected": "no"}
    (tmp_path / "good.json").write_text(json.dumps([row, picture]))
    (tmp_path / "good.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "list.yaml").write_text("datasets: []")
    (tmp_path / "empty.json").write_text("[]")
    (tmp_path / "object.json").write_text("{}")
    found = {name: upstream.data_row(str(tmp_path / name)) for name in [*os.listdir(tmp_path), "missing.json"]}
    assert {name: row.level for name, row in found.items()} == {
        "good.json": "ok",
        "good.jsonl": "ok",
        "list.yaml": "note",
        "empty.json": "error",
        "object.json": "error",
        "missing.json": "error",
    }
    assert found["good.json"].found == "2 rows"
    assert "holds no preference pairs" in found["empty.json"].problem
    assert "must be a list of rows" in found["object.json"].problem


def test_an_upstream_checkpoint_needs_a_checkout(tmp_path: Path) -> None:
    for name, architecture in (("theirs", "LlavaQwenForCausalLM"), ("port", "LlavaOnevisionForConditionalGeneration")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    (row,) = upstream.model_rows(str(tmp_path / "theirs"), None, None)
    assert row.level == "error"
    assert "tpo train --upstream PATH" in row.cure
    (row,) = upstream.model_rows(str(tmp_path / "port"), None, None)
    assert row.level == "ok"
    assert upstream.model_rows("hub/name", None, None) == []


def test_the_report_s_text() -> None:
    good = Section("One", [Row("a", "1.0"), Row("long name", "-", "note", verdict="not needed"), Row("b", "x", "note")])
    bad = Section(
        "Two", [Row("c", "2", "error", "c is old", "mend c", "too old"), Row("d", "3", "warning", "d is odd")]
    )
    assert Report("title", [good]).text().splitlines() == [
        *("title", "", "One", "  a          1.0  ok", "  long name  -    not needed", "  b          x", ""),
        "Nothing found that stops a run.",
    ]
    report = Report("title", [good, bad])
    assert report.fails
    assert report.text().split("\n\n")[2:] == [
        "Two\n  c  2  too old\n  d  3  warning",
        "A run would fail:\n  - c is old\n    cure: mend c",
        "Worth knowing:\n  - d is odd",
    ]
