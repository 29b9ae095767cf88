"""The data of an upstream step: what it is known by, and that it is there before anything is trained."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tpo_plugin.errors import TPOError
from tpo_plugin.training.upstream_data import _rows, check_data, data_digest

ROW = {"id": "a", "video": "v.mp4", "prompt": "What?", "chosen": "This.", "rejected": "That."}


TALK = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "This."}]
TALK += [{"from": "human", "value": "And then?"}, {"from": "gpt", "value": "That."}]


def write(file: Path, *rows: dict[str, Any]) -> Path:
    file.write_text(json.dumps(rows))
    return file


def leveled(level: float, **more: Any) -> dict[str, Any]:
    return {**ROW, "tpo": {"perturbation": {"difficulty": level}}, **more}


@pytest.fixture
def flags(tmp_path: Path) -> dict[str, Any]:
    """Flags that name a file, which is not there yet, and the folder of its video `v.mp4`, which no check opens."""
    (tmp_path / "v.mp4").write_text("no video")
    return {"data_path": str(tmp_path / "a.json"), "video_folder": str(tmp_path)}


@pytest.mark.parametrize("form", ["file", "braces", "list", "folder"])
def test_another_row_makes_another_digest(tmp_path: Path, flags: dict[str, Any], form: str) -> None:
    first, second = write(tmp_path / "a.json", ROW), write(tmp_path / "b.json", ROW)
    (tmp_path / "list.yaml").write_text(f"datasets: [{{json_path: {first}}}, {{json_path: {second}}}]")
    (tmp_path / "dataset.json").write_text('{"video_root": ".", "pairs": "b.json"}')
    paths = {"file": second, "braces": f"{tmp_path}/{{a,b}}.json", "list": tmp_path / "list.yaml", "folder": tmp_path}
    flags["data_path"] = str(paths[form])
    check_data(flags)
    before = data_digest(flags)
    assert data_digest(flags) == before
    write(second, {**ROW, "rejected": "Another."})
    assert data_digest(flags) != before
    second.unlink()
    for ask in (check_data, data_digest):
        with pytest.raises(TPOError, match=r"no file .*b\.json"):
            ask(flags)


def test_a_folder_of_videos_that_is_not_there(tmp_path: Path, flags: dict[str, Any]) -> None:
    write(tmp_path / "a.json", ROW)
    check_data({**flags, "image_folder": ""})
    with pytest.raises(TPOError, match=r"`flags.video_folder`: there is no folder gone"):
        check_data({**flags, "video_folder": "gone"})


@pytest.mark.parametrize("text", ["[1]", "datasets: {a: 1}", "datasets: [{}]", "a: ["])
def test_a_list_that_names_no_files(tmp_path: Path, text: str) -> None:
    (tmp_path / "list.yaml").write_text(text)
    with pytest.raises(TPOError, match="must be a file with `datasets`"):
        check_data({"data_path": str(tmp_path / "list.yaml")})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tpo_difficulty": "16,4"}, "no pair has difficulty 4; the data has 16"),
        ({"tpo_difficulty": "easy"}, "--tpo_difficulty is a level or several"),
        ({"tpo_max_pairs": "2", "tpo_difficulty": 16}, "2 pairs are asked for and there are 1"),
        ({"tpo_max_pairs": 0}, "`flags.tpo_max_pairs` must be 1 or more, it is 0"),
        ({"tpo_max_pairs": "many"}, "`flags.tpo_max_pairs` must be a number, it is 'many'"),
        ({"tpo_ratio": 482}, "--tpo_ratio is localized:comprehensive, such as 8:2; it is '482'"),  # YAML's 8:2
        ({"tpo_ratio": "5:5"}, "pairs in the ratio .* and there are 0 localized, 0 comprehensive"),
        ({"dpo_alpha": 1}, "row 1 .*: `conversations` have no rejected answers: give --dpo_alpha 0"),
        ({"tpo_order": "easy_to_hard"}, "goes by each row's difficulty, and 2 of 3 rows have none"),
        ({"video_folder": None}, r"`video` paths are relative \(v.mp4\): --video_folder must say"),
    ],
)
def test_rows_that_the_script_would_refuse(
    tmp_path: Path, flags: dict[str, Any], changes: dict[str, Any], says: str
) -> None:
    write(tmp_path / "a.json", leveled(16), {"id": "b", "video": "v.mp4", "conversations": TALK})
    flags["dpo_alpha"] = "0.0"
    check_data({**flags, "tpo_max_pairs": "3", "seed": "1"})  # two answers of the conversation
    with pytest.raises(TPOError, match=says):
        check_data({**flags, **changes})


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.json", "not json", r"a\.json is not JSON"),
        ("a.json", '{"id": "a"}', r"a\.json must be a list of rows"),
        ("a.json", "[]", "holds no preference pairs"),
        ("a.jsonl", '{"id": "a"}\nnot json\n', r"a\.jsonl.*line 2"),
        ("a.jsonl", '{"id": "a", "video": "v.mp4"}\n', "row 0 .*: missing key `prompt`"),
    ],
)
def test_files_that_hold_no_rows(tmp_path: Path, flags: dict[str, Any], name: str, text: str, says: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(TPOError, match=says):
        check_data({**flags, "data_path": str(tmp_path / name)})


def test_a_share_of_the_files_may_be_missing(tmp_path: Path, flags: dict[str, Any]) -> None:
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "0.png").write_text("")
    pictures = {"image": ["0.png", "1.png"], "video": None}
    rows = [ROW, {**ROW, "id": "b", "video": "frames"}, {**ROW, "id": "c", "video": "gone.mp4"}]
    write(tmp_path / "a.json", *rows, {**ROW, "id": "d", **pictures})
    flags["image_folder"] = str(tmp_path / "frames")
    with pytest.raises(
        TPOError, match=r"2 of 4 rows .*0\.01 allowed:\n  c: .*gone\.mp4.*\n  d: .*1\.png: no such file"
    ):
        check_data(flags)
    with pytest.raises(TPOError, match=r"more than the share 0\.4"):
        check_data({**flags, "tpo_max_broken": "0.4"})
    check_data({**flags, "tpo_max_broken": 0.5})


def test_a_list_takes_some_rows_of_each_file(tmp_path: Path, flags: dict[str, Any]) -> None:
    """What the script draws after `random.seed(seed)`; tests/upstream has the same list on the real one."""
    rows = [leveled(16 if place < 4 else 8, id=str(place)) for place in range(8)]
    first, second = write(tmp_path / "a.json", *rows[:4]), write(tmp_path / "b.json", *rows[4:])
    taken = [(first, "first:50%"), (second, "random:3"), (first, "end:1"), (second, "all")]
    values = [{"json_path": str(file), "sampling_strategy": sampling} for file, sampling in taken]
    (tmp_path / "list.yaml").write_text(json.dumps({"datasets": values}))
    flags["data_path"] = str(tmp_path / "list.yaml")
    drawn = rows[4:]
    random.Random(5).shuffle(drawn)
    assert _rows(flags["data_path"], 5) == [*rows[:2], *drawn[:3], rows[3], *rows[4:]]
    check_data({**flags, "tpo_difficulty": "8", "tpo_max_pairs": 7})
    with pytest.raises(TPOError, match="8 pairs are asked for and there are 7"):
        check_data({**flags, "tpo_difficulty": "8", "tpo_max_pairs": 8})
    (tmp_path / "list.yaml").write_text(json.dumps({"datasets": [{**values[0], "sampling_strategy": "first:x"}]}))
    with pytest.raises(TPOError, match="`sampling_strategy` is first:N, end:N or random:N"):
        check_data(flags)
