"""What the gallery shows of a pair."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tpo_plugin.records import Perturbation, PreferencePair, Query, Segment, Video
from tpo_plugin.report import curation as curation_part
from tpo_plugin.report import gallery
from tpo_plugin.video import write_video

RED, BLUE = (214, 40, 40), (35, 65, 200)


@pytest.fixture
def pair(tmp_path: Path) -> PreferencePair:
    """A pair about a video of 8 s that is red for 4 s, then blue."""
    frames = [np.full((32, 32, 3), RED if at < 16 else BLUE, np.uint8) for at in range(32)]
    write_video(tmp_path / "a b.mp4", frames, 4.0)
    return PreferencePair(
        "0",
        Video("v", "a b.mp4", 8.0, 4.0, 32, 32),
        Query("q", "localized", "object", "What is shown?", "red", Segment("s", 0.0, 2.0)),
        Perturbation("cut_segment", ((2.0, 8.0),)),
        "red",
        "blue",
        (0.5, 1.5),
        tuple(2.5 + at / 2 for at in range(11)),
        verdicts={"judge": "Yes / No / Yes"},
    )


def pictures(html: str) -> list[np.ndarray]:
    found = re.findall(r'src="data:image/webp;base64,([^"]+)"', html)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")) for data in found]


def test_each_side_shows_the_frames_that_it_saw(pair: PreferencePair, tmp_path: Path) -> None:
    html = str(gallery.card(pair, tmp_path))
    chosen, rejected = html.split('class="side rejected"')
    assert len(pictures(chosen)) == 2
    assert len(pictures(rejected)) == 8
    assert "saw 2 frames<" in chosen
    assert "saw 11 frames, 8 of them here" in rejected
    for picture in pictures(chosen):
        assert np.abs(picture.mean((0, 1)) - RED).max() < 12
    assert np.abs(pictures(rejected)[0].mean((0, 1)) - RED).max() < 12  # at 2.5 s
    assert np.abs(pictures(rejected)[-1].mean((0, 1)) - BLUE).max() < 12  # at 7.5 s


def test_the_timeline_follows_the_spans(pair: PreferencePair, tmp_path: Path) -> None:
    html = str(gallery.card(pair, tmp_path))
    # The segment is 0-2 s of 8 s: 0-25 %; the rejected side saw the rest; its first frame at 2.5 s: 31.25 %.
    assert "Chosen side saw 0.0 s to 2.0 s" in html
    assert '<rect x="0%" width="25%"' in html
    assert "Rejected side saw 2.0 s to 8.0 s" in html
    assert '<rect x="25%" width="75%"' in html
    assert 'x1="31.25%"' in html
    assert "cut segment, 75 % kept" in html


def test_words_of_the_pair_are_there(pair: PreferencePair, tmp_path: Path) -> None:
    html = str(gallery.card(replace(pair, drop="judge_not_better"), tmp_path))
    for words in ("What is shown?", "localized", "a b.mp4", "Yes / No / Yes", "judge_not_better", ">red<", ">blue<"):
        assert words in html


def test_a_missing_video_is_said_and_the_rest_is_shown(pair: PreferencePair, tmp_path: Path) -> None:
    html = str(gallery.card(replace(pair, video=replace(pair.video, path="gone.mp4")), tmp_path))
    assert html.count("Frames not shown: no such file.") == 2
    assert "What is shown?" in html
    assert str(tmp_path) not in html


def test_a_pair_without_times_and_answers(pair: PreferencePair, tmp_path: Path) -> None:
    html = str(gallery.card(replace(pair, chosen="", chosen_times=()), tmp_path))
    assert "(empty)" in html
    assert "frames not recorded" in html


def test_pictures_stay_below_their_weight_even_of_noise() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (160, 160, 3), dtype=np.uint8)
    address = gallery.data_uri(noise)
    assert len(base64.b64decode(address.partition(",")[2])) <= gallery.FRAME_BYTES


@pytest.mark.parametrize(("count", "expected"), [(3, [0, 5, 10]), (20, list(range(11)))])
def test_evenly(count: int, expected: list[int]) -> None:
    assert gallery.evenly(range(11), count) == expected


def test_one_dropped_pair_of_each_of_the_most_frequent_reasons(pair: PreferencePair) -> None:
    dropped = [replace(pair, id=str(at), drop=reason) for at, reason in enumerate("abbccc")]
    assert [item.id for item in gallery.one_of_each_reason(dropped, 2)] == ["3", "1"]


@pytest.mark.parametrize(
    ("time", "seconds", "text"),
    [(7.25, 60, "7.2 s"), (65, 300, "1:05"), (3725.9, 7200, "1:02:05")],
)
def test_moment(time: float, seconds: float, text: str) -> None:
    assert gallery.moment(time, seconds) == text


def test_kept_and_dropped_pairs_are_apart(curation: Path) -> None:
    loaded = curation_part.load(curation)
    html = str(gallery.section(loaded))
    before, after = html.split("<h3>Dropped ")
    assert before.count("<article") == 2 * gallery.KEPT_PER_KIND
    assert 'class="dropped"' not in before
    reasons = {item.drop for item in loaded.candidates if item.drop}
    assert after.count('class="dropped"') == after.count("<article") == len(reasons)
