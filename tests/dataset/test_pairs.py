from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tpo_plugin.dataset.pairs import Row, load_pairs, missing_videos, row_of, strip_placeholders, to_llava, unique_ids
from tpo_plugin.errors import TPOError
from tpo_plugin.records import PreferencePair

GOOD = {"id": "1", "video": "a.mp4", "prompt": "What?", "chosen": "yes", "rejected": "no"}


def write(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def test_a_pair_keeps_its_provenance_through_row_and_llava_json(example_pairs: list[PreferencePair]):
    row = row_of(example_pairs[0])
    assert row.tpo["kind"] == "localized"
    assert row.tpo["segment"] == [5.0, 9.0]
    assert row.tpo["perturbation"] == {"name": "cut_segment", "kept": [[0.0, 5.0], [9.0, 40.0]], "difficulty": None}
    assert row.tpo["verdicts"] == {"judge": "Yes / No / Yes"}
    assert (row.tpo["seconds"], row.tpo["seed"], row.tpo["generator"]) == (40.0, 7, "tiny")
    llava = to_llava(row)
    assert set(llava) == {"id", "video", "prompt", "chosen", "rejected", "answer", "tpo"}
    assert llava["answer"] == llava["chosen"] == "A red cup\nstands there."
    assert llava["prompt"] == example_pairs[0].query.text
    assert row_of(example_pairs[2]).tpo["segment"] is None


def test_a_curation_folder_comes_back_as_it_was_written(curated: Path, example_rows: list[Row]):
    rows, root = load_pairs(curated)
    assert rows == example_rows
    assert root == (curated.parent / "videos").resolve()
    assert missing_videos(rows, root) == ["né/日本.mp4"]


def test_an_explicit_root_wins(curated: Path, tmp_path: Path):
    assert load_pairs(curated, tmp_path)[1] == tmp_path.resolve()
    assert load_pairs(curated / "pairs.json")[1] == curated.resolve()


def test_upstream_rows_need_neither_id_nor_answer_nor_tpo(tmp_path: Path):
    bare = {key: GOOD[key] for key in ("video", "prompt", "chosen", "rejected")}
    lines = tmp_path / "rows.jsonl"
    lines.write_text(json.dumps(bare) + "\n\n" + json.dumps({**bare, "chosen": "maybe", "id": 3}), encoding="utf-8")
    rows, root = load_pairs(lines)
    assert [row.tpo for row in rows] == [{}, {}]
    assert len(rows[0].id) == 16
    assert rows[1].id == "3"
    assert root == tmp_path.resolve()


@pytest.mark.parametrize("prompt", ["<image>\nWhat?", "<video>\nWhat?", "<video>What?", "What?\n<image>", "What?"])
def test_video_placeholders_are_taken_off(prompt: str):
    assert strip_placeholders(prompt) == "What?"


def test_repeated_ids_are_made_unique(example_rows: list[Row]):
    row = example_rows[0]
    named = [replace(row, id=name) for name in ("v", "v", "v#2", "v")]
    assert [row.id for row in unique_ids(named)] == ["v", "v#2", "v#2#2", "v#3"]


def test_absolute_video_paths_become_relative(tmp_path: Path):
    file = write(tmp_path / "rows.json", [{**GOOD, "video": str(tmp_path / "films" / "a.mp4")}])
    assert load_pairs(file)[0][0].video == "films/a.mp4"
    with pytest.raises(TPOError, match="set video_root"):
        load_pairs(file, tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({**GOOD, "chosen": ""}, "row 1 .*`chosen` must be a text that is not empty"),
        ({**GOOD, "rejected": ["no"]}, "row 1 .*`rejected` must be a text"),
        ({key: value for key, value in GOOD.items() if key != "rejected"}, "row 1 .*missing key `rejected`"),
        ({**GOOD, "tpo": "x"}, "row 1 .*`tpo` must be an object"),
        ("no row", "row 1 .*must be an object, it is str"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: object, text: str):
    file = write(tmp_path / "rows.json", [GOOD, row])
    with pytest.raises(TPOError, match=text) as caught:
        load_pairs(file)
    assert str(file) in str(caught.value)


def test_a_bad_file_is_named(tmp_path: Path, curated: Path):
    with pytest.raises(TPOError, match=r"no file .*absent\.json"):
        load_pairs(tmp_path / "absent.json")
    with pytest.raises(TPOError, match="finish `tpo curate`"):
        load_pairs(tmp_path)
    with pytest.raises(TPOError, match="must be a list of rows"):
        load_pairs(write(tmp_path / "object.json", GOOD))
    with pytest.raises(TPOError, match="holds no preference pairs"):
        load_pairs(write(tmp_path / "empty.json", []))
    with pytest.raises(TPOError, match="not readable JSON"):
        load_pairs(curated.parent / "videos" / "folder" / "a b.mp4")
    (tmp_path / "latin.json").write_bytes("[é]".encode("latin-1"))
    with pytest.raises(TPOError, match="not readable JSON"):
        load_pairs(tmp_path / "latin.json")
    (tmp_path / "torn.jsonl").write_text(json.dumps(GOOD) + '\n{"id": "2", "vid', encoding="utf-8")
    with pytest.raises(TPOError, match="line 2 is not JSON"):
        load_pairs(tmp_path / "torn.jsonl")
    write(curated / "dataset.json", {"pairs": "pairs.json"})
    with pytest.raises(TPOError, match=r"dataset\.json must be"):
        load_pairs(curated)


TALK = {
    "id": "v1",
    "data_source": "academic",
    "video": "folder/a.mp4",
    "conversations": [
        {"from": "human", "value": "<image>\nWhat is shown?"},
        {"from": "gpt", "value": "A cup."},
        {"from": "human", "value": "And then?"},
        {"from": "gpt", "value": "A plate."},
    ],
}


def test_conversations_become_rows_to_fine_tune_on(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    picture = {**TALK, "image": "a.jpg"}
    del picture["video"]
    unanswered = {**TALK, "conversations": TALK["conversations"][:1]}
    rows, root = load_pairs(write(tmp_path / "talks.json", [TALK, picture, unanswered, GOOD]))
    assert [(row.id, row.prompt, row.chosen, row.rejected) for row in rows] == [
        ("v1", "What is shown?", "A cup.", ""),
        ("v1#2", "And then?", "A plate.", ""),
        ("1", "What?", "yes", "no"),
    ]
    assert rows[0].video == rows[1].video == "folder/a.mp4"
    assert rows[0].tpo == {"data_source": "academic"}
    assert root == tmp_path.resolve()
    assert "talks.json: 2 of 4 rows are left out: they have no video" in caplog.text


def test_conversations_of_another_form_name_their_row(tmp_path: Path):
    for wrong in ([{"role": "user", "content": "What?"}], None, "text"):
        with pytest.raises(TPOError, match=r"talks.json, row 0 .*`conversations` must be a list of {from, value}"):
            load_pairs(write(tmp_path / "talks.json", [{**TALK, "conversations": wrong}]))
    with pytest.raises(TPOError, match="holds no preference pairs"):
        load_pairs(write(tmp_path / "talks.json", [{"conversations": []}]))


def test_several_sources_are_one_data_set(curated: Path, example_rows: list[Row], tmp_path: Path):
    (tmp_path / "more").mkdir()
    talks = write(tmp_path / "more" / "talks.json", [TALK])
    rows, root = load_pairs([curated, talks])
    assert len(rows) == len(example_rows) + 2
    assert [(root / row.video) for row in rows[-2:]] == [(tmp_path / "more" / "folder" / "a.mp4").resolve()] * 2
    own = (curated.parent / "videos").resolve()
    assert [root / row.video for row in rows[: len(example_rows)]] == [own / row.video for row in example_rows]
    assert len({row.id for row in load_pairs((talks, str(talks)), tmp_path)[0]}) == 4
    with pytest.raises(TPOError, match="`data` is an empty list"):
        load_pairs([])
