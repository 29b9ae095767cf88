"""The data of an upstream step: what it is known by, and that it is there before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tpo_plugin.errors import TPOError
from tpo_plugin.training.upstream_data import check_data, data_digest

ROW = {"id": "a", "video": "v.mp4", "prompt": "What?", "chosen": "This.", "rejected": "That."}


def write(file: Path, *rows: dict[str, object]) -> Path:
    file.write_text(json.dumps(rows))
    return file


@pytest.mark.parametrize("form", ["file", "braces", "list", "folder"])
def test_another_row_makes_another_digest(tmp_path: Path, form: str) -> None:
    first, second = write(tmp_path / "a.json", ROW), write(tmp_path / "b.json", ROW)
    (tmp_path / "list.yaml").write_text(f"datasets: [{{json_path: {first}}}, {{json_path: {second}}}]")
    (tmp_path / "dataset.json").write_text('{"video_root": ".", "pairs": "b.json"}')
    paths = {"file": second, "braces": f"{tmp_path}/{{a,b}}.json", "list": tmp_path / "list.yaml", "folder": tmp_path}
    flags = {"data_path": str(paths[form])}
    check_data(flags)
    before = data_digest(flags)
    assert data_digest(flags) == before
    write(second, {**ROW, "rejected": "Another."})
    assert data_digest(flags) != before
    second.unlink()
    for ask in (check_data, data_digest):
        with pytest.raises(TPOError, match=r"no file .*b\.json"):
            ask(flags)


def test_a_folder_of_videos_that_is_not_there(tmp_path: Path) -> None:
    flags = {"data_path": str(write(tmp_path / "a.json", ROW)), "image_folder": "", "video_folder": str(tmp_path)}
    check_data(flags)
    with pytest.raises(TPOError, match=r"`flags.video_folder`: there is no folder gone"):
        check_data({**flags, "video_folder": "gone"})


@pytest.mark.parametrize("text", ["[1]", "datasets: {a: 1}", "datasets: [{}]", "a: ["])
def test_a_list_that_names_no_files(tmp_path: Path, text: str) -> None:
    (tmp_path / "list.yaml").write_text(text)
    with pytest.raises(TPOError, match="must be a file with `datasets`"):
        check_data({"data_path": str(tmp_path / "list.yaml")})
