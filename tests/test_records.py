"""Records: stable ids, JSON there and back, files that are whole or not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tpo_plugin.errors import TPOError
from tpo_plugin.records import (
    Perturbation,
    PreferencePair,
    Query,
    Segment,
    Video,
    from_json,
    read_jsonl,
    stable_id,
    to_json,
    write_json,
    write_jsonl,
    write_text,
)

PAIR = PreferencePair(
    "p", Video("v", "né 日本.mp4", 9.5, 29.97, 64, 48), Query("q", "localized", "object", "What\n?", "this", Segment("s", 1.0, 2.5)),
    Perturbation("cut_segment", ((0.0, 1.0), (2.5, 9.5)), 4.0), 'A "star"', "", (1.25, 2.0), (0.5,), "captions", "tiny", 3,
    {"better": "yes"}, "empty_response",
)  # fmt: skip


def test_stable_id_is_what_it_was() -> None:
    # A changed id would throw away every journal in use.
    assert stable_id("a", 1, 0.5, None, ["x"], {"b": 1, "a": 2}) == "3aae022db69e66ce"
    assert stable_id({"b": 1, "a": 2}) == stable_id({"a": 2, "b": 1})
    assert (
        len({stable_id(*parts) for parts in [("a", "b"), ("ab",), ("a", ["b"]), (["a", "b"],), ("a", 1), ("a", "1")]})
        == 6
    )
    assert len(stable_id("\udcff")) == 16, "file names that are not UTF-8 have ids too"


def test_there_and_back() -> None:
    plain = to_json(PAIR)
    assert from_json(PreferencePair, json.loads(json.dumps(plain))) == PAIR
    whole = {**plain, "video": {**plain["video"], "seconds": 9}}
    assert from_json(PreferencePair, whole).video.seconds == 9


@pytest.mark.parametrize(
    "change", [{"chosen": None}, {"chosen": 1}, {"surplus": 1}, {"video": {"id": "v"}}, {"chosen_times": ["soon"]}]
)
def test_what_is_no_record(change: dict[str, object]) -> None:
    with pytest.raises(TPOError, match="not a PreferencePair"):
        from_json(PreferencePair, {**to_json(PAIR), **change})
    with pytest.raises(TPOError, match="not a PreferencePair"):
        from_json(PreferencePair, {key: value for key, value in to_json(PAIR).items() if key != "query"})


def test_lines(tmp_path: Path) -> None:
    rows = [{"text": "a\u2028b\n日本", "n": index} for index in range(3)]
    write_jsonl(tmp_path / "new" / "rows.jsonl", rows)
    assert list(read_jsonl(tmp_path / "new" / "rows.jsonl")) == rows
    with (tmp_path / "new" / "rows.jsonl").open("ab") as file:
        file.write(b'\n  \n{"torn')
    with pytest.raises(TPOError, match=r"rows\.jsonl, line 6 is not JSON"):
        list(read_jsonl(tmp_path / "new" / "rows.jsonl"))


def test_old_file_stays_where_the_new_one_fails(tmp_path: Path) -> None:
    target = tmp_path / "file.json"
    write_json(target, {"old": True})

    def rows():
        yield {"new": 1}
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_jsonl(target, rows())
    (tmp_path / "file.json.partial").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"No space left on device: .*file\.json'"):
        write_text(target, "new" * 100)
    assert json.loads(target.read_text()) == {"old": True}
    assert [path.name for path in tmp_path.iterdir()] == ["file.json"], "nothing half-written is left behind"


@pytest.mark.parametrize("place", ["file/below.json", "/proc/tpo/x.json"])
def test_unwritable_place(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=place):
        write_json(tmp_path / place, 1)
