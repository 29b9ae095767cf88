"""The baselines' methods: Hound-style pairs and answers of the LLM, on the queries of an earlier curation."""

from __future__ import annotations

import json
import random
import shutil
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from tpo_plugin.curation.identity import stage_ids
from tpo_plugin.curation.methods.hound import parse_score, pick
from tpo_plugin.curation.pipeline import curate
from tpo_plugin.dataset.export import export
from tpo_plugin.dataset.pairs import load_pairs
from tpo_plugin.dataset.statistics import stats_text
from tpo_plugin.errors import RecipeError, TPOError
from tpo_plugin.options import CurateRecipe, HoundOptions
from tpo_plugin.recipe import parse
from tpo_plugin.records import NO_REJECTED, Candidate
from tpo_plugin.tiny.llm import scenes_of
from tpo_plugin.tiny.questions import same_answer, true_answer
from tpo_plugin.tiny.server import completion
from tpo_plugin.tiny.setting import base_checkpoint

LOOKING = {"type": "hf", "batch_size": 16, "dtype": "float32", "device": "cpu", "max_new_tokens": 32}


def same_queries(folder: Path) -> dict[str, Any]:
    return {"queries": {"source": "curated", "curated": str(folder)}}


@pytest.fixture(scope="module")
def hound(tmp_path_factory, undisturbed: Path, tiny_videos: Path, tiny_server: str, yaml_recipe) -> Path:
    """Pairs that the shipped model's own samples make, on the queries of `undisturbed`."""
    plain = json.loads(yaml_recipe(tmp_path_factory.mktemp("hound") / "out", tiny_videos, tiny_server))
    plain |= {"method": "hound", "filters": {"use": ["identical", "length"]}, **same_queries(undisturbed)}
    plain |= {"responses": {**LOOKING, "model": base_checkpoint()}, "videos_in_flight": 1}
    return curate(parse(CurateRecipe, plain))


def test_hound_pairs_are_the_best_and_the_worst_sample(hound: Path, candidates, undisturbed: Path, funnel) -> None:
    pairs = candidates(hound)
    kept = [pair for pair in pairs if pair.drop is None]
    assert kept
    for pair in kept:
        scores = {candidate.text: candidate.score for candidate in pair.candidates}
        assert 2 <= len(pair.candidates) <= 5
        assert scores[pair.chosen] == max(scores.values()) >= 4
        assert scores[pair.rejected] == min(scores.values()) <= 3
        assert pair.verdicts == {"chosen_score": str(scores[pair.chosen]), "rejected_score": str(scores[pair.rejected])}
        assert pair.chosen_times == pair.rejected_times == tuple(index + 0.5 for index in range(16)), "the whole video"
        assert pair.perturbation.name == "none"
    before = {pair.query.id: (pair.query, pair.captions) for pair in candidates(undisturbed)}
    assert all((pair.query, pair.captions) == before[pair.query.id] for pair in pairs)
    rows = funnel(hound)
    assert (rows["query"]["out"], rows["query"]["dropped"]) == (len(before), {})
    assert all(row["in"] == row["out"] + sum(row["dropped"].values()) for row in rows.values())
    for row in load_pairs(hound)[0]:
        assert [set(one) for one in row.tpo["candidates"]] == [{"text", "score"}] * len(row.tpo["candidates"])


def test_samples_are_not_asked_for_twice(
    hound: Path, candidates, finished, tmp_path: Path, recipe_for, undisturbed: Path
) -> None:
    output = tmp_path / "out"
    shutil.copytree(hound, output)
    before = finished(output)
    recipe = {
        "method": "hound",
        "filters": {"use": ["identical", "length"]},
        "responses": {**LOOKING, "model": base_checkpoint()},
        "base_url": "http://127.0.0.1:9/v1",
        **same_queries(undisturbed),
    }
    curate(recipe_for("out", **recipe))
    assert finished(output) == before
    assert (output / "pairs.json").read_bytes() == (hound / "pairs.json").read_bytes()
    curate(recipe_for("out", **recipe, hound={"min_chosen": 5}))  # the scores come from the cache
    assert finished(output) - before == {"filter": 3}


def test_another_rule_redoes_the_scoring_alone(recipe_for, undisturbed: Path) -> None:
    def redone(**changes: Any) -> set[str]:
        plain = {"method": "hound", **same_queries(undisturbed)}
        before, after = stage_ids(recipe_for(**plain)), stage_ids(recipe_for(**{**plain, **changes}))
        return {stage for stage in before if before[stage] != after[stage]}

    assert redone(hound={"margin": 1}) == {"filter"}
    assert redone(hound={"temperature": 1.0}) == redone(hound={"candidates": 3}) == {"respond", "filter"}
    assert redone(method="llm") == redone(method="temporal") == {"respond", "filter"}
    assert redone(perturbations={"drop_share": 0.7}) == set()
    assert redone(captions={"frames_per_call": 16}) == set(), "they came with the queries"


