"""Which frames `--tpo` takes from a video, and from a folder of pictures."""

from __future__ import annotations

from typing import Any

import pytest

from tpo_plugin.errors import TPOError, VideoError
from tpo_plugin.integrations.llava_family import frames


@pytest.mark.parametrize(
    ("total", "fps", "sampling", "expected"),
    [
        (10, 4.0, (1, 0), [0, 4, 8]),
        (10, 4.0, (1, 3), [0, 4, 8]),
        (10, 4.0, (1, 2), [0, 9]),
        (10, 3.5, (2, 0), [0, 2, 4, 6, 8]),  # round(1.75) = 2
        (5, 0.4, (1, 8), [0, 1, 2, 3, 4]),  # upstream: range() with step 0
        (10, 4.0, (1, 4, True), [0, 3, 6, 9]),
        (3, 1.0, (1, 5, True), [0, 0, 1, 1, 2]),  # 0, 0.5, 1, 1.5, 2 cut to whole numbers
    ],
)
def test_frame_indices(total: int, fps: float, sampling: tuple[Any, ...], expected: list[int]) -> None:
    assert frames.frame_indices(total, fps, frames.Sampling(*sampling)) == expected


def test_options_that_cannot_sample() -> None:
    with pytest.raises(TPOError, match="--video_fps must be above 0, it is 0"):
        frames.Sampling(0, 4)
    with pytest.raises(TPOError, match="set --frames_upbound"):
        frames.Sampling(1, 0, always=True)


def test_folder_of_frames(place: Any) -> None:
    from PIL import Image

    folder = place.folder / "frames"
    folder.mkdir()
    for index in range(19):
        Image.new("RGB", (4, 4), (index, 0, 0)).save(folder / f"{index:02}.png")
    clip = frames.read_clip(str(folder), place.reader, frames.Sampling(1, 4))
    assert [picture.getpixel((0, 0))[0] for picture in clip.frames] == list(range(0, 19, 2))  # 10 of 0..18
    assert (clip.seconds, clip.times[1]) == (9.5, 1.0)
    clip = frames.read_clip(str(folder), place.reader, frames.Sampling(1, 4, always=True))
    assert [picture.getpixel((0, 0))[0] for picture in clip.frames] == [0, 6, 12, 18]
    (folder / "00.png").write_bytes(b"x")
    with pytest.raises(VideoError, match="a frame cannot be read"):
        frames.read_clip(str(folder), place.reader, frames.Sampling(1, 4))
