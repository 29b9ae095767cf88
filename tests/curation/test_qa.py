"""Queries from a QA set, without any LLM, and strategies of third parties."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tpo_plugin.curation.pipeline import curate
from tpo_plugin.errors import TPOError


def test_queries_from_a_qa_set_without_any_llm(
    recipe_for, tiny_videos: Path, tmp_path: Path, funnel, candidates, qa_rows, qa_without_llm
) -> None:
    qa = tmp_path / "qa.json"
    qa.write_text(json.dumps(qa_rows("video 0.mp4", 6) + qa_rows("video 1.mp4", 2) + qa_rows("video 1.mp4", 2)))
    changes = {**qa_without_llm, "queries": {**qa_without_llm["queries"], "per_video": 4, "qa": str(qa)}}
    curate(recipe_for("out", **changes))
    rows = funnel(tmp_path / "out")
    assert (rows["caption"]["in"], rows["query"]["in"], rows["query"]["out"]) == (0, 4 + 2 + 1, 4 + 2)
    assert rows["query"]["dropped"] == {"no_qa_for_video": 1}
    pairs = candidates(tmp_path / "out")
    assert {(pair.query.kind, pair.query.task, pair.query.answer) for pair in pairs} == {
        ("comprehensive", "existing", "two")
    }
    assert all(pair.query.text.startswith("How many times") for pair in pairs)


def test_qa_file_as_the_source_of_videos(
    recipe_for, tiny_videos: Path, tmp_path: Path, funnel, candidates, qa_rows, qa_without_llm
) -> None:
    qa = tmp_path / "qa.jsonl"
    qa.write_text("".join(json.dumps(row) + "\n" for row in qa_rows("video 2.mp4", 3)))
    curate(recipe_for("out", source=qa, videos={"root": str(tiny_videos)}, **qa_without_llm))
    assert {pair.video.path for pair in candidates(tmp_path / "out")} == {"video 2.mp4"}
    assert funnel(tmp_path / "out")["respond"]["out"] == 3


def test_judge_that_comes_later_sees_captions(
    recipe_for, tmp_path: Path, funnel, candidates, qa_rows, qa_without_llm, tiny_server: str
) -> None:
    (tmp_path / "qa.json").write_text(json.dumps(qa_rows("video 0.mp4", 4)))
    source = {"queries": {**qa_without_llm["queries"], "qa": str(tmp_path / "qa.json")}, "videos": {"limit": 1}}
    curate(recipe_for("out", filters={"use": []}, **source))
    assert {pair.captions for pair in candidates(tmp_path / "out")} == {""}
    assert funnel(tmp_path / "out")["caption"]["in"] == 0
    curate(recipe_for("out", filters={"use": ["judge"]}, **source))
    assert funnel(tmp_path / "out")["caption"]["out"] == 2, "16 frames, 8 to a call"
    for pair in candidates(tmp_path / "out"):
        assert pair.captions.count("background") > 3
        assert set(pair.verdicts) == {"better", "contradiction", "correct"}


THIRD_PARTY = """
from tpo_plugin.curation.filters import Verdict
from tpo_plugin.records import Perturbation


def first_half(video, query, options, rng):
    return Perturbation("first_half", ((0.0, video.seconds / 2),), 2.0)


def nothing(video, query, options, rng):
    return Perturbation("nothing", ())


async def no_rings(pair, context):
    return Verdict("ring" if "ring" in pair.query.text else None, {"no_rings": "looked"})
"""


def test_perturbation_and_filter_of_a_third_party(
    recipe_for, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, funnel, candidates, qa_rows, qa_without_llm
) -> None:
    (tmp_path / "third_party.py").write_text(THIRD_PARTY)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "qa.json").write_text(json.dumps(qa_rows("video 0.mp4", 6)))
    source = {
        **qa_without_llm,
        "queries": {**qa_without_llm["queries"], "qa": str(tmp_path / "qa.json"), "per_video": 6},
        "videos": {"limit": 1},
        "filters": {"use": ["third_party:no_rings"]},
    }
    curate(recipe_for("out", perturbations={"comprehensive": "third_party:first_half"}, **source))
    pairs = candidates(tmp_path / "out")
    assert {pair.perturbation.name for pair in pairs} == {"first_half"}
    assert all(time < 8 for pair in pairs for time in pair.rejected_times)
    assert funnel(tmp_path / "out")["filter"]["dropped"] == {"ring": 1}
    assert {pair.verdicts["no_rings"] for pair in pairs} == {"looked"}
    with pytest.raises(TPOError, match="`third_party:nothing` leaves nothing of video 0"):
        curate(recipe_for("out", perturbations={"comprehensive": "third_party:nothing"}, **source))