def test_answers_of_the_llm(recipe_for, undisturbed: Path, tmp_path: Path, candidates, funnel) -> None:
    curate(
        recipe_for(
            "out",
            method="llm",
            filters={"use": ["length"]},
            responses={"type": "hf", "model": ""},
            **same_queries(undisturbed),
        )
    )
    pairs = candidates(tmp_path / "out")
    before = {pair.query.id: pair for pair in candidates(undisturbed)}
    assert {pair.query.id for pair in pairs} == set(before)
    for pair in pairs:
        true = true_answer(pair.query.text, scenes_of(pair.captions))
        assert true is not None
        assert same_answer(pair.chosen, true)
        assert (pair.rejected, pair.perturbation.name, pair.generator) == ("", NO_REJECTED, "tiny-world")
    assert funnel(tmp_path / "out")["export"]["out"] == len(pairs)
    rows, _ = load_pairs(tmp_path / "out")
    assert {row.rejected for row in rows} == {""}
    assert f"{len(pairs)} pairs of 3 videos" in stats_text(tmp_path / "out")
    assert (
        json.loads(export(tmp_path / "out", "llava", tmp_path / "llava.json").output.read_text())[0]["rejected"] == ""
    )
    for name in ("trl", "ms_swift", "hf"):
        with pytest.raises(TPOError, match=rf"rows of .* have no rejected response, which the format {name} needs"):
            export(tmp_path / "out", name, tmp_path / name)


def test_a_run_that_failed_goes_on(recipe_for, undisturbed: Path, tmp_path: Path, faults, same_data, finished) -> None:
    changes = {"method": "llm", "filters": {"use": ["length"]}, **same_queries(undisturbed)}
    curate(recipe_for("whole", **changes))
    first = len(finished(tmp_path / "whole"))

    def fault(handler: BaseHTTPRequestHandler, number: int) -> bool:
        if number > 8:
            faults.send(handler, 500, "{}")
        return number > 8

    faults.fault = fault
    with pytest.raises(TPOError, match="keeps answering 500"):
        curate(recipe_for("out", faults.base_url, **changes))
    done = sum(finished(tmp_path / "out").values())
    assert 0 < done < 3 * first
    faults.fault = lambda handler, number: False
    faults.requests.clear()
    curate(recipe_for("out", faults.base_url, **changes))
    assert len(faults.requests) < len(json.loads((tmp_path / "out" / "pairs.json").read_text()))
    same_data(tmp_path / "out", tmp_path / "whole")


@pytest.mark.parametrize(
    ("replies", "reason"),
    [
        (["Score: four", "5"], "score_malformed"),
        (["3", "2"], "score_none_high"),
        (["5", "4"], "score_none_low"),
        (["4", "3"], "score_margin"),
        (["4", "4"], "score_none_low"),
        (["1", ""], "score_empty_reply"),
    ],
)
def test_scores_that_make_no_pair(
    recipe_for, undisturbed: Path, tmp_path: Path, faults, funnel, replies: list[str], reason: str
) -> None:
    """Two samples from a server, which names them by their seeds, and a score for each."""

    def fault(handler: BaseHTTPRequestHandler, number: int) -> bool:
        request = json.loads(faults.requests[number - 1])
        said = f"answer {request['seed']}" if "seed" in request else replies["answer 1" in str(request["messages"])]
        faults.send(handler, 200, json.dumps(completion(said, 1)))
        return True

    faults.fault = fault
    server = {"base_url": faults.base_url, "model": "m"}
    curate(
        recipe_for(
            "out", faults.base_url, method="hound", videos={"limit": 1}, filters={"use": ["identical"]},
            responses={"type": "server", "server": server}, hound={"candidates": 2}, **same_queries(undisturbed),
        )
    )  # fmt: skip
    row = funnel(tmp_path / "out")["filter"]
    assert row["dropped"] == {reason: row["in"]}
    assert row["in"] > 1


