"""`method: temple` where things go wrong: decoders that crash or hang, runs that are killed, encoders that are not there."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from tpo_plugin.cli import main
from tpo_plugin.curation.checks import check
from tpo_plugin.curation.identity import stage_ids
from tpo_plugin.curation.pipeline import curate
from tpo_plugin.curation.templates import template
from tpo_plugin.errors import RecipeError, TPOError
from tpo_plugin.options import CurateRecipe
from tpo_plugin.recipe import parse

pytest.importorskip("scenedetect", reason="PySceneDetect is not installed (pip install 'tpo-plugin[temple]')")

BAD = """
import os
import time

from tpo_plugin.curation.shot_detectors import adaptive
from tpo_plugin.errors import TPOError


class Bad:
    settings = {}

    def __init__(self, options):
        self.good = adaptive(options)

    def push(self, time_, frame):
        if frame.max() < 20:
            os._exit(139)
        if time_ == 0 and frame.shape[0] == 32:
            time.sleep(60)
        self.good.push(time_, frame)

    def finish(self):
        return self.good.finish()


def incomplete(options):
    raise TPOError("a package of this detector is missing")


def backwards(shots, difficulty, rng):
    return None if difficulty == 2 else range(len(shots))[::-1]


def twice(shots, difficulty, rng):
    return [0, 0]
"""


@pytest.fixture
def plain(temple_plain, tmp_path: Path, films: Path, faults, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A recipe on some of the films, and a module `bad_parts` beside it."""
    (tmp_path / "bad_parts.py").write_text(BAD)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "films.txt").write_text("black.mp4\nfive.mp4\n")
    made = temple_plain(tmp_path / "out", films, faults.base_url)
    return made | {"videos": {"source": str(tmp_path / "films.txt"), "root": str(films)}}


def changed(plain: dict[str, Any], changes: dict[str, Any]) -> CurateRecipe:
    merged = {
        key: {**plain.get(key, {}), **value} if isinstance(value, dict) else value for key, value in changes.items()
    }
    return parse(CurateRecipe, {**plain, **merged})


def test_a_decoder_that_crashes_or_hangs_costs_its_video(plain, films: Path, tmp_path: Path, funnel, finished) -> None:
    from tpo_plugin.tiny.world import draw_scenes, frames_at
    from tpo_plugin.video import write_video

    write_video(tmp_path / "small.mp4", frames_at(draw_scenes(random.Random(2), 4, 1.0), [0.0, 1.0, 2.0, 3.0], 32), 1)
    for name in ("black.mp4", "five.mp4"):
        (tmp_path / name).symlink_to(films / name)
    options = {"videos": {"root": str(tmp_path), "decode_timeout": 6.0}, "shots": {"detector": "bad_parts:Bad"}}
    both, crash = {"decoder_crash": 1, "decoder_timeout": 1}, {"decoder_crash": 1}
    for names, dropped in (("small.mp4\nblack.mp4\nfive.mp4\n", both), ("black.mp4\nfive.mp4\n", crash)):
        (tmp_path / "films.txt").write_text(names)
        curate(changed(plain, options))
        row = funnel(tmp_path / "out")["segment"]
        assert (row["out"], row["dropped"]) == (1, dropped)
        assert finished(tmp_path / "out")["segment"] == 1, "what may be the machine's fault is tried again"
    statistics = json.loads((tmp_path / "out" / "statistics.json").read_text())
    assert statistics["shots"] == {"videos": 1, "after_shots": 1, "after_groups": 1}, "no rule removed the other"
    assert statistics["rows"] == 12


def test_what_the_user_can_mend_in_the_decoders_process_stops_the_run(plain) -> None:
    with pytest.raises(TPOError, match="a package of this detector is missing"):
        curate(changed(plain, {"shots": {"detector": "bad_parts:incomplete"}}))


