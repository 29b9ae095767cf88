"""`tpo curate` with a LLaVA-Video and a LongVA model that answer by upstream's own code, in upstream's environment."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

LOADING = "Loading vision tower"  # what upstream prints while a model is made


@pytest.fixture
def talker(world: Any, tmp_path: Path) -> Path:
    """The tiny model made to end its noise: a third of its vocabulary ends a reply (it was never trained to write the end)."""
    folder = tmp_path / "tiny-talker"
    shutil.copytree(world.model, folder)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": list(range(2, 400, 3))}))
    return folder


@pytest.fixture
def recipe(world: Any, talker: Path, tiny_server: str, tmp_path: Path) -> Path:
    """2 videos at most; captions and questions by the tiny world's server, responses by the model, no judge."""
    server = {"base_url": tiny_server, "model": "tiny-world"}
    plain = {
        "output": str(tmp_path / "out"),
        "videos": {"source": str(world.media), "limit": 2},
        "frames": {"fps": 1, "max": 8, "max_side": 64, "time_instruction": True},
        "segments": {"per_video": 2, "min_seconds": 1, "max_seconds": 3},
        "captions": {"frames_per_call": 8, "generator": {"type": "server", "server": server}},
        "queries": {"per_video": 6},
        "responses": {
            "type": "llava",
            "model": str(talker),
            "upstream": str(world.checkout.path),
            "dtype": "float32",
            "device": "cpu",
            "temperature": 1.0,
            "max_new_tokens": 64,
        },
        "filters": {"use": ["identical", "length"]},
        "llm": server,
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(plain))
    return tmp_path / "recipe.yaml"


def curate(world: Any, recipe: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    """`tpo curate`, which finds upstream's package by the recipe alone."""
    environment = {key: value for key, value in world.environment().items() if key != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, "-m", "tpo_plugin.cli", "curate", str(recipe), *overrides],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )


def rows_of(output: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((output / "pairs.json").read_text())
    return rows


def test_curation_with_upstreams_model(world: Any, recipe: Path, talker: Path) -> None:
    output = recipe.parent / "out"
    run = curate(world, recipe, "videos.limit=1")
    assert run.returncode == 0, run.stderr
    first, journal = rows_of(output), (output / "journal.jsonl").read_bytes()
    assert first
    root = output / json.loads((output / "dataset.json").read_text())["video_root"]
    for row in first:
        assert (root / row["video"]).resolve() == (world.media / row["video"]).resolve()
        assert row["chosen"] != row["rejected"]
        assert row["tpo"]["generator"] == talker.name

    run = curate(world, recipe)
    assert run.returncode == 0, run.stderr
    both = rows_of(output)
    assert (output / "journal.jsonl").read_bytes().startswith(journal), "what was done is kept"
    assert both[: len(first)] == first
    assert len({row["video"] for row in both}) == 2
    whole = (output / "journal.jsonl").read_bytes()

    assert LOADING in run.stdout
    run = curate(world, recipe)
    assert run.returncode == 0, run.stderr
    assert (output / "journal.jsonl").read_bytes() == whole
    assert rows_of(output) == both
    assert LOADING not in run.stdout, "nothing is left to write"


def test_a_wrong_checkout_is_told_before_any_work(world: Any, recipe: Path) -> None:
    run = curate(world, recipe, f"responses.upstream={recipe.parent}")
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1].startswith(f"tpo: {recipe.parent} is not a checkout to use")
    assert (recipe.parent / "out" / "journal.jsonl").read_text() == ""