@pytest.mark.parametrize(
    ("said", "reason"), [(["same", "Same."], "identical_candidates"), (["one", ""], "too_few_candidates")]
)
def test_samples_that_make_no_pair(
    recipe_for, undisturbed: Path, tmp_path: Path, faults, funnel, said: list[str], reason: str
) -> None:
    def fault(handler: BaseHTTPRequestHandler, number: int) -> bool:
        faults.send(handler, 200, json.dumps(completion(said[json.loads(faults.requests[number - 1])["seed"]], 1)))
        return True

    faults.fault = fault
    server = {"base_url": faults.base_url, "model": "m"}
    curate(
        recipe_for(
            "out", faults.base_url, method="hound", videos={"limit": 1}, filters={"use": ["identical"]},
            responses={"type": "server", "server": server}, hound={"candidates": 2}, **same_queries(undisturbed),
        )
    )  # fmt: skip
    row = funnel(tmp_path / "out")["respond"]
    assert (row["out"], row["dropped"]) == (0, {reason: row["in"]})


@pytest.mark.parametrize(("lost", "stage"), [("candidate", "respond"), ("score", "filter")])
def test_a_rejected_request_loses_the_pair_until_the_next_run(
    recipe_for, undisturbed: Path, tmp_path: Path, faults, funnel, same_data, lost: str, stage: str
) -> None:
    """One of three candidates or scores is refused once for good: two are left, but not the pair of an undisturbed run."""
    disturbed = True

    def fault(handler: BaseHTTPRequestHandler, number: int) -> bool:
        request = json.loads(faults.requests[number - 1])
        shown = str(request["messages"])
        which = request.get("seed", 2 if "answer 2" in shown else 1 if "answer 1" in shown else 0)
        if disturbed and which == 2 and ("seed" in request) == (lost == "candidate"):
            faults.send(handler, 400, "{}")
        else:
            said = f"answer {which}" if "seed" in request else ["4", "1", "5"][which]
            faults.send(handler, 200, json.dumps(completion(said, 1)))
        return True

    faults.fault = fault
    options = {
        "method": "hound", "videos": {"limit": 1}, "filters": {"use": ["identical"]}, "hound": {"candidates": 3},
        "responses": {"type": "server", "server": {"base_url": faults.base_url, "model": "m"}}, **same_queries(undisturbed),
    }  # fmt: skip
    curate(recipe_for("out", faults.base_url, **options))
    row = funnel(tmp_path / "out")[stage]
    assert (row["out"], row["dropped"]) == (0, {f"{lost}_rejected_request": row["in"]})
    disturbed = False
    curate(recipe_for("out", faults.base_url, **options))
    curate(recipe_for("whole", faults.base_url, **options))
    assert json.loads((tmp_path / "out" / "pairs.json").read_text())
    same_data(tmp_path / "out", tmp_path / "whole")


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("4", 4),
        (" 5\n", 5),
        ("Score: 3", 3),
        ("**2**", 2),
        ("1/5", 1),
        ("6", None),
        ("4 or 5", None),
        ("4\n5", None),
        ("", None),
    ],
)
def test_parse_score(text: str, score: int | None) -> None:
    assert parse_score(text) == score


def test_ties_are_drawn() -> None:
    candidates = [Candidate("a", 5), Candidate("b", 5), Candidate("c", 1), Candidate("d", 1), Candidate("e", None)]
    drawn = {tuple(one.text for one in pick(candidates, HoundOptions(), random.Random(seed))) for seed in range(50)}
    assert drawn == {("a", "c"), ("a", "d"), ("b", "c"), ("b", "d")}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"method": "llm"}, "the filter `identical` compares two responses"),
        ({"method": "hound", "hound": {"candidates": 1}}, r"`hound.candidates` must be 2 or more"),
        ({"method": "hound", "hound": {"temperature": 0}}, r"`hound.temperature` must be over 0"),
        ({"method": "hound", "hound": {"max_rejected": 4}}, "1 <= max_rejected < min_chosen <= 5"),
        ({"queries": {"source": "curated"}}, "go together"),
        ({"queries": {"curated": "somewhere"}}, "go together"),
        ({"queries": {"source": "curated", "curated": "somewhere"}}, "somewhere holds no finished curation"),
    ],
)
def test_recipes_that_make_no_sense(recipe_for, changes: dict[str, Any], says: str) -> None:
    with pytest.raises((RecipeError, TPOError), match=says):
        curate(recipe_for("out", **changes))


def test_videos_without_queries_are_counted(recipe_for, undisturbed: Path, tmp_path: Path, funnel) -> None:
    folder = tmp_path / "given"
    shutil.copytree(undisturbed, folder)
    lines = (folder / "candidates.jsonl").read_text().splitlines(keepends=True)
    first = json.loads(lines[0])["video"]["id"]
    (folder / "candidates.jsonl").write_text(
        "".join(line for line in lines if json.loads(line)["video"]["id"] == first)
    )
    curate(recipe_for("out", method="llm", filters={"use": ["length"]}, **same_queries(folder)))
    assert funnel(tmp_path / "out")["query"]["dropped"] == {"no_query_for_video": 2}