def test_killed_and_run_again(plain, tmp_path: Path, faults, finished, same_data) -> None:
    """Stopped in the middle of a video's summaries; the shots and captions before it are not made again."""
    (tmp_path / "films.txt").write_text("five.mp4\neight.mp4\n")
    recipe, journal = tmp_path / "recipe.yaml", tmp_path / "out" / "journal.jsonl"
    recipe.write_text(json.dumps(plain))

    def slowly(handler: BaseHTTPRequestHandler, number: int) -> bool:
        time.sleep(0.1)
        return False

    faults.fault = slowly
    run = subprocess.Popen([sys.executable, "-m", "tpo_plugin.cli", "curate", str(recipe)], stderr=subprocess.DEVNULL)
    while not journal.is_file() or journal.read_bytes().count(b'"stage": "query"') < 2:
        assert run.poll() is None
        time.sleep(0.005)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    before, captions = finished(tmp_path / "out"), sum(b"image_url" in body for body in faults.requests)
    assert (before["segment"], before["caption"], captions) == (2, 2, 13)
    faults.fault = lambda handler, number: False
    assert main(["curate", str(recipe)]) == 0
    assert sum(b"image_url" in body for body in faults.requests) == captions
    assert sum(finished(tmp_path / "out").values()) == 2 * 6
    curate(changed(plain, {"output": str(tmp_path / "whole")}))
    same_data(tmp_path / "out", tmp_path / "whole")


def test_a_third_partys_perturbation(plain, tmp_path: Path, candidates, funnel) -> None:
    curate(changed(plain, {"perturbations": {"lists": ["bad_parts:backwards"], "levels": [4, 2]}}))
    [pair] = candidates(tmp_path / "out")
    assert (pair.perturbation.name, pair.perturbation.difficulty) == ("bad_parts:backwards", 4)
    assert [start for start, _ in pair.perturbation.kept] == [4.0, 3.0, 2.0, 1.0, 0.0]
    row = funnel(tmp_path / "out")["respond"]
    assert (row["in"], row["dropped"]) == (2, {"perturbation_impossible": 1})
    with pytest.raises(TPOError, match=r"`bad_parts:twice` gave .* it must name each kept place once"):
        curate(changed(plain, {"perturbations": {"lists": ["bad_parts:twice"]}}))


def test_an_encoder_that_cannot_be_had(plain, tmp_path: Path, finished) -> None:
    with pytest.raises(TPOError, match=r"no checkpoint folder at .*nothing"):
        curate(changed(plain, {"shots": {"encoder": str(tmp_path / "nothing")}}))
    with pytest.raises(TPOError, match=r"cannot load the vision encoder nobody/nothing: .*set shots\.encoder"):
        curate(changed(plain, {"shots": {"encoder": "nobody/nothing"}}))
    assert finished(tmp_path / "out") == {"probe": 2, "segment": 1}, "the black film needs none"


