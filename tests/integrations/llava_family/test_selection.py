"""Which of its rows a run with `--tpo` trains on, and what they must have."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tpo_plugin.dataset.pairs import load_pairs
from tpo_plugin.dataset.selection import select
from tpo_plugin.errors import TPOError
from tpo_plugin.integrations.llava_family.rows import check_rows, chosen_rows

ROWS = [
    {"id": f"row {place}", "prompt": "What?", "chosen": "This.", "rejected": "That.", "tpo": {"kind": kind}}
    for place, kind in enumerate(["localized"] * 8 + ["comprehensive"] * 4)
]
DATA = SimpleNamespace(data_path="pairs.json", video_folder="", image_folder="")


def drawn(most: int | None, ratio: str | None, seed: int = 0) -> list[str]:
    options = SimpleNamespace(tpo_max_pairs=most, tpo_ratio=ratio, tpo_difficulty=None, tpo_order=None, seed=seed)
    return [row["id"] for row in chosen_rows(check_rows(ROWS, DATA), options)]


def test_the_draw_is_that_of_tpo_train() -> None:
    shares = {"localized": 2.0, "comprehensive": 1.0}
    same = select(ROWS, lambda row: str(row["id"]), lambda row: row["tpo"]["kind"], 6, shares, 3)
    assert drawn(6, "2:1", 3) == [row["id"] for row in same]
    assert drawn(None, None) == [row["id"] for row in ROWS]
    assert set(drawn(2, "5:5")) < set(drawn(8, "5:5"))
    with pytest.raises(
        TPOError, match=r"10 pairs in the ratio localized 5 : comprehensive 5 .* 8 localized, 4 comprehensive"
    ):
        drawn(10, "5:5")


@pytest.mark.parametrize("lack", [{"rejected": ""}, {"rejected": None}, {}])
def test_a_rejected_answer_may_be_missing_where_it_is_not_used(lack: dict[str, Any]) -> None:
    row = {**{key: value for key, value in ROWS[0].items() if key != "rejected"}, **lack}
    assert check_rows([row], DATA, with_rejected=False)[0]["rejected"] == ""
    with pytest.raises(TPOError, match=r"row 0 .*`rejected`"):
        check_rows([row], DATA)
    with pytest.raises(TPOError, match="`rejected` must be a text that is not empty, it is 7"):
        check_rows([{**row, "rejected": 7}], DATA, with_rejected=False)


def levelled(*levels: float | None) -> list[dict[str, Any]]:
    return check_rows(
        [
            {**ROWS[0], "id": f"{place}", "tpo": {"perturbation": {"name": "drop", "difficulty": level}}}
            for place, level in enumerate(levels)
        ],
        DATA,
    )


def of(difficulty: str | None, order: str | None, rows: list[dict[str, Any]]) -> list[str]:
    options = SimpleNamespace(tpo_difficulty=difficulty, tpo_order=order, tpo_max_pairs=None, tpo_ratio=None, seed=0)
    return [row["id"] for row in chosen_rows(rows, options)]


def test_rows_of_some_levels() -> None:
    rows = levelled(16.0, 8, 2, 16, None)
    assert of("16", None, rows) == ["0", "3"]
    assert of("16,2", "easy_to_hard", rows) == ["0", "2", "3"]
    assert of(None, None, rows) == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("difficulty", "order", "levels", "says"),
    [
        ("4", None, (16, 8), r"no pair has difficulty 4; the data has 16 \(1 pairs\), 8 \(1 pairs\)"),
        ("16", None, (None, None), "no pair has difficulty 16; the data has no difficulties at all"),
        (
            None,
            "hard_to_easy",
            (16, None, None),
            r"--tpo_order hard_to_easy .* 2 of 3 rows have none \(the first is 1\)",
        ),
        ("16;8", None, (16,), "--tpo_difficulty is a level or several, such as 16 or 16,8; it is '16;8'"),
    ],
)
def test_levels_that_are_not_there(difficulty: str | None, order: str | None, levels: Any, says: str) -> None:
    with pytest.raises(TPOError, match=says):
        of(difficulty, order, levelled(*levels))


def talk(*texts: str) -> list[dict[str, str]]:
    return [{"from": speaker, "value": text} for speaker, text in zip(("human", "gpt") * len(texts), texts)]


def test_conversations_are_a_row_for_each_question_to_fine_tune_on(caplog: pytest.LogCaptureFixture) -> None:
    row = {
        "id": "a",
        "video": "v.mp4",
        "data_source": "x",
        "conversations": talk("<image>\nWhat?", "This.", "And?", "That."),
    }
    left_out = [
        {**row, "video": None, "image": "a.jpg"},
        {**row, "conversations": talk("What?")},
        {**row, "conversations": talk("<video>", "A cup.", "What?", " ")},
    ]
    found = check_rows([row, *left_out, {**row, "id": None}], DATA, with_rejected=False)
    assert [(one["id"], one["prompt"], one["chosen"], one["rejected"], one["answer"]) for one in found] == [
        ("a", "What?", "This.", "", "This."),
        ("a#2", "And?", "That.", "", "That."),
        ("row 2", "What?", "This.", "", "This."),
        ("row 3", "And?", "That.", "", "That."),
    ]
    assert all(one["video"] == "v.mp4" for one in found)
    assert "3 of 5 rows are left out: they have no video" in caplog.text


def test_a_pair_with_conversations_is_a_pair() -> None:
    """A table has a column for what only some of its rows have."""
    pair = {"id": "p", "video": "v.mp4", "prompt": "What?", "chosen": "This.", "rejected": "That."}
    for extra in ({"conversations": talk("Who?", "You.")}, {"conversations": None}):
        for with_rejected in (True, False):
            (found,) = check_rows([{**pair, **extra}], DATA, with_rejected)
            assert {name: found[name] for name in pair} == pair
            assert found.get("conversations") == extra["conversations"]


def test_both_sides_read_the_same_of_conversations(tmp_path: Path) -> None:
    rows = [
        {
            "id": "a",
            "video": "v.mp4",
            "conversations": talk("<video>\nWhat?", "This.", "<image>", "No.", "And?", "That."),
        },
        {"id": "b", "conversations": talk("What?", "This.")},
        {"id": "c", "video": "w.mp4", "conversations": talk("What?", "", "So?", "So.")},
        {"id": "d", "video": "w.mp4", "prompt": "Who?", "chosen": "I.", "conversations": talk("What?", "This.")},
    ]
    given = [{"rejected": "", **row} if "chosen" in row else row for row in rows]
    (tmp_path / "rows.json").write_text(json.dumps(given))
    here = [(row.id, row.video, row.prompt, row.chosen) for row in load_pairs(tmp_path / "rows.json")[0]]
    there = [tuple(row[name] for name in ("id", "video", "prompt", "chosen")) for row in check_rows(given, DATA, False)]
    assert here == there
    assert [row[0] for row in here] == ["a", "a#2", "c", "d"]


@pytest.mark.parametrize(
    ("conversations", "with_rejected", "says"),
    [
        (talk("What?", "This."), True, r"row 0 .* have no rejected answers: give --dpo_alpha 0"),
        (talk("What?"), False, "holds no row to fine-tune on"),
        ([{"from": "human"}], False, r"row 0 .*`conversations` must be a list of {from, value}"),
        (None, False, r"row 0 .*`conversations` must be a list of {from, value}"),
    ],
)
def test_conversations_that_cannot_be_trained_on(conversations: Any, with_rejected: bool, says: str) -> None:
    with pytest.raises(TPOError, match=says):
        check_rows([{"video": "v.mp4", "conversations": conversations}], DATA, with_rejected)
