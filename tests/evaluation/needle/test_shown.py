"""What is shown: needles from their files, frames of the haystack, and the place of the one in the other."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tpo_plugin.errors import EvaluationError, RecipeError, VideoError
from tpo_plugin.evaluation.needle.grid import Cell, cells, check_grid
from tpo_plugin.evaluation.needle.haystack import fitted, read_scenery
from tpo_plugin.evaluation.needle.needles import read_needles
from tpo_plugin.options import NeedleGrid
from tpo_plugin.video import write_video

RED, GREEN = (200, 0, 0), (0, 200, 0)


def picture(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (8, 4)) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path.read_bytes()


def video(path: Path, values: range, size: tuple[int, int] = (32, 16)) -> Path:
    """Two frames a second, each of one grey: the n-th has the value of 10 n."""
    write_video(path, (np.full((size[1], size[0], 3), 10 * value, np.uint8) for value in values), 2, crf=0)
    return path


def entries(key: tuple[str, str, str], **changes: Any) -> list[dict[str, Any]]:
    whole = dict(zip(key, ("a.png", "\nWhich colour?", "red")))
    return [{**whole, **changes}]


OWN, V_NIAH = ("image", "question", "answer"), ("path", "prompt", "answer")


@pytest.mark.parametrize(("file", "key", "place"), [("needles.json", OWN, "."), ("dataset.json", V_NIAH, "images")])
def test_needles_of_a_folder(tmp_path: Path, file: str, key: tuple[str, str, str], place: str) -> None:
    picture(tmp_path / place / "a.png", RED)
    (tmp_path / file).write_text(json.dumps(entries(key)))
    (needle,) = read_needles(tmp_path)
    assert (needle.name, needle.question, needle.answer) == ("a.png", "\nWhich colour?", "red")
    assert needle.picture.shape == (4, 8, 3)
    assert (needle.picture == RED).all()
    assert read_needles(tmp_path / file)[0].id == needle.id


def test_needles_of_a_data_set(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    content = picture(tmp_path / "there" / "a.png", GREEN)
    rows = [{"image": {"bytes": content, "path": None}, "question": "Which?", "answer": "green"}]
    (tmp_path / "data").mkdir()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "data" / "test-00000.parquet")
    (needle,) = read_needles(tmp_path)
    assert (needle.picture == GREEN).all()
    (tmp_path / "needles.jsonl").write_text(
        json.dumps({"image": "there/a.png", "question": "Which?", "answer": "green"})
    )
    assert read_needles(tmp_path)[0].id == needle.id, "a list goes before a data set; the picture's bytes make the id"


def test_a_picture_stands_upright(tmp_path: Path) -> None:
    image, exif = Image.new("RGB", (8, 4), RED), Image.Exif()
    exif[0x0112] = 6  # lies on its side
    buffer = io.BytesIO()
    image.save(buffer, "jpeg", exif=exif)
    (tmp_path / "a.png").write_bytes(buffer.getvalue())
    (tmp_path / "needles.json").write_text(json.dumps(entries(OWN)))
    assert read_needles(tmp_path)[0].picture.shape == (8, 4, 3)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"answer": ""}, "needle 1 has no answer"),
        ({"answer": 200}, "needle 1 has no answer"),
        ({"question": None}, r"no question \(a text under question or prompt\)"),
        ({"image": "b.png"}, r"needle 1: no picture b\.png in .* or its folder images"),
        ({"image": None}, "has no picture"),
        ({"image": "needles.json"}, "not a picture that can be read"),
    ],
)
def test_a_needle_that_cannot_be_used_is_named(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    picture(tmp_path / "a.png", RED)
    (tmp_path / "needles.json").write_text(json.dumps(entries(OWN, **change)))
    with pytest.raises(EvaluationError, match=problem):
        read_needles(tmp_path)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[]", "holds no needles"),
        ("{}", "must hold a list"),
        ("[1]", "not an object"),
        ("[", "is not JSON"),
        (None, "none of"),
    ],
)
def test_a_file_without_needles(tmp_path: Path, text: str | None, problem: str) -> None:
    if text is not None:
        (tmp_path / "needles.json").write_text(text)
    with pytest.raises(EvaluationError, match=problem):
        read_needles(tmp_path)
    with pytest.raises(EvaluationError, match="no such file or folder"):
        read_needles(tmp_path / "elsewhere")


def test_the_place_of_a_needle() -> None:
    assert Cell(10, 0.0).order("x") == ("x", *range(10))
    assert Cell(10, 1.0).order("x") == (*range(10), "x")
    assert Cell(10, 0.55).order("x") == (0, 1, 2, 3, 4, "x", 5, 6, 7, 8, 9), "int(depth * frames), as V-NIAH"
    assert Cell(100, 0.29).position() == 29, "0.29 * 100 is 28.999999999999996"
    assert Cell(10, 0.55).order("x", 2) == (0, 1, 2, 3, "x", "x", 4, 5, 6, 7, 8, 9), "a whole pair"


def grid(**changes: Any) -> NeedleGrid:
    return NeedleGrid(**{"needles": "n", "haystack": "h.mp4", "frames": [4], **changes})


def test_cells_are_each_once_and_short_ones_first() -> None:
    asked = cells(grid(frames=[8, 4, 8], depths=[1, 0, 0.5, 0.0]))
    assert asked == [Cell(frames, depth) for frames in (4, 8) for depth in (0.0, 0.5, 1.0)]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"frames": []}, "at least one number in `frames`"),
        ({"frames": [0]}, "`frames` must be 1 or more"),
        ({"depths": [1.2]}, "shares of the haystack from 0 to 1"),
        ({"haystack": []}, "neither may be empty"),
        ({"bars": [0, 256, 0]}, "three numbers from 0 to 255"),
        ({"fps": 0.0}, "`fps` must be over 0"),
        ({"needle_frames": 0}, "`needle_frames` must be 1 or more"),
        ({"max_pixels": 100}, "`max_pixels` must be 256 or more"),
    ],
)
def test_a_grid_that_cannot_be_shown(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(RecipeError, match=problem):
        check_grid(grid(**change))


@pytest.fixture
def needle_of(tmp_path: Path) -> Callable[..., Any]:
    """A function that reads a needle of this colour and size."""

    def make(colour: tuple[int, int, int], size: tuple[int, int]) -> Any:
        picture(tmp_path / "pictures" / "a.png", colour, size)
        (tmp_path / "pictures" / "needles.json").write_text(json.dumps(entries(OWN)))
        return read_needles(tmp_path / "pictures")

    return make


def greys(frames: np.ndarray) -> list[int]:
    return [round(float(frame.mean()) / 10) for frame in frames]


def test_videos_are_joined_at_one_rate_and_size(tmp_path: Path, needle_of: Callable[..., Any]) -> None:
    for name, values, size in (
        ("b", range(0, 6), (32, 16)),
        ("a", range(10, 14), (16, 16)),
        ("c", range(20, 22), (64, 16)),
    ):
        video(tmp_path / f"{name}.mp4", values, size)
    needles = needle_of(RED, (16, 16))
    one = read_scenery(grid(haystack=["b.mp4", "a.mp4"], frames=[3, 5]), needles, tmp_path)
    assert greys(one.haystack[:3]) == [0, 2, 4], "one frame a second, from the first on"
    assert one.size == (32, 16)
    assert one.sources == [(str(tmp_path / "b.mp4"), 3), (str(tmp_path / "a.mp4"), 2)]
    assert (one.haystack[3][:, :8] == 0).all(), "a narrower video stands between bars"
    assert abs(int(one.haystack[3][8, 16, 0]) - 100) < 4
    folder = read_scenery(grid(haystack=".", frames=[6], fps=2.0, fit="resize"), needles, tmp_path)
    assert [name[-5] for name, _ in folder.sources] == ["a", "b"], "by name, and no more than is needed"
    assert greys(folder.haystack) == [10, 11, 12, 13, 0, 1]
    assert one.digest(3) != one.digest(4)
    same = read_scenery(grid(haystack="b.mp4", frames=[3]), needles, tmp_path)
    assert same.digest(3) == one.digest(3), "the digest is of the frames shown, not of the files"


def test_a_haystack_is_reduced_to_its_limit(tmp_path: Path, needle_of: Callable[..., Any]) -> None:
    video(tmp_path / "h.mp4", range(10, 18), (64, 32))
    needles = needle_of(RED, (16, 16))

    def shown(**changes: Any) -> Any:
        return read_scenery(grid(**changes), needles, tmp_path)

    whole, limited, square = shown(), shown(max_pixels=512), shown(max_pixels=400, fit="square")
    assert (limited.size, limited.max_pixels) == ((32, 16), 512)
    assert square.size == (20, 20), "with its bars it has 400 pixels"
    loose = shown(max_pixels=4096)
    assert (loose.haystack == whole.haystack).all()
    assert loose.digest(4) != whole.digest(4), "a processor that resizes by itself may show them otherwise"


def test_a_needle_gets_the_haystacks_size(tmp_path: Path, needle_of: Callable[..., Any]) -> None:
    video(tmp_path / "h.mp4", range(10, 18), (32, 16))
    needles = needle_of(RED, (16, 16))

    def shown(**changes: Any) -> tuple[np.ndarray, np.ndarray]:
        scenery = read_scenery(grid(**changes), needles, tmp_path)
        order = scenery.pictures(Cell(4, 0.5).order(needles[0].id))
        assert len(order) == 5
        return order[2], scenery.haystack

    boxed, _ = shown(bars=[0, 0, 9])
    assert boxed.shape == (16, 32, 3)
    assert (boxed[:, 8:24] == RED).all()
    assert (boxed[:, :8] == (0, 0, 9)).all()
    stretched, _ = shown(fit="resize")
    assert (stretched == RED).all()
    square, haystack = shown(fit="square", bars=[1, 2, 3])
    assert haystack.shape[1:] == square.shape == (32, 32, 3)
    assert (square == RED).all()
    assert (haystack[:, :8] == (1, 2, 3)).all()
    assert abs(int(haystack[0, 16, 16, 0]) - 100) < 4
    wide = fitted(np.full((2, 100, 3), 7, np.uint8), (10, 10), "letterbox", (0, 0, 0))
    assert (wide == 7).any(axis=2).sum() == 10, "one line is left of a very flat picture"


def test_a_haystack_that_does_not_do(tmp_path: Path, needle_of: Callable[..., Any]) -> None:
    video(tmp_path / "h.mp4", range(8))
    needles = needle_of(RED, (16, 16))
    for haystack, problem in (
        ("h.mp4", "the haystack has 4 frames at 1 a second, 5 are wanted"),
        ("no.mp4", "no video or folder"),
        ("pictures", "holds no video"),
    ):
        with pytest.raises(EvaluationError, match=problem):
            read_scenery(grid(haystack=haystack, frames=[5]), needles, tmp_path)
    (tmp_path / "broken.mp4").write_bytes((tmp_path / "h.mp4").read_bytes()[:300])
    with pytest.raises(VideoError, match=r"broken\.mp4"):
        read_scenery(grid(haystack="broken.mp4", frames=[1]), needles, tmp_path)
