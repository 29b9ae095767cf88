"""The data set and collator of `--tpo` beside those of the real scripts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

FACTS = Path(__file__).with_name("data_facts.py")


@pytest.fixture(scope="module")
def facts(world: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one process with the checkout's script found out."""
    folder = tmp_path_factory.mktemp("facts")
    done = world.run(FACTS, world.checkout.path, world.model, world.tower, world.data, world.media, folder)
    assert done.returncode == 0, done.stdout[-4000:]
    return json.loads((folder / "facts.json").read_text())


def test_items_are_upstreams(facts: dict[str, Any]) -> None:
    """Pixels, prompt and all else, for videos and pictures at six samplings."""
    assert len(facts["items_equal"]) == 6
    assert all(facts["items_equal"].values()), facts["items_equal"]
    assert facts["frames_folder"]


def test_forms_of_data_path(facts: dict[str, Any]) -> None:
    lists = facts["lists"]
    assert lists["jsonl"]
    assert lists["braces"]
    assert lists["yaml"][:2] == ["0-localized", "0-comprehensive"]
    assert lists["yaml"][5] == "1-comprehensive"
    assert len(set(lists["yaml"][2:5])) == 3
    assert lists["yaml again"] == lists["yaml"]  # although Python's random numbers stood elsewhere


def test_where_upstream_fails(facts: dict[str, Any]) -> None:
    assert facts["low_rate"] == {"theirs": "ValueError: range() arg 3 must not be zero", "ours": 5}
    assert facts["text_rows"] == {
        "theirs": "KeyError: 'conversations'",
        "prompt": "What?",
        "modality": "text",
        "their length": "KeyError: 'answer'",
        "length": [
            -7
        ],  # words of prompt, answer (= chosen), chosen and rejected: 1 + 2 + 2 + 2; negative: shows nothing
    }


def test_batches_are_upstreams_and_named(facts: dict[str, Any]) -> None:
    batches = facts["batches"]
    assert all(batch["same"] for batch in batches.values())
    assert {name: batch["ids"] for name, batch in batches.items()} == {
        "videos": ["0-localized", "1-comprehensive"],
        "video, picture": ["0-localized", "picture 0"],
        "text, video": ["t", "0-localized"],
        "picture, text": ["picture 0", "t"],
    }
    assert batches["videos"]["kinds"] == ["localized", "comprehensive"]
    assert batches["text, video"]["kinds"] == ["", "localized"]
    assert batches["text, video"]["placeholders"] == [0, 1]
    assert batches["picture, text"]["placeholders"] == [1, 0]
    assert batches["text, video"]["modalities"] == ["text", "video"]
    assert [batch["frames"] for batch in batches.values()] == [[3, 3], [3, 1], [1, 3], [1, 1]]


def test_tokenizers_with_more_special_tokens(facts: dict[str, Any]) -> None:
    assert facts["special_tokens"] == {
        "tokens": [2, 13],
        "two": True,
        "theirs": "ValueError: too many values to unpack (expected 2)",
        "thirteen": True,
        "looked up": True,
    }


def test_files_that_decord_fails_on(facts: dict[str, Any]) -> None:
    lost = facts["lost_file"]
    assert all(error.startswith("VideoError: ") and "the decoder fails" in error for error in lost["kinds of error"])
    assert lost["stand-ins"] == ["0-localized"] * 4
    assert "TPOError: 3 of 4 rows have a file that cannot be read, more than the share 0.5 allowed" in lost["strict"]


def test_time_instruction_is_that_of_sft(world: Any, facts: dict[str, Any]) -> None:
    if world.checkout.name == "longva":
        assert facts["sft"] == {}  # its SFT script has no time instruction
        return
    assert len(facts["sft"]) == 6
    assert all(item["pixels"] for item in facts["sft"].values())
    wrong = facts["sft"].pop("False, 2 fps, 0")
    assert all(item["ours"] == item["theirs"] for item in facts["sft"].values())
    # Every 2nd frame of 4 a second: upstream divides the frames' numbers by the step 2, so its times reach twice the video's length.
    assert "located at 0.00s,1.00s,2.00s,3.00s," in wrong["theirs"]
    assert "located at 0.00s,0.50s,1.00s,1.50s," in wrong["ours"]