def test_the_key_is_asked_for_where_a_filter_needs_it(plain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    with pytest.raises(TPOError, match="set the environment variable NO_SUCH_KEY"):
        curate(changed(plain, {"filters": {"use": ["judge"]}}))


def test_the_filters_are_the_methods_own_where_none_are_named(plain, recipe_for) -> None:
    own = {key: value for key, value in plain.items() if key != "filters"}
    assert parse(CurateRecipe, own) == changed(plain, {}), "none of them needs a key"
    more = parse(CurateRecipe, {**own, "filters": {"use": ["default", "judge"]}})
    assert more.filters.use == (*changed(plain, {}).filters.use, "judge")
    assert recipe_for().filters.use == ("identical", "length", "judge")
    assert recipe_for(filters={"use": []}).filters.use == ()


STAGES = ["probe", "segment", "caption", "query", "respond", "filter"]
SERVER = {"type": "server", "server": {"model": "another"}}
CHANGES: list[tuple[dict[str, Any], str | None]] = [
    ({"shots": {"min_shots": 5}}, "segment"),
    ({"shots": {"detector": "content"}}, "segment"),
    ({"shots": {"keyframes": 3}}, "segment"),
    ({"frames": {"max_pixels": 4096}}, "caption"),
    ({"captions": {"generator": SERVER}}, "caption"),
    ({"seed": 1}, "query"),
    ({"responses": SERVER}, "respond"),
    ({"responses": {"max_new_tokens": 99}}, "respond"),
    ({"perturbations": {"levels": [8, 4]}}, "respond"),
    ({"perturbations": {"lists": ["drop_group", "shuffle", "reverse"]}}, "respond"),
    ({"perturbations": {"levels": [2, 16, 4, 8], "lists": ["reverse", "drop", "shuffle"]}}, None),
    ({"filters": {"max_length_ratio": 2}}, "filter"),
    ({"filters": {"use": ["length"]}}, "filter"),
    ({"segments": {"per_video": 9}, "perturbations": {"drop_share": 0.9}, "hound": {"margin": 1}}, None),
    ({"shots": {"device": "auto", "batch_size": 3}, "frames": {"fps": 9, "max": 3}, "videos_in_flight": 9}, None),
]


@pytest.mark.parametrize(("change", "first"), CHANGES, ids=lambda value: str(value))
def test_a_change_redoes_what_depends_on_it(plain, change: dict[str, Any], first: str | None) -> None:
    before, after = stage_ids(changed(plain, {})), stage_ids(changed(plain, change))
    redone = [stage for stage in STAGES if before[stage] != after[stage]]
    assert redone == (STAGES[STAGES.index(first) :] if first else [])


def test_other_weights_and_templates_and_a_warm_seed(plain, siglip: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = changed(plain, {})

    def redone(other: CurateRecipe) -> list[str]:
        after = stage_ids(other)
        return [stage for stage in STAGES if before[stage] != after[stage]]

    before = stage_ids(recipe)
    file = Path(siglip) / "config.json"
    kept = file.read_text()
    try:
        file.write_text(kept + "\n")
        assert redone(recipe) == STAGES[1:]
    finally:
        file.write_text(kept)
    warm = replace(recipe.captions.generator, temperature=0.5)
    warm_recipe = replace(recipe, captions=replace(recipe.captions, generator=warm))
    before = stage_ids(warm_recipe)
    assert redone(replace(warm_recipe, seed=1)) == STAGES[2:]
    before = stage_ids(recipe)
    from tpo_plugin.curation.methods import temple

    for name, first in (("caption_shot", "caption"), ("summary", "respond")):
        with monkeypatch.context() as patched:
            patched.setattr(temple, "template", lambda asked, name=name: asked if asked == name else TEXTS[asked])
            assert redone(recipe) == STAGES[STAGES.index(first) :]


TEXTS = {name: template(name) for name in ("caption", "caption_shot", "summary")}
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"perturbations": {"lists": ["shufle"]}}, "unknown list perturbation `shufle`; built in: drop, drop_similar"),
    ({"perturbations": {"lists": []}}, r"`perturbations.lists` must name at least one, and each once; it is \[\]"),
    ({"perturbations": {"levels": [4, 4]}}, r"`perturbations.levels` must name at least one, and each once"),
    ({"perturbations": {"levels": [1]}}, "`perturbations.levels` are whole numbers of 2 or more, not 1"),
    ({"perturbations": {"levels": [True, 2]}}, "whole numbers of 2 or more, not True"),
    ({"perturbations": {"levels": [2.5]}}, "levels"),
    ({"shots": {"min_shots": 40}}, r"`shots.min_shots` \(40\) is over `shots.max_shots`"),
    ({"shots": {"detector": "adaptve"}}, "unknown shot detector `adaptve`; built in: adaptive, content, transnetv2"),
    ({"shots": {"encoder": ""}}, "`shots.encoder` is empty"),
    ({"shots": {"detector": "transnetv2", "threshold": 3.0}}, "`shots.threshold` of transnetv2 is a probability"),
    ({"queries": {"source": "qa", "ratio": {"localized": 0, "comprehensive": 1}}}, "leave out `queries.source`"),
    ({"frames": {"time_instruction": True}}, "leave out .*`frames.time_instruction`"),
    ({"filters": {"max_length_ratio": 0.5}}, "`filters.max_length_ratio` must be 1 or more"),
    ({"method": "temporal"}, "the filter `drop_length` compares descriptions of lists of shots"),
    ({"method": "llm", "filters": {"use": ["contained"]}}, "the filter `contained` compares two responses"),
]


@pytest.mark.parametrize(("change", "says"), REFUSED, ids=lambda value: str(value))
def test_recipes_that_make_no_sense(plain, change: dict[str, Any], says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        check(changed(plain, change))
