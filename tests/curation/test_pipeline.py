"""The whole curation on real videos over real HTTP: counts, resume, changes of the recipe, servers that fail."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from tpo_plugin.curation.identity import stage_ids
from tpo_plugin.curation.pipeline import curate
from tpo_plugin.tiny.questions import same_answer, true_answer
from tpo_plugin.tiny.world import draw_scenes

STAGES = ["probe", "segment", "caption", "query", "respond", "filter", "export"]


def test_files_of_an_output(undisturbed: Path, tiny_videos: Path, candidates) -> None:
    names = {path.name for path in undisturbed.iterdir()}
    assert names >= {"recipe.yaml", "candidates.jsonl", "pairs.json", "statistics.json", "dataset.json"}
    assert not [name for name in names if name.endswith(".partial")]
    kept = [pair for pair in candidates(undisturbed) if pair.drop is None]
    rows = json.loads((undisturbed / "pairs.json").read_text())
    assert len(rows) == len(kept) > 3
    root = undisturbed / json.loads((undisturbed / "dataset.json").read_text())["video_root"]
    for row, pair in zip(rows, kept):
        assert (root / row["video"]).resolve() == (tiny_videos / pair.video.path).resolve()
        assert (row["id"], row["prompt"]) == (pair.id, pair.query.text)
        assert row["answer"] == row["chosen"] == pair.chosen != row["rejected"] == pair.rejected


def test_funnel_adds_up(undisturbed: Path, funnel, candidates) -> None:
    rows = funnel(undisturbed)
    assert list(rows) == STAGES
    for row in rows.values():
        assert row["in"] == row["out"] + sum(row["dropped"].values())
    assert rows["probe"]["in"] == rows["segment"]["out"] == 3
    for before, after in (("query", "respond"), ("respond", "filter"), ("filter", "export")):
        assert rows[before]["out"] == rows[after]["in"]
    pairs = candidates(undisturbed)
    assert rows["filter"]["in"] == len(pairs)
    dropped = [pair.drop for pair in pairs if pair.drop]
    assert rows["filter"]["dropped"] == {reason: dropped.count(reason) for reason in sorted(set(dropped))}
    assert rows["query"]["in"] == 3 * 6
    # 1 frame a second, 8 to a caption: 16 frames of each whole video, 3 to 5 of each of its two segments.
    assert rows["caption"]["in"] == 3 * (2 + 2 * 1)


def test_kept_pairs_are_right_and_what_they_claim(undisturbed: Path, candidates) -> None:
    for pair in candidates(undisturbed):
        scenes = draw_scenes(random.Random(int(pair.video.path[6])), 8, 2.0)
        seconds = pair.video.seconds
        assert all(0 <= time <= seconds for time in (*pair.chosen_times, *pair.rejected_times))
        kept = pair.perturbation.kept
        assert all(any(a <= time <= b for a, b in kept) for time in pair.rejected_times)
        if pair.query.kind == "localized":
            start, end = pair.query.segment.span
            assert pair.perturbation.name == "cut_segment"
            assert all(start <= time <= end for time in pair.chosen_times)
            assert not any(start < time < end for time in pair.rejected_times)
        else:
            assert pair.perturbation.name == "drop"
            assert sum(end - start for start, end in kept) == pytest.approx(seconds / 2)
        if pair.drop is None:
            true = true_answer(pair.query.text, scenes)
            assert true is not None
            assert same_answer(pair.chosen, true)
            assert not same_answer(pair.rejected, true)
            assert pair.verdicts == {"better": "yes", "contradiction": "no", "correct": "yes"}


@pytest.mark.parametrize("name", ["candidates.jsonl", "pairs.json", "dataset.json"])
def test_disk_that_fills_during_the_export(undisturbed: Path, recipe_for, same_data, tmp_path: Path, name: str) -> None:
    output = tmp_path / "out"
    shutil.copytree(undisturbed, output)
    (output / f"{name}.partial").symlink_to("/dev/full")
    with pytest.raises(OSError, match=f"No space left on device: .*{name}'"):
        curate(recipe_for("out"))
    assert not (output / "dataset.json").exists(), "half an export is no data set"
    assert not list(output.glob("*.partial"))
    curate(recipe_for("out"))
    same_data(output, undisturbed)


CHANGES: list[tuple[dict[str, Any], set[str]]] = [
    ({"filters": {"max_characters": 99}}, {"filter"}),
    ({"filters": {"use": ["length"]}}, {"filter"}),
    ({"perturbations": {"drop_share": 0.7}}, {"respond", "filter"}),
    ({"responses": {"max_new_tokens": 99}}, {"respond", "filter"}),
    ({"queries": {"per_video": 3}}, {"query", "respond", "filter"}),
    ({"captions": {"frames_per_call": 16}}, {"caption", "query", "respond", "filter"}),
    ({"llm": {"model": "another"}}, {"query", "respond", "filter"}),
    ({"segments": {"per_video": 1}}, {"segment", "caption", "query", "respond", "filter"}),
    ({"seed": 1}, {"segment", "caption", "query", "respond", "filter"}),
]


QA = {"source": "qa", "ratio": {"localized": 0, "comprehensive": 1}}
QA_CHANGES: list[tuple[dict[str, Any], set[str]]] = [
    ({"filters": {"use": ["judge"]}}, {"caption", "query", "respond", "filter"}),
    ({"filters": {"use": ["third_party:filter"]}}, {"caption", "query", "respond", "filter"}),
    ({"filters": {"use": ["length"]}}, {"filter"}),
    ({"llm": {"model": "another"}}, {"filter"}),
    ({"queries": {**QA, "task_mix": {"object": 1}}}, set()),
    ({"queries": {**QA, "per_video": 3}}, {"query", "respond", "filter"}),
    ({"captions": {"frames_per_call": 16}}, set()),
    ({"frames": {"fps": 2}}, {"caption", "query", "respond", "filter"}),
]


@pytest.mark.parametrize(("change", "redone"), QA_CHANGES, ids=lambda value: str(value))
def test_changed_recipe_with_a_qa_set(recipe_for, change: dict[str, Any], redone: set[str]) -> None:
    plain: dict[str, Any] = {"queries": QA, "filters": {"use": []}}
    before, after = stage_ids(recipe_for(**plain)), stage_ids(recipe_for(**{**plain, **change}))
    assert {stage for stage in before if before[stage] != after[stage]} == redone


@pytest.mark.parametrize(("change", "redone"), CHANGES, ids=lambda value: str(value))
def test_changed_recipe_redoes_what_it_affects(recipe_for, change: dict[str, Any], redone: set[str]) -> None:
    before, after = stage_ids(recipe_for()), stage_ids(recipe_for(**change))
    assert {stage for stage in before if before[stage] != after[stage]} == redone


def test_where_things_run_redoes_nothing(recipe_for) -> None:
    moved = {"base_url": "http://elsewhere:1/v1", "concurrency": 1, "retries": 9, "timeout": 1.0, "model": "tiny-world"}
    generator = {"type": "server", "server": moved, "batch_size": 1, "device": "cpu"}
    changed = recipe_for(
        "elsewhere", llm=moved, responses=generator, captions={"generator": generator}, videos_in_flight=7, max_pairs=5,
        videos={"limit": 1, "decode_timeout": 9.0},
    )  # fmt: skip
    assert stage_ids(recipe_for()) == stage_ids(changed)


def test_changed_filters_and_responses_in_one_output(
    undisturbed: Path, recipe_for, finished, faults, tmp_path, funnel
) -> None:
    output = tmp_path / "out"
    shutil.copytree(undisturbed, output)
    first = finished(output)
    curate(recipe_for("out", faults.base_url, filters={"use": ["length"]}))
    assert finished(output) - first == {"filter": 3}
    assert faults.requests == []
    assert funnel(output)["filter"]["dropped"] == {}
    second = finished(output)
    curate(recipe_for("out", faults.base_url, filters={"use": ["length"]}, perturbations={"drop_share": 0.75}))
    assert finished(output) - second == {"respond": 3, "filter": 3}
    assert faults.requests


def test_a_run_with_nothing_to_do_changes_nothing(undisturbed: Path, recipe_for, tmp_path: Path) -> None:
    output = tmp_path / "out"
    shutil.copytree(undisturbed, output)
    curate(recipe_for("out", "http://127.0.0.1:9/v1"))
    for name in ("pairs.json", "candidates.jsonl", "statistics.json"):
        assert (output / name).read_bytes() == (undisturbed / name).read_bytes(), name
    statistics = json.loads((output / "statistics.json").read_text())
    assert min(statistics["llm"]["calls"], statistics["llm"]["tokens_out"], statistics["seconds"]) > 0
