"""Which of its rows a run with `--tpo` trains on, and what they must have."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tpo_plugin.dataset.selection import select
from tpo_plugin.errors import TPOError
from tpo_plugin.integrations.llava_family.rows import check_rows, chosen_rows

ROWS = [
    {"id": f"row {place}", "prompt": "What?", "chosen": "This.", "rejected": "That.", "tpo": {"kind": kind}}
    for place, kind in enumerate(["localized"] * 8 + ["comprehensive"] * 4)
]
DATA = SimpleNamespace(data_path="pairs.json", video_folder="", image_folder="")


def drawn(most: int | None, ratio: str | None, seed: int = 0) -> list[str]:
    options = SimpleNamespace(tpo_max_pairs=most, tpo_ratio=ratio, seed=seed)
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
