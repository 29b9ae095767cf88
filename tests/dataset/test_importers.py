from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tpo_plugin.dataset.importers import import_csv
from tpo_plugin.dataset.pairs import load_pairs
from tpo_plugin.errors import TPOError

TRICKY = 'Was sagt «sie» 当\n"quoted", it\'s\ttabbed \\ back?'
HEADER = ["Video Path", "Question", "Chosen_Answer", "REJECTED", "task type", "note"]
ROW = ["a.mp4", TRICKY, "yes\nit is", 'no, "never"', "Temporal Reasoning", "n1"]


def write_table(path: Path, *rows: list[str], delimiter: str = ",", encoding: str = "utf-8") -> Path:
    with path.open("w", newline="", encoding=encoding) as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return path


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in ("a.mp4", "b.webm"):
        (folder / name).write_bytes(b"present")
    return folder


def rejected_rows(output: Path) -> list[list[str]]:
    with (output / "rejected_rows.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


@pytest.mark.parametrize(
    ("delimiter", "encoding"), [(",", "utf-8"), (";", "utf-8-sig"), ("\t", "utf-16"), ("|", "utf-8")]
)
def test_headers_delimiters_and_encodings_are_recognised(tmp_path: Path, videos: Path, delimiter: str, encoding: str):
    table = write_table(tmp_path / "pairs.csv", HEADER, ROW, delimiter=delimiter, encoding=encoding)
    report = import_csv(table, tmp_path / "out", videos=videos)
    assert (report.rows, report.kept, report.rejected, report.missing_videos) == (1, 1, {}, 0)
    (row,), root = load_pairs(tmp_path / "out")
    assert root == videos.resolve()
    assert (row.video, row.prompt, row.chosen, row.rejected) == ("a.mp4", TRICKY, "yes\nit is", 'no, "never"')
    assert row.tpo["task"] == "temporal_reasoning"
    assert row.tpo["imported"]["line"] == 2
    assert row.tpo["imported"]["columns"]["note"] == "n1"
    assert rejected_rows(tmp_path / "out") == [["line", "reason", *HEADER]]
    assert json.loads((tmp_path / "out" / "import_report.json").read_text("utf-8"))["kept"] == 1
    assert "1 of 1 rows" in str(report)


def test_a_given_encoding_is_used_and_a_wrong_guess_is_an_error(tmp_path: Path, videos: Path):
    row = ["a.mp4", "Où?", "là", "ici"]
    table = write_table(tmp_path / "t.csv", ["video", "prompt", "chosen", "rejected"], row, encoding="cp1252")
    with pytest.raises(TPOError, match="--encoding cp1252"):
        import_csv(table, tmp_path / "out", videos=videos)
    import_csv(table, tmp_path / "out", videos=videos, encoding="cp1252")
    assert load_pairs(tmp_path / "out")[0][0].prompt == "Où?"


def test_rows_that_cannot_be_used_are_counted_and_kept_aside(tmp_path: Path, videos: Path):
    head = ["id", "video", "prompt", "chosen", "rejected"]
    table = write_table(
        tmp_path / "t.csv",
        head,
        ["1", "a.mp4", "Two\nlines?", "yes", "no"],  # lines 2 and 3
        ["2", "b", "suffix left out?", "yes", "no"],
        ["3", "gone.mp4", "What?", "yes", "no"],
        ["4", "a.mp4", "", "yes", "no"],
        ["5", "a.mp4", "What?", "same", "same"],
        ["6", "../a.mp4", "What?", "yes", "no"],
        ["7", "/elsewhere/a.mp4", "What?", "yes", "no"],
        ["8", "a.mp4", "Two\nlines?", "yes", "no"],  # lines 10 and 11
        ["9", "a.mp4", "What?", "yes"],
        ["10", "a.mp4", "What?", "yes", "no", "more"],
        ["1", str(videos / "a.mp4"), "same id?", "yes", "no"],
        ["12", "x" * 400, "too long a name?", "yes", "no"],
    )
    report = import_csv(table, tmp_path / "out", videos=videos)
    reasons = {
        "5": "video not found", "6": "no prompt", "7": "chosen equals rejected", "8": "video path leaves the video root",
        "9": "absolute video path outside the video root", "10": "repeats an earlier row", "12": "fewer cells than columns",
        "13": "more cells than columns", "15": "video not found",
    }  # fmt: skip
    assert {line: reason for line, reason, *_ in rejected_rows(tmp_path / "out")[1:]} == reasons
    assert report.rejected == {reason: list(reasons.values()).count(reason) for reason in reasons.values()}
    assert (report.rows, report.kept, report.missing_videos) == (12, 3, 2)
    rows, _ = load_pairs(tmp_path / "out")
    assert [(row.id, row.video) for row in rows] == [("1", "a.mp4"), ("2", "b.webm"), ("1#2", "a.mp4")]


def test_allow_missing_keeps_rows_without_their_video(tmp_path: Path, videos: Path):
    table = write_table(tmp_path / "t.csv", ["video", "prompt", "chosen", "rejected"], ["gone.mp4", "?", "yes", "no"])
    with pytest.raises(TPOError, match=r"no row of .* can be used: \{'video not found': 1\}"):
        import_csv(table, tmp_path / "out", videos=videos)
    assert not (tmp_path / "out" / "dataset.json").exists()
    assert rejected_rows(tmp_path / "out")[1][:2] == ["2", "video not found"]
    report = import_csv(table, tmp_path / "out", videos=videos, allow_missing=True)
    assert (report.kept, report.missing_videos) == (1, 1)
    assert "1 videos are not under" in str(report)


@pytest.mark.parametrize("spell", [json.dumps, repr])
def test_conversations_in_cells(tmp_path: Path, videos: Path, spell):
    chosen = [{"from": "human", "value": "<image>\nWhy?"}, {"from": "gpt", "value": "It's so."}]
    blocks = [{"type": "video"}, {"type": "text", "text": "Why?"}]
    rejected = [{"role": "user", "content": blocks}, {"role": "assistant", "content": "Never."}]
    several = [*chosen, *chosen]
    table = write_table(
        tmp_path / "t.csv",
        ["video", "chosen", "rejected"],
        [spell(["a.mp4"]), spell(chosen), spell(rejected)],
        ["a.mp4", spell(several), spell(rejected)],
        [spell(["a.mp4", "b.webm"]), spell(chosen), spell(rejected)],
        ["a.mp4", "plain", "[not a list, plain]"],
    )
    report = import_csv(table, tmp_path / "out", videos=videos)
    (row,), _ = load_pairs(tmp_path / "out")
    assert (row.video, row.prompt, row.chosen, row.rejected) == ("a.mp4", "Why?", "It's so.", "Never.")
    assert report.rejected == {"conversation of several turns": 1, "not exactly one video": 1, "no prompt": 1}


def test_an_explicit_map_wins_over_headers(tmp_path: Path, videos: Path):
    head = ["video", "prompt", "chosen", "rejected", "better = text"]
    table = write_table(tmp_path / "t.csv", head, ["a.mp4", "?", "wrong column", "no", "right column"])
    report = import_csv(table, tmp_path / "out", ["better = text=chosen"], videos)
    assert load_pairs(tmp_path / "out")[0][0].chosen == "right column"
    assert report.columns["chosen"] == "better = text"


@pytest.mark.parametrize(
    ("header", "given", "text"),
    [
        (["video", "prompt", "a1", "a2"], [], r"no column is recognised as `chosen`. Columns: 'video', 'prompt', 'a1', 'a2'.*--map 'COLUMN=chosen'"),
        (["video", "question", "query", "chosen", "rejected"], [], "'question' and 'query' could each be `prompt`.*--map 'COLUMN=prompt'"),
        (["video", "prompt", "answer", "answer", "rejected"], [], "'answer' and 'answer' could each be `chosen`"),
        (["video", "extra", "chosen", "rejected"], [], "no column is recognised as `prompt`"),
        (["video", "prompt", "chosen", "rejected"], ["a1=chosen"], "0 columns are named 'a1'"),
        (["video", "prompt", "chosen", "rejected"], ["chosen=best"], "--map is written column=field"),
        (["video", "prompt", "chosen", "rejected"], ["chosen"], "--map is written column=field"),
        (["video", "prompt", "chosen", "rejected"], ["chosen=chosen", "chosen=rejected"], "mapped twice"),
    ],
)  # fmt: skip
def test_missing_and_ambiguous_columns_name_the_cure(
    tmp_path: Path, videos: Path, header: list[str], given: list[str], text: str
):
    table = write_table(tmp_path / "t.csv", header, [f"cell {n}" for n in range(len(header))])
    with pytest.raises(TPOError, match=text):
        import_csv(table, tmp_path / "out", given, videos)
    assert not (tmp_path / "out").exists()


def test_tables_that_cannot_be_read(tmp_path: Path, videos: Path):
    with pytest.raises(TPOError, match="cannot read"):
        import_csv(tmp_path / "absent.csv", tmp_path / "out", videos=videos)
    (tmp_path / "empty.csv").write_bytes(b"")
    with pytest.raises(TPOError, match="is empty"):
        import_csv(tmp_path / "empty.csv", tmp_path / "out", videos=videos)
    (tmp_path / "binary.csv").write_bytes(bytes(range(256)))
    with pytest.raises(TPOError, match="is not utf-8-sig text"):
        import_csv(tmp_path / "binary.csv", tmp_path / "out", videos=videos)
    table = write_table(tmp_path / "t.csv", HEADER, ROW)
    with pytest.raises(TPOError, match="--videos names the folder"):
        import_csv(table, tmp_path / "out", videos=tmp_path / "absent")
    with pytest.raises(TPOError, match="name another output"):
        import_csv(table, table / "out", videos=videos)
    assert not (tmp_path / "out").exists()


def test_another_data_set_is_not_overwritten(tmp_path: Path, curated: Path):
    table = write_table(tmp_path / "t.csv", HEADER, ROW)
    before = (curated / "pairs.json").read_bytes()
    with pytest.raises(TPOError, match="a data set that is no import"):
        import_csv(table, curated, videos=tmp_path)
    assert (curated / "pairs.json").read_bytes() == before


def test_cells_longer_than_the_csv_modules_limit(tmp_path: Path, videos: Path):
    words = "word " * 60_000
    table = write_table(tmp_path / "t.csv", ["video", "prompt", "chosen", "rejected"], ["a.mp4", "?", words, "no"])
    limit = csv.field_size_limit()
    import_csv(table, tmp_path / "out", videos=videos)
    assert load_pairs(tmp_path / "out")[0][0].chosen == words.strip()
    assert csv.field_size_limit() == limit
