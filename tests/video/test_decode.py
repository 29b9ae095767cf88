"""The right frame comes back for each time, whatever the container, codec, frame rate and distance."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tpo_plugin.errors import VideoError
from tpo_plugin.video import probe, read_frames, write_video
from tpo_plugin.video.decode import reduced_size

Write = Callable[..., Path]
NumberOf = Callable[[np.ndarray], int]
CONTAINERS = [
    ("a.mp4", "libx264", {}),
    ("a.mov", "libx264", {"bf": "3"}),
    ("a.mkv", "libx264", {"bf": "3"}),
    ("a.webm", "libvpx", {"deadline": "realtime", "cpu-used": "8"}),
    ("a.avi", "libx264", {"bf": "3"}),
    ("b.avi", "mpeg4", {"bf": "2"}),
    ("b.mp4", "mpeg4", {"g": "5"}),
]


@pytest.mark.parametrize(("name", "codec", "options"), CONTAINERS, ids=lambda value: str(value))
def test_frames_of_each_container(write: Write, number_of: NumberOf, name: str, codec: str, options: dict) -> None:
    path = write(name, 300, codec=codec, **options)
    info = probe(path)
    assert (info.seconds, info.fps, info.width, info.height) == (pytest.approx(30), 10, 64, 64)
    times = [0, 0.04, 0.1, 0.19, 3.35, 11.95, 12.0, 25.55, 29.95, 30.0]  # gaps of over 8 s are jumped over
    assert [number_of(frame) for frame in read_frames(path, times)] == [0, 0, 1, 1, 33, 119, 120, 255, 299, 299]


@pytest.mark.parametrize(("keys", "name"), [("10", "a.mp4"), ("1000", "a.mp4"), ("25", "a.mkv"), ("40", "a.avi")])
def test_jumps_land_on_the_same_frames_as_decoding_through(
    write: Write, number_of: NumberOf, keys: str, name: str
) -> None:
    path = write(name, 900, g=keys, keyint_min=keys, preset="ultrafast")
    rng = random.Random(0)
    for _ in range(5):
        # Times in the middle of frames, so that no rounding can move them to a neighbour.
        numbers = sorted(rng.sample(range(900), 6))
        frames = read_frames(path, [(number + 0.5) / 10 for number in numbers])
        assert [number_of(frame) for frame in frames] == numbers


@pytest.mark.parametrize("rate", [2, 25, 29.97, 60])
def test_frame_rates(write: Write, number_of: NumberOf, rate: float) -> None:
    path = write("a.mp4", 60, rate)
    info = probe(path)
    assert info.fps == pytest.approx(rate, rel=1e-3)
    assert info.seconds == pytest.approx(60 / rate, abs=1e-2)
    numbers = [0, 1, 17, 42, 59]
    assert [number_of(frame) for frame in read_frames(path, [(n + 0.5) / info.fps for n in numbers])] == numbers
    # A frame is shown from its own time on, the one before until just then.
    edges = [time for number in numbers[1:] for time in (number / info.fps - 1e-3, number / info.fps + 1e-3)]
    shown = [number_of(frame) for frame in read_frames(path, edges)]
    assert shown == [number for place in numbers[1:] for number in (place - 1, place)]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov"])
def test_variable_frame_rate(write: Write, number_of: NumberOf, name: str) -> None:
    ticks = [0, 10, 20, 500, 510, 520, 1500, 1600]  # hundredths of a second
    path = write(name, len(ticks), ticks=ticks)
    assert probe(path).seconds == pytest.approx(16, abs=0.2)
    wanted = {0.05: 0, 0.25: 2, 4.9: 2, 5.05: 3, 9.0: 5, 14.99: 5, 15.01: 6, 15.9: 6, 16.0: 7}
    assert [number_of(frame) for frame in read_frames(path, list(wanted))] == list(wanted.values())


def test_one_time_twice_and_times_out_of_order(write: Write, number_of: NumberOf) -> None:
    path = write("a.mp4", 20)
    assert [number_of(frame) for frame in read_frames(path, [0.55, 0.55, 0.56])] == [5, 5, 5]
    with pytest.raises(ValueError, match="ascend"):
        read_frames(path, [1.0, 0.5])


def test_times_behind_the_end(write: Write, number_of: NumberOf) -> None:
    path = write("a.mp4", 20)
    assert [number_of(frame) for frame in read_frames(path, [1.95, 2.5])] == [19, 19]
    with pytest.raises(VideoError) as caught:
        read_frames(path, [1.0, 9.0])
    assert caught.value.reason == "truncated"


def test_large_pictures_are_reduced_and_keep_their_shape(tmp_path: Path) -> None:
    path = tmp_path / "portrait.mp4"
    write_video(path, [np.full((320, 180, 3), 200, np.uint8)] * 4, 2)
    info = probe(path)
    assert (info.width, info.height) == (180, 320)
    assert read_frames(path, [0.0], max_side=160).shape == (1, 160, 90, 3)
    assert read_frames(path, [0.0, 1.0], max_side=1000).shape == (2, 320, 180, 3)
    assert read_frames(path, [0.0], max_pixels=14400).shape == (1, 160, 90, 3)
    assert read_frames(path, [0.0], max_side=160, max_pixels=3600).shape == (1, 80, 45, 3)
    assert read_frames(path, [0.0], max_pixels=320 * 180).shape == (1, 320, 180, 3)


@pytest.mark.parametrize(
    ("size", "limits", "expected"),
    [
        ((1920, 1080), (768, 90_000), (400, 225)),  # exactly 16:9 and 90,000
        ((1920, 1080), (None, 250_000), (666, 375)),  # 666.67 x 375: down, never up
        ((640, 480), (None, 90_000), (346, 259)),
        ((300, 300), (768, 90_000), (300, 300)),
        ((1000, 400), (500, 90_000), (474, 189)),  # first 500 x 200, then by 0.9487
    ],
)
def test_reduction_never_ends_above_the_limit(
    size: tuple[int, int], limits: tuple[int | None, int], expected: tuple[int, int]
) -> None:
    assert reduced_size(*size, *limits) == expected
    assert reduced_size(*reversed(size), *limits) == expected[::-1]


def test_reduction_keeps_the_shape() -> None:
    rng = random.Random(0)
    for _ in range(500):
        width, height, most = rng.randint(16, 4000), rng.randint(16, 4000), rng.randint(256, 300_000)
        across, down = reduced_size(width, height, None, most)
        assert across * down <= max(most, 2 * max(across, down))
        assert abs(across - down * width / height) <= 1 + width / height, "each side is less than a pixel too short"
        if width * height <= most:
            assert (across, down) == (width, height)


@pytest.mark.parametrize(
    ("matrix", "corner"), [((0, 1, -1, 0), (0, -1)), ((-1, 0, 0, -1), (-1, -1)), ((0, -1, 1, 0), (-1, 0))]
)
def test_pictures_stand_upright(tmp_path: Path, matrix: tuple[int, ...], corner: tuple[int, int]) -> None:
    """Phones store the picture lying down with a matrix (a, b, c, d) that turns it: x' = a x + c y, y' = b x + d y."""
    picture = np.zeros((64, 128, 3), np.uint8)
    picture[:32, :32] = 255  # at the top left, as stored
    path = tmp_path / "phone.mp4"
    write_video(path, [picture] * 4, 2)
    data = bytearray(path.read_bytes())
    fields = data.index(b"tkhd") + 4 + 40  # behind version, flags, times, layer and volume
    a, b, c, d = (value << 16 for value in matrix)
    struct.pack_into(">9i", data, fields, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)

    info, frame = probe(path), read_frames(path, [0.5])[0]
    assert (info.height, info.width) == frame.shape[:2] == ((128, 64) if matrix[0] == 0 else (64, 128))
    rows, columns = np.nonzero(frame.mean(axis=2) > 128)
    assert (rows.mean() < frame.shape[0] / 2, columns.mean() < frame.shape[1] / 2) == (corner[0] == 0, corner[1] == 0)
