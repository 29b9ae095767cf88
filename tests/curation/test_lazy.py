"""Checkpoints are loaded when they are needed, and once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tpo_plugin.curation.lazy import Checkpoints
from tpo_plugin.curation.pipeline import curate
from tpo_plugin.options import GeneratorOptions


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained tiny checkpoint."""
    from tpo_plugin.tiny.model import build_model, build_processor

    folder = tmp_path_factory.mktemp("checkpoint")
    processor = build_processor()
    build_model(processor).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The checkpoints that are loaded from now on."""
    from tpo_plugin.generators import hf

    names: list[str] = []
    load = hf.load_model
    monkeypatch.setattr(hf, "load_model", lambda model, *rest: names.append(model) or load(model, *rest))
    return names


def test_what_loads_the_same_shares_a_model(checkpoint: Path, loaded: list[str]) -> None:
    options = GeneratorOptions("hf", str(checkpoint), dtype="float32", device="cpu", max_new_tokens=3)
    checkpoints = Checkpoints(seed=0)
    one, other = (checkpoints.generator(replace(options, max_new_tokens=tokens)) for tokens in (3, 5))
    assert one.model is other.model
    assert (one.options.max_new_tokens, other.options.max_new_tokens) == (3, 5)
    assert len(loaded) == 1
    assert checkpoints.generator(replace(options, dtype="bfloat16")).model is not one.model
    assert len(loaded) == 2


def test_finished_run_loads_nothing(
    recipe_for, checkpoint: Path, loaded: list[str], tmp_path: Path, qa_rows, qa_without_llm
) -> None:
    (tmp_path / "qa.json").write_text(json.dumps(qa_rows("video 0.mp4", 2)))
    generator = {"type": "hf", "model": str(checkpoint), "dtype": "float32", "device": "cpu", "max_new_tokens": 2}
    changes: dict[str, Any] = {
        **qa_without_llm,
        "queries": {**qa_without_llm["queries"], "qa": str(tmp_path / "qa.json")},
        "videos": {"limit": 1},
        "frames": {"fps": 0.25},
        "responses": generator,
        "captions": {"generator": generator},
    }
    curate(recipe_for("out", **changes))
    assert loaded == [str(checkpoint)], "captions are not wanted, so their generator is not loaded"
    curate(recipe_for("out", **changes))
    assert len(loaded) == 1
