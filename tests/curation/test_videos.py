"""Bad videos cost themselves and nothing else; real ones go through."""

from __future__ import annotations

import json
import os
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest

from tpo_plugin.curation.pipeline import curate
from tpo_plugin.video import probe, write_video


def test_bad_videos_are_counted_and_the_rest_goes_on(
    recipe_for,
    tiny_videos: Path,
    undisturbed: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    funnel,
    candidates,
) -> None:
    source = tmp_path / "videos"
    shutil.copytree(tiny_videos, source)
    whole = (tiny_videos / "video 0.mp4").read_bytes()
    (source / "a cut.mp4").write_bytes(whole[: len(whole) // 2])
    (source / "b empty.mp4").touch()
    (source / "c text.mp4").write_text("no video\n" * 99)
    (source / "d gone.mp4").symlink_to("nowhere.mp4")
    write_video(source / "sub folder" / "-e short 'né'.mkv", [np.zeros((64, 64, 3), np.uint8)], 4)
    (source / "notes.txt").write_text("not looked at")
    os.rename(source / "video 2.mp4", os.fsencode(source) + b"/not utf-8 \xff.mp4")
    curate(recipe_for("out", source=source))
    rows = funnel(tmp_path / "out")
    assert rows["probe"]["in"] == 8
    assert rows["probe"]["dropped"] == {"empty_file": 1, "missing_file": 1, "name_not_utf8": 1, "unreadable": 2}
    assert rows["segment"]["dropped"] == {"too_short": 1}
    for name in ("a cut.mp4", "b empty.mp4", "c text.mp4", "d gone.mp4", "-e short 'né'.mkv", "not utf-8"):
        assert name in caplog.text
    good = [pair for pair in candidates(undisturbed) if pair.video.path != "video 2.mp4"]
    assert candidates(tmp_path / "out") == good, "the good videos' pairs are as ever"


BAD_DECODER = """
import os
import time

from tpo_plugin.video import probe as real


def probe(path):
    if "1" in path.name:
        os._exit(139)
    if "2" in path.name:
        time.sleep(60)
    return real(path)
"""


def test_decoder_that_hangs_or_crashes_costs_its_video_and_is_tried_again(
    recipe_for, undisturbed: Path, same_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, funnel, candidates
) -> None:
    (tmp_path / "bad_decoder.py").write_text(BAD_DECODER)
    monkeypatch.syspath_prepend(tmp_path)
    import bad_decoder

    with monkeypatch.context() as patch:
        patch.setattr("tpo_plugin.video.isolated.probe", bad_decoder.probe)
        curate(recipe_for("out", videos={"decode_timeout": 1.0}, videos_in_flight=2))
    assert funnel(tmp_path / "out")["probe"]["dropped"] == {"decoder_crash": 1, "decoder_timeout": 1}
    assert {pair.video.path for pair in candidates(tmp_path / "out")} == {"video 0.mp4"}
    curate(recipe_for("out"))
    same_data(tmp_path / "out", undisturbed)


def test_video_that_breaks_in_the_middle_drops_all_its_records(
    recipe_for, tiny_videos: Path, tmp_path: Path, funnel, qa_rows, qa_without_llm
) -> None:
    """Headers, first frame and packets are fine; the damage shows when the middle is decoded."""
    source = tmp_path / "videos"
    source.mkdir()
    data = bytearray((tiny_videos / "video 0.mp4").read_bytes())
    start = data.index(b"mdat") + 4
    size = struct.unpack_from(">I", data, start - 8)[0] - 8
    data[start + size // 3 : start + size] = bytes(size - size // 3)
    (source / "broken.mp4").write_bytes(data)
    (source / "qa.json").write_text(json.dumps(qa_rows("broken.mp4", 3)))
    curate(recipe_for("out", source=source / "qa.json", **qa_without_llm))
    rows = funnel(tmp_path / "out")
    assert rows["probe"]["out"] == 1
    assert rows["query"]["out"] == rows["respond"]["in"] == 3
    assert rows["respond"]["dropped"] == {"corrupt": 3}


def test_real_videos(recipe_for, tmp_path: Path, funnel, candidates) -> None:
    videos = Path(__file__).parents[2] / ".." / "shared" / "videos"
    if not videos.is_dir():
        pytest.skip("no real videos beside this checkout")
    curate(
        recipe_for("out", source=videos, segments={"min_seconds": 1, "max_seconds": 5}, frames={"fps": 0.5, "max": 8})
    )
    rows = funnel(tmp_path / "out")
    assert rows["segment"]["out"] == rows["probe"]["out"] == 3
    assert rows["respond"]["out"] == rows["query"]["out"] > 0
    sizes = {pair.video.path: (pair.video.width, pair.video.height) for pair in candidates(tmp_path / "out")}
    assert sizes.get("jobs.mp4", (576, 1024)) == (576, 1024), "portrait"
    assert probe(videos / "dc_demo.mp4").seconds == pytest.approx(10.8, abs=0.1)
