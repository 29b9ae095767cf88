"""Files that cannot be read, before training and during it."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from tpo_plugin.errors import TPOError
from tpo_plugin.integrations.llava_family import data, video_check

ROW = {"id": "a", "video": "good.mp4", "prompt": "What?", "chosen": "This.", "rejected": "That."}


def test_broken_files_are_left_out_and_named(place: Any, caplog: pytest.LogCaptureFixture) -> None:
    (place.folder / "empty.mp4").touch()
    (place.folder / "noise.mp4").write_bytes(b"no video" * 100)
    os.mkdir(place.folder / "no frames")
    bad = ["empty.mp4", "noise.mp4", "nowhere.mp4", "no frames"]
    values = [ROW | {"id": name, "video": name} for name in bad] + [
        {**ROW, "id": "picture", "image": ["b.png"]},
        *(ROW | {"id": str(index)} for index in range(5)),
    ]
    with caplog.at_level(logging.WARNING, "tpo_plugin"):
        dataset = place.dataset(*values)
    assert sorted(row["id"] for row in dataset.list_data_dict) == list("01234")
    text = "\n".join(record.getMessage() for record in caplog.records)
    for line in (
        f"empty.mp4: {place.folder}/empty.mp4: the file has zero bytes",
        f"noise.mp4: {place.folder}/noise.mp4: not a video that FFmpeg can read",
        f"nowhere.mp4: {place.folder}/nowhere.mp4: no such file",
        f"no frames: {place.folder}/no frames: an empty folder",
        f"picture: {place.folder}/b.png: no such file",
        "left out 5 of 10 rows",
    ):
        assert line in text
    place.options.tpo_max_broken = 0.49
    with pytest.raises(TPOError, match=r"(?s)5 of 10 rows have a file .* share 0.49 .*nowhere.mp4.*--tpo_max_broken"):
        place.dataset()


def test_no_row_left(place: Any) -> None:
    place.options.tpo_max_broken = 1.0
    with pytest.raises(TPOError, match="no row is left"):
        place.dataset(ROW | {"video": "nowhere.mp4"})


def test_an_error_names_ten(place: Any) -> None:
    with pytest.raises(TPOError) as caught:
        place.dataset(*(ROW | {"id": f"<{index}>", "video": "nowhere.mp4"} for index in range(13)))
    assert str(caught.value).count("no such file") == 10
    assert "and 3 more" in str(caught.value)


def test_probes_are_kept_until_the_file_changes(place: Any) -> None:
    cache = Path(place.options.output_dir) / data.PROBED
    assert len(place.dataset(ROW, ROW)) == 2
    known = json.loads(cache.read_text())
    path = str(place.folder / "good.mp4")
    assert known == {path: {"file": [os.stat(path).st_size, os.stat(path).st_mtime_ns], "error": None}}
    known[path]["error"] = "what the file says"
    cache.write_text(json.dumps(known))
    with pytest.raises(TPOError, match="what the file says"):
        place.dataset()
    os.utime(path, (1, 1))
    assert len(place.dataset()) == 2
    cache.write_text("torn {")
    assert len(place.dataset()) == 2
    assert json.loads(cache.read_text())[path]["error"] is None


def test_probing_does_not_import_the_main_module(place: Any) -> None:
    """A script as upstream's, without guard for its imports: decoder processes must not run it again."""
    script = place.folder / "script.py"
    script.write_text(
        "import sys\nfrom pathlib import Path\n\n"
        "from tpo_plugin.integrations.llava_family.video_check import broken_videos\n\n"
        "with open('runs', 'a') as runs:\n    runs.write('x')\n"
        "print(broken_videos(['good.mp4'], Path('cache.json')))\n"
    )
    done = subprocess.run([sys.executable, script], cwd=place.folder, capture_output=True, text=True, check=True)
    assert done.stdout == "{}\n"
    assert (place.folder / "runs").read_text() == "x"


