"""`tpo curate` with a LLaVA-Video and a LongVA model that answer by upstream's own code, in upstream's environment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LOADING = "Loading vision tower"  # what upstream prints while a model is made


def rows_of(output: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((output / "pairs.json").read_text())
    return rows


def test_curation_with_upstreams_model(world: Any, recipe: Path, talker: Path) -> None:
    output = recipe.parent / "out"
    run = world.curate(recipe, "videos.limit=1")
    assert run.returncode == 0, run.stderr
    first, journal = rows_of(output), (output / "journal.jsonl").read_bytes()
    assert first
    root = output / json.loads((output / "dataset.json").read_text())["video_root"]
    for row in first:
        assert (root / row["video"]).resolve() == (world.media / row["video"]).resolve()
        assert row["chosen"] != row["rejected"]
        assert row["tpo"]["generator"] == talker.name

    run = world.curate(recipe)
    assert run.returncode == 0, run.stderr
    both = rows_of(output)
    assert (output / "journal.jsonl").read_bytes().startswith(journal), "what was done is kept"
    assert both[: len(first)] == first
    assert len({row["video"] for row in both}) == 2
    whole = (output / "journal.jsonl").read_bytes()

    assert LOADING in run.stdout
    run = world.curate(recipe)
    assert run.returncode == 0, run.stderr
    assert (output / "journal.jsonl").read_bytes() == whole
    assert rows_of(output) == both
    assert LOADING not in run.stdout, "nothing is left to write"


def test_a_wrong_checkout_is_told_before_any_work(world: Any, recipe: Path) -> None:
    run = world.curate(recipe, f"responses.upstream={recipe.parent}")
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1].startswith(f"tpo: {recipe.parent} is not a checkout to use")
    assert (recipe.parent / "out" / "journal.jsonl").read_text() == ""
