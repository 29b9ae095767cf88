"""Values of the right type that make no sense are refused by name, before anything is done."""

from __future__ import annotations

from typing import Any

import pytest

from tpo_plugin.curation.checks import check
from tpo_plugin.curation.pipeline import curate
from tpo_plugin.errors import RecipeError, TPOError


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"frames": {"fps": 0}}, "`frames.fps` must be over 0, it is 0"),
        ({"frames": {"fps": float("nan")}}, "`frames.fps` must be over 0"),
        ({"frames": {"max": 0}}, "`frames.max` must be 1 or more"),
        ({"videos_in_flight": 0}, "`videos_in_flight` must be 1 or more"),
        ({"max_pairs": -1}, "`max_pairs` must be 1 or more"),
        ({"videos": {"limit": 0}}, "`videos.limit` must be 1 or more"),
        ({"captions": {"frames_per_call": 0}}, "`captions.frames_per_call` must be 1 or more"),
        ({"queries": {"per_video": 0}}, "`queries.per_video` must be 1 or more"),
        ({"queries": {"ratio": {"both": 1}}}, "queries.ratio names both"),
        ({"perturbations": {"drop_parts": 1}}, "`perturbations.drop_parts` must be 2 or more"),
        ({"perturbations": {"drop_share": 1}}, "`perturbations.drop_share` must lie between 0 and 1"),
        ({"segments": {"max_share": 1}}, "`segments.max_share` must lie between 0 and 1"),
        ({"segments": {"min_seconds": 9, "max_seconds": 8}}, r"`segments.min_seconds` \(9\) is over"),
        ({"llm": {"concurrency": 0}}, "`llm.concurrency` must be 1 or more"),
        ({"llm": {"timeout": 0}}, "`llm.timeout` must be over 0"),
        ({"llm": {"base_url": "localhost:8000"}}, "`llm.base_url` must look like http://"),
        ({"responses": {"batch_size": 0}}, "`responses.batch_size` must be 1 or more"),
        ({"responses": {"temperature": -1}}, "`responses.temperature` must be 0 or more"),
        ({"responses": {"server": {"retries": -1}}}, "`responses.server.retries` must be 0 or more"),
        ({"perturbations": {"localized": "cut"}}, "unknown perturbation `cut`"),
        ({"filters": {"use": ["judge", "juge"]}}, "unknown filter `juge`"),
    ],
    ids=lambda value: str(value),
)
def test_refused(recipe_for, tmp_path, change: dict[str, Any], says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        curate(recipe_for("out", **change))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("address", ["http://me:s3cret@host/v1", "https://host/v1?key=s3cret", "http://host/v1#s3cret"])
def test_secret_in_an_address(recipe_for, address: str) -> None:
    with pytest.raises(RecipeError, match="environment variable OPENAI_API_KEY") as caught:
        check(recipe_for(llm={"base_url": address}))
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:8000/v1", "https://api.openai.com/v1", "http://[::1]:80", "http://h/"]
)
def test_good_addresses(recipe_for, address: str) -> None:
    check(recipe_for(llm={"base_url": address}))


def test_missing_key_is_told_before_any_work(recipe_for, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(TPOError, match="set the environment variable OPENAI_API_KEY"):
        curate(recipe_for("out", llm={"base_url": "https://api.openai.com/v1"}))
    assert (tmp_path / "out" / "journal.jsonl").read_bytes() == b""
