from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import datasets
import pytest

from tpo_plugin.dataset.export import export
from tpo_plugin.dataset.pairs import Row, load_pairs, to_llava
from tpo_plugin.errors import TPOError
from tpo_plugin.records import read_jsonl


def count_rows(rows: Sequence[Row], output: Path) -> None:
    """A third party's format."""
    output.write_text(f"{len(rows)} rows")


def test_llava_round_trip_and_the_count_of_missing_videos(curated: Path, tmp_path: Path, example_rows: list[Row]):
    done = export(curated, "llava", tmp_path / "out" / "pairs.json")
    assert json.loads(done.output.read_text("utf-8")) == [to_llava(row) for row in example_rows]
    assert load_pairs(done.output)[0] == example_rows
    assert (done.rows, done.videos, done.missing) == (3, 2, ("né/日本.mp4",))
    assert "1 of 2 videos are not there" in str(done)
    assert str((curated.parent / "videos").resolve()) in str(done)


def test_ms_swift_lines_have_the_documented_keys(curated: Path, tmp_path: Path, example_rows: list[Row]):
    lines = list(read_jsonl(export(curated, "ms_swift", tmp_path / "swift.jsonl").output))
    for line, row in zip(lines, example_rows, strict=True):
        assert set(line) == {"messages", "rejected_response", "videos", "id", "tpo"}
        assert [message["role"] for message in line["messages"]] == ["user", "assistant"]
        user, assistant = (message["content"] for message in line["messages"])
        assert user.count("<video>") == len(line["videos"]) == 1
        assert (user, assistant, line["rejected_response"]) == (f"<video>{row.prompt}", row.chosen, row.rejected)
        assert line["videos"] == [row.video]
        assert json.loads(line["tpo"]) == row.tpo


def test_ms_swift_lines_load_as_one_arrow_table(curated: Path, tmp_path: Path, example_rows: list[Row]):
    datasets = pytest.importorskip("datasets")
    file = export(curated, "ms_swift", tmp_path / "swift.jsonl").output
    loaded = datasets.load_dataset("json", data_files=str(file), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded["rejected_response"] == [row.rejected for row in example_rows]
    assert set(loaded[0]["messages"][0]) == {"role", "content"}


def test_a_third_partys_format_goes_through_the_same_door(curated: Path, tmp_path: Path):
    done = export(curated, f"{__name__}:count_rows", tmp_path / "count.txt")
    assert done.output.read_text() == "3 rows"


@pytest.mark.parametrize("name", ["lava", "tests.dataset.test_formats:absent", "no_such_module:write"])
def test_an_unknown_format_is_an_error(curated: Path, tmp_path: Path, name: str):
    with pytest.raises(TPOError, match="format"):
        export(curated, name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["llava", "trl", "ms_swift", "hf"])
def test_an_output_that_cannot_be_written_is_an_error(curated: Path, tmp_path: Path, name: str):
    blocked = tmp_path / "file"
    blocked.write_text("a file, not a folder")
    with pytest.raises(TPOError, match="name another output"):
        export(curated, name, blocked / "out")
    assert blocked.read_text() == "a file, not a folder"


def test_a_file_format_does_not_replace_a_folder(curated: Path, tmp_path: Path):
    (tmp_path / "out" / "inner").mkdir(parents=True)
    with pytest.raises(TPOError, match="cannot write"):
        export(curated, "llava", tmp_path / "out")
    assert (tmp_path / "out" / "inner").is_dir()


@pytest.mark.parametrize(("name", "file"), [("llava", ""), ("hf", "dataset_dict.json")])
def test_a_disk_that_fills_leaves_the_old_export(curated: Path, tmp_path: Path, name: str, file: str):
    resource = pytest.importorskip("resource")
    datasets.disable_progress_bars()  # a bar that cannot be written keeps tqdm's lock for ever
    done = export(curated, name, tmp_path / "out")
    before = (done.output / file).read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, limits[1]))  # bytes a file: the kernel then refuses to write on
    try:
        with pytest.raises(TPOError, match="cannot write"):
            export(curated, name, done.output)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        datasets.enable_progress_bars()
    assert (done.output / file).read_bytes() == before


@pytest.mark.parametrize("name", ["llava", "trl", "ms_swift", "hf"])
def test_text_that_is_no_unicode_is_an_error(curated: Path, tmp_path: Path, name: str):
    pairs = json.loads((curated / "pairs.json").read_text("utf-8"))
    pairs[1]["prompt"] = "lone surrogate \udc80"
    (curated / "pairs.json").write_text(json.dumps(pairs), encoding="utf-8")
    with pytest.raises(TPOError, match="cannot write"):
        export(curated, name, tmp_path / "out")
    assert not (tmp_path / "out").exists()
