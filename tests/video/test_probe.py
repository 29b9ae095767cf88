"""Bad files: each is told apart by its reason; odd file names are none."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tpo_plugin.errors import VideoError
from tpo_plugin.video import REASONS, probe, read_frames

Write = Callable[..., Path]
ODD_NAMES = [
    "two  spaces .mp4",
    "-y.mp4",
    "--help.mp4",
    'it\'s "quoted".mp4',
    "日本語 né.mp4",
    "100%d %03d.mp4",
    "http:host.mp4",
    "C:drive.mp4",
    "pipe:0.mp4",
    "a#b?c=d&e.mp4",
    "new\nline.mp4",
    "concat:a|b.mp4",
    "..mp4",
]


def reason(path: Path) -> str:
    with pytest.raises(VideoError) as caught:
        probe(path)
    assert REASONS[caught.value.reason] in str(caught.value)
    return caught.value.reason


def moov_first(data: bytes) -> bytes:
    """The same mp4 with its index (moov) before its data (mdat), as files for streaming have it."""
    boxes, place = {}, 0
    while place < len(data):
        size = struct.unpack(">I", data[place : place + 4])[0]
        boxes[data[place + 4 : place + 8]] = data[place : place + size]
        place += size
    moov = bytearray(boxes[b"moov"])
    table = moov.index(b"stco") + 4
    for entry in range(struct.unpack(">I", moov[table + 4 : table + 8])[0]):
        field = table + 8 + 4 * entry
        struct.pack_into(">I", moov, field, struct.unpack_from(">I", moov, field)[0] + len(moov))
    rest = b"".join(box for kind, box in boxes.items() if kind not in (b"ftyp", b"moov"))
    return boxes[b"ftyp"] + bytes(moov) + rest


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names(write: Write, name: str) -> None:
    path = write("plain.mp4", 8, 2).rename(write("plain.mp4", 8, 2).with_name(name))
    assert probe(path).seconds == pytest.approx(4)
    assert read_frames(path, [1.0]).shape == (1, 64, 64, 3)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names_relative_to_the_working_directory(write: Write, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("plain.mp4", 8, 2)
    path.rename(path.with_name(name))
    monkeypatch.chdir(path.parent)
    assert probe(name).seconds == pytest.approx(4)


def test_moov_first_and_whole_is_fine(write: Write, tmp_path: Path) -> None:
    path = tmp_path / "streamed.mp4"
    path.write_bytes(moov_first(write("a.mp4", 200).read_bytes()))
    assert probe(path).seconds == pytest.approx(20)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_cut_in_the_data_behind_the_index(write: Write, tmp_path: Path, share: float) -> None:
    whole = moov_first(write("a.mp4", 200, g="10").read_bytes())
    data = whole.index(b"mdat") + 4
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole[: data + int((len(whole) - data) * share)])
    assert reason(path) == "truncated"
    with pytest.raises(VideoError) as caught:
        read_frames(path, [0.5, 10.0, 19.5])
    assert caught.value.reason in ("truncated", "corrupt")


def test_cut_before_the_index(write: Write, tmp_path: Path) -> None:
    whole = write("a.mp4", 200).read_bytes()
    assert whole.index(b"mdat") < whole.index(b"moov"), "the index stands at the end of this file"
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole[: len(whole) * 2 // 3])
    assert reason(path) == "unreadable"


@pytest.mark.parametrize("name", ["a.mkv", "a.avi"])
def test_cut_in_other_containers(write: Write, name: str) -> None:
    path = write(name, 200, g="10")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert reason(path) == "truncated"


def test_not_a_video(tmp_path: Path) -> None:
    path = tmp_path / "x.mp4"
    assert reason(path) == "missing_file"
    path.write_bytes(b"")
    assert reason(path) == "empty_file"
    for content in (b"hello, I am text\n" * 200, b"<!DOCTYPE html><title>404</title>", bytes(9999)):
        path.write_bytes(content)
        assert reason(path) == "unreadable"
    path.write_bytes(random.Random(0).randbytes(1 << 16))
    assert reason(path) == "unreadable"


def test_folder_and_pipe_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "folder.mp4").mkdir()
    assert reason(tmp_path / "folder.mp4") == "missing_file"
    os.mkfifo(tmp_path / "pipe.mp4")
    assert reason(tmp_path / "pipe.mp4") == "missing_file"


def test_audio_only(tmp_path: Path) -> None:
    import av

    path = tmp_path / "audio.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 16000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    assert reason(path) == "no_video_stream"


def test_video_stream_without_frames(tmp_path: Path) -> None:
    import av

    path = tmp_path / "no frames.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=10)
        video.width = video.height = 64
        audio = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(audio.encode(sound))
    assert reason(path) == "no_frames"


def test_damaged_data(write: Write) -> None:
    path = write("a.mp4", 100)
    data = bytearray(path.read_bytes())
    start, size = data.index(b"mdat") + 4, struct.unpack_from(">I", data, data.index(b"mdat") - 4)[0]
    data[start : start + size - 8] = random.Random(0).randbytes(size - 8)
    path.write_bytes(data)
    assert reason(path) == "no_frames"


def test_one_frame_only(write: Write) -> None:
    path = write("a.mp4", 1)
    assert probe(path).seconds == pytest.approx(0.1)
    assert read_frames(path, [0.0, 0.05]).shape == (2, 64, 64, 3)


def test_longer_audio_does_not_make_a_video_truncated(tmp_path: Path) -> None:
    """Matroska declares one length for all its streams."""
    import av

    path = tmp_path / "long audio.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=10)
        video.width = video.height = 64
        audio = container.add_stream("pcm_s16le", rate=8000)
        for second in range(8):
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
            sound.sample_rate, sound.pts = 8000, second * 8000
            container.mux(audio.encode(sound))
            for _ in range(10 if second < 4 else 0):
                container.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8))))
        container.mux(video.encode())
    assert probe(path).seconds == pytest.approx(4)
    assert len(read_frames(path, [0.1, 3.9])) == 2