def test_a_file_lost_in_training_is_replaced_and_counted(place: Any, caplog: pytest.LogCaptureFixture) -> None:
    place.video("lost.mp4")
    dataset = place.dataset(*(ROW | {"id": str(index), "video": "lost.mp4"} for index in range(2)), *[ROW] * 2)
    lost = [index for index, row in enumerate(dataset.list_data_dict) if row["video"] == "lost.mp4"]
    (place.folder / "lost.mp4").unlink()
    with caplog.at_level(logging.WARNING, "tpo_plugin"):
        for _ in range(3):  # once, however often it fails
            assert all(item["id"] == "a" for item in dataset)
    messages = [record.getMessage() for record in caplog.records]
    assert sum("one more try" in message for message in messages) == len(messages) / 2
    assert any(message.startswith("0: ") and message.endswith("the next row stands in for it") for message in messages)
    assert len(set(Path(place.options.output_dir, data.FAILED).read_text().splitlines())) == len(lost) == 2
    place.options.tpo_max_broken = 0.49
    (place.folder / "lost.mp4").write_bytes((place.folder / "good.mp4").read_bytes())
    again = place.dataset()
    assert not Path(place.options.output_dir, data.FAILED).exists()  # a new run counts anew
    (place.folder / "lost.mp4").unlink()
    with pytest.raises(TPOError, match="2 of 4 rows have a file that cannot be read"):
        [again[index] for index in range(4)]


def test_a_second_try_helps(place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = place.dataset(ROW)
    path = place.folder / "good.mp4"
    path.rename(place.folder / "away.mp4")
    original = place.reader.__init__

    def back(self: Any, name: str, ctx: object) -> None:
        try:
            original(self, name, ctx)
        finally:
            if not path.exists():
                (place.folder / "away.mp4").rename(path)

    monkeypatch.setattr(place.reader, "__init__", back)
    assert dataset[0]["id"] == "a"
    assert not Path(place.options.output_dir, data.FAILED).exists()


def test_nothing_left_to_stand_in(place: Any) -> None:
    place.options.tpo_max_broken = 1.0
    dataset = place.dataset(ROW, ROW)
    (place.folder / "good.mp4").unlink()
    with pytest.raises(TPOError, match=r"no row of .* can be read"):
        dataset[1]


def test_loader_workers_count_together(place: Any) -> None:
    for index in range(4):
        place.video(f"{index}.mp4")
    dataset = place.dataset(*(ROW | {"id": str(index), "video": f"{index}.mp4"} for index in range(4)), ROW)
    for index in range(4):
        (place.folder / f"{index}.mp4").unlink()
    # Of 5 rows 2 may fail; each of 4 workers reads one or two, so none sees 3 failures of its own unless its next rows fail as well.
    loader = DataLoader(dataset, batch_size=1, num_workers=4, collate_fn=list)
    with pytest.raises(TPOError, match="of 5 rows have a file that cannot be read"):
        list(loader)
    assert len(set(Path(place.options.output_dir, data.FAILED).read_text().splitlines())) >= 3


def test_a_broken_picture_counts_as_a_broken_video_does(place: Any) -> None:
    (place.folder / "a.png").write_bytes(b"no picture")
    dataset = place.dataset({**ROW, "id": "picture", "image": "a.png"}, ROW)
    assert [item["id"] for item in dataset] == ["a", "a"]
    assert "picture: a picture cannot be read" in Path(place.options.output_dir, data.FAILED).read_text()


RANK = """
import sys
from pathlib import Path
from types import SimpleNamespace

from torch import distributed

from tpo_plugin.integrations.llava_family.data import drop_broken

rank, folder = int(sys.argv[1]), Path(sys.argv[2])
distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
rows = [{"id": str(index), "video": name} for index, name in enumerate(["good.mp4", "late.mp4"])]
kept, failed = drop_broken(rows, SimpleNamespace(video_folder=str(folder)), folder / f"out {rank}", 0.5)
print(rank, [row["id"] for row in kept], (folder / "out 1").exists())
distributed.destroy_process_group()
"""


def test_every_rank_has_the_list_of_rank_0(place: Any) -> None:
    """Only rank 0 looks at the files, although they do not share an output folder here."""
    (place.folder / "rank.py").write_text(RANK)
    command = [sys.executable, place.folder / "rank.py"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen([*command, str(rank), place.folder], stdout=subprocess.PIPE, text=True, env=environment)
        for rank in (0, 1)
    ]
    printed = [process.communicate(timeout=120)[0].splitlines()[-1] for process in started]
    assert printed == ["0 ['0'] False", "1 ['0'] False"]


def test_probe_process_reports_all(place: Any) -> None:
    (place.folder / "noise.mp4").write_bytes(b"no video" * 100)
    found = video_check.broken_videos(
        [str(place.folder / name) for name in ("good.mp4", "noise.mp4", "good.mp4")], place.folder / "cache.json"
    )
    assert list(found) == [str(place.folder / "noise.mp4")]
