"""Groups, lists and keyframes: alike is one place, videos that repeat themselves go, sharp frames stand for a shot."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    SiglipImageProcessor,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from tpo_plugin.curation.keyframes import keyframes, sharpness
from tpo_plugin.curation.shot_groups import (
    GROUP_REASONS,
    ShotList,
    choose_groups,
    cosines,
    group,
    look,
    merge_neighbours,
)
from tpo_plugin.curation.shots import SHOT_REASONS, Scan, Shot
from tpo_plugin.errors import TPOError, VideoError
from tpo_plugin.integrations.vision_encoder import load_encoder
from tpo_plugin.options import ShotOptions
from tpo_plugin.tiny.world import Scene, duration, frames_at
from tpo_plugin.video import write_video

WIDTHS = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
TOWER = {**WIDTHS, "image_size": 32, "patch_size": 8}
TEXT = {**WIDTHS, "vocab_size": 64}
SIZE = {"height": 32, "width": 32}


def list_shots(path: Path, options: ShotOptions, encode: Callable[[np.ndarray], np.ndarray]) -> ShotList:
    seen = look(path, options)
    return choose_groups(seen.scan, seen.shots, encode(seen.middles), options)


def scan(spans: list[tuple[float, float]], fps: float = 10) -> Scan:
    """A scan of shots that are all alike sharp."""
    times = np.arange(0, spans[-1][1], 1 / fps)
    levels = np.full(len(times), 200, np.uint8)
    return Scan(tuple(Shot(*span) for span in spans), times, levels // 8, levels, np.ones(len(times)), {})


def listed(labels: list[int], **options: Any) -> ShotList:
    """The list of a video whose shots of a second show these things."""
    video = scan([(float(index), index + 1.0) for index in range(len(labels))])
    return choose_groups(video, video.shots, np.eye(max(labels) + 1)[labels], ShotOptions(**options))


def reason(labels: list[int], **options: Any) -> str:
    with pytest.raises(VideoError) as caught:
        listed(labels, **options)
    return caught.value.reason


def test_grouping_by_hand() -> None:
    def at(*degrees: float) -> np.ndarray:
        return np.array([[np.cos(np.radians(angle)), np.sin(np.radians(angle))] for angle in degrees]) * 7

    # Cosine 0.8 is 36.9 degrees.
    assert group(at(0, 90, 0, 90), 0.8) == (0, 1, 0, 1)
    assert group(at(0, 36), 0.8) == (0, 0)
    assert group(at(0, 38), 0.8) == (0, 1)
    # 0-30 has 0.866; then 30-66 has 0.809 but the merged group only (0.407 + 0.809) / 2.
    assert group(at(0, 30, 66), 0.8) == (0, 0, 1)
    assert group(at(66, 30, 0), 0.6) == (0, 0, 0)
    assert group(at(5), 0.8) == (0,)
    assert group(np.zeros((2, 3)), 0.8) == (0, 1), "features without a direction are like nothing"


@pytest.mark.parametrize("seed", range(20))
def test_grouping_is_scipys_weighted_linkage(seed: int) -> None:
    hierarchy = pytest.importorskip("scipy.cluster.hierarchy", reason="scipy is not installed")
    rng = np.random.default_rng(seed)
    count = int(rng.integers(2, 33))
    features = rng.normal(size=(count, 3))
    distances = (1 - cosines(features))[np.triu_indices(count, 1)]
    tree = hierarchy.fcluster(hierarchy.linkage(distances, "weighted"), 1 - 0.8, "distance").tolist()
    numbers: dict[int, int] = {}
    assert group(features, 0.8) == tuple(numbers.setdefault(label, len(numbers)) for label in tree)


def test_neighbours_of_one_group_are_one_place() -> None:
    assert merge_neighbours([0, 0, 1, 0, 2, 2]) == [(0, [0, 1]), (1, [2]), (0, [3]), (2, [4, 5])]
    made = listed([0, 1, 1, 2, 0, 3, 4, 4, 5])
    assert made.groups == (0, 1, 2, 0, 3, 4, 5)
    assert [shot.span for shot in made.shots][:3] == [(0, 1), (1, 3), (3, 4)]
    assert len(made) == len(made.keyframes) == len(made.similarity) == 7
    assert made.similarity[0, 3] == pytest.approx(1)
    assert made.similarity[0, 1] == pytest.approx(0)


def test_each_rule_has_its_reason() -> None:
    assert reason([0, 0, 0, 1, 1, 2, 2, 2]) == "too_few_groups"
    assert reason([0, 1, 2, 3, 4], max_groups=4) == "too_many_groups"
    assert reason([0, 1, 0, 2, 3]) == "recurring_group"
    assert len(listed([0, 1, 0, 2, 3, 4])) == 6, "two of six places are a third, not more"
    long = [0, 1, 2, 3, 0, 4, 5, 6, 0, 7, 8, 9, 0, 10, 11, 12]
    assert reason(long) == "recurring_group", "four times is too often in a list of any length"
    assert len(listed(long[:-4])) == 12
    assert len(listed(long, max_recurrence=4)) == 16
    with pytest.raises(
        VideoError, match=r"at 2 of 5 places; shots\.max_recurrence is 3, shots\.max_recurrence_share 0\.33"
    ):
        listed([0, 1, 0, 2, 3])


def test_a_third_is_exact() -> None:
    """The share as a floating-point number decides like the paper's n / 3 for every length."""
    share = ShotOptions().max_recurrence_share
    assert all((many > share * count) == (3 * many > count) for count in range(1, 200) for many in range(count + 1))


def test_sharpness_falls_with_blur() -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64), dtype=np.uint8))
    levels = [sharpness(np.asarray(picture.filter(ImageFilter.GaussianBlur(radius)))) for radius in (0, 1, 2, 4)]
    assert levels == sorted(levels, reverse=True)
    assert levels[-1] > 0
    assert sharpness(np.full((48, 64), 90, np.uint8)) == 0
    assert sharpness(np.zeros((2, 64), np.uint8)) == 0
    # One white point: 4 x 255 at it and 255 at each of its four neighbours, over 3 x 3 inner pixels.
    point = np.zeros((5, 5), np.uint8)
    point[2, 2] = 255
    assert sharpness(point) == pytest.approx(8 * 255 / 9)


def test_keyframes_by_hand() -> None:
    times, even = np.arange(0, 9, 0.5), np.ones(18)
    assert keyframes(times, even, 0.0, 9.0, 2) == (3.0, 6.0)
    assert keyframes(times, even, 3.0, 9.0, 1) == (6.0,)
    # Windows are 3 s wide. At 4.0 the weight is cos(pi / 3) = 0.5: over twice as sharp wins, less does not.
    for level, chosen in ((2.1, 4.0), (1.9, 3.0)):
        sharp = even.copy()
        sharp[8] = level
        assert keyframes(times, sharp, 0.0, 9.0, 2) == (chosen, 6.0)
    sharp = even.copy()
    sharp[0] = 1000  # outside of both windows
    assert keyframes(times, sharp, 0.0, 9.0, 2) == (3.0, 6.0)
    assert keyframes(times, np.zeros(18), 0.1, 9.1, 2) == (3.0, 6.0), "the frame that is shown at the anchor"
    assert keyframes(np.array([0.0]), np.ones(1), 0.0, 0.04, 2) == (0.0, 0.0)


def test_keyframes_of_any_shot() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        times = np.cumsum(rng.uniform(0.01, 0.4, 200))  # an uneven frame rate
        start, end = (times[index] for index in sorted(rng.choice(200, 2, replace=False)))
        count = int(rng.integers(1, 5))
        chosen = keyframes(times, rng.uniform(0, 5, 200), start, end, count)
        assert len(chosen) == count
        assert set(chosen) <= set(times)
        assert all(start <= time < end for time in chosen)
        assert all(one <= other for one, other in pairwise(chosen))
        width = (end - start) / (count + 1)
        for number, time in enumerate(chosen, 1):
            assert abs(time - (start + number * width)) <= max(width / 2, 0.4)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_keyframes_never_lie_in_what_was_removed(count: int) -> None:
    """Two shots of one place with a flash between them, of all frames the sharpest and at the middle."""
    video = scan([(0.0, 1.0), (1.0, 1.2), (1.2, 2.2), (2.2, 3.2)], fps=20)
    video.sharpness[video.frames_of(video.shots[1])] = 1000
    used = [shot for shot in video.shots if shot.start != 1.0]
    made = choose_groups(
        video, used, np.eye(2)[[0, 0, 1]], ShotOptions(min_groups=2, keyframes=count, max_recurrence_share=1)
    )
    assert [shot.span for shot in made.shots] == [(0.0, 2.2), (2.2, 3.2)]
    assert len(made.keyframes[0]) == count
    assert not [time for time in made.keyframes[0] if 1.0 <= time < 1.2]
    # The two shots last 2 s together; what is shown after their first second comes 0.2 s later.
    places = [2 * number / (count + 1) for number in range(1, count + 1)]
    assert made.keyframes[0] == pytest.approx([place + 0.2 * (place >= 1) for place in places], abs=0.051)


def test_a_place_may_be_longer_than_a_shot() -> None:
    video = scan([(0.0, 9.0), (9.0, 18.0), (18.0, 19.0)])
    made = choose_groups(video, video.shots, np.eye(2)[[0, 0, 1]], ShotOptions(min_groups=2, max_recurrence_share=1))
    assert made.shots[0].span == (0.0, 18.0)
    assert made.keyframes[0] == (6.0, 12.0)


def test_a_list_comes_back_from_the_journal() -> None:
    made = listed([0, 1, 1, 2, 0, 3, 4, 4, 5])
    back = ShotList.from_plain(json.loads(json.dumps(made.plain())))
    assert (back.shots, back.groups, back.keyframes) == (made.shots, made.groups, made.keyframes)
    np.testing.assert_allclose(back.similarity, made.similarity, atol=5e-5)


def make_film(path: Path, scenes: list[Scene], fps: float = 8) -> Path:
    times = [index / fps for index in range(round(duration(scenes) * fps))]
    write_video(path, frames_at(scenes, times, 64), fps)
    return path


def test_from_the_film_to_the_list(tmp_path: Path, siglip: str) -> None:
    """Seven scenes, of which the first comes again: the right cuts, the right groups, two keyframes in each."""
    pytest.importorskip("scenedetect", reason="PySceneDetect is not installed (pip install 'tpo-plugin[temple]')")
    looks = [("red", "circle"), ("blue", "square"), ("white", "cross"), ("red", "circle"), ("green", "cross")]
    looks += [("black", "square"), ("yellow", "triangle")]
    scenes = [Scene(colour, shape, "left", 2.0) for colour, shape in looks]
    options = ShotOptions(encoder=siglip, similarity=0.99)  # random weights see all pictures as rather alike
    made = list_shots(make_film(tmp_path / "film.mp4", scenes), options, load_encoder(options))
    assert [shot.span for shot in made.shots] == [pytest.approx((2.0 * i, 2.0 * i + 2)) for i in range(7)]
    assert made.groups == (0, 1, 2, 0, 3, 4, 5)
    assert made.similarity[0, 3] > 0.99 > made.similarity[0, 1]
    for shot, times in zip(made.shots, made.keyframes):
        assert all(abs(time - shot.start - place) <= 1 / 3 for time, place in zip(times, (2 / 3, 4 / 3)))


def test_the_funnel_counts_each_video_once(tmp_path: Path, siglip: str) -> None:
    """A video for each rule has that rule's reason: after the shots' rules 3 of 6 are left, after the groups' 1."""
    pytest.importorskip("scenedetect", reason="PySceneDetect is not installed (pip install 'tpo-plugin[temple]')")
    options = ShotOptions(encoder=siglip, similarity=0.99, max_shots=8, max_seconds=3)
    names = ["red", "blue", "white", "green", "black", "yellow", "orange", "purple", "brown"]

    def scenes(colours: list[str], seconds: float = 1.0) -> list[Scene]:
        return [Scene(colour, "square", "left", seconds) for colour in colours]

    [red], [flash] = scenes(["red"]), scenes(["white"], 0.125)
    films = {
        "too_few_shots": scenes(names[:3]),
        "too_many_shots": scenes(names),
        "long_shot": scenes(names[:4], 4.0),
        "too_few_groups": [red, flash, red, flash, red, *scenes(["blue"])],
        "recurring_group": scenes(["red", "blue", "red", "white", "green"]),
        "kept": scenes(names[:5]),
    }
    encode = load_encoder(options)

    def outcome(path: Path) -> str:
        try:
            list_shots(path, options, encode)
        except VideoError as error:
            return error.reason
        return "kept"

    outcomes = {name: outcome(make_film(tmp_path / f"{name}.mp4", film)) for name, film in films.items()}
    assert outcomes == {name: name for name in films}
    assert not set(SHOT_REASONS) & set(GROUP_REASONS)
    assert {*SHOT_REASONS, *GROUP_REASONS} - {"too_many_groups"} == films.keys() - {"kept"}


def test_encoders(tmp_path: Path, siglip: str) -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (5, 40, 60, 3), dtype=np.uint8)
    pictures[3] = pictures[1]
    CLIPModel(CLIPConfig(text_config=TEXT, vision_config=TOWER, projection_dim=24)).save_pretrained(tmp_path / "clip")
    small = {key: value for key, value in TOWER.items() if key != "intermediate_size"}
    Dinov2Model(Dinov2Config(**small)).save_pretrained(tmp_path / "dinov2")
    for name in ("clip", "dinov2"):
        CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=SIZE).save_pretrained(tmp_path / name)
    for folder, width in ((siglip, 32), (str(tmp_path / "clip"), 24), (str(tmp_path / "dinov2"), 32)):
        features = load_encoder(ShotOptions(encoder=folder))(pictures)
        assert features.shape == (5, width)
        alike = cosines(features)
        assert alike[1, 3] == pytest.approx(1, abs=1e-6)
        assert alike[0, 1] < 1 - 1e-6
        few = load_encoder(ShotOptions(encoder=folder, batch_size=2))(pictures)
        np.testing.assert_allclose(few, features, atol=1e-5)


def test_no_encoder(tmp_path: Path) -> None:
    for name, says in ((str(tmp_path / "none"), "no checkpoint folder"), ("nobody/nothing", "shots.encoder")):
        with pytest.raises(TPOError, match=says):
            load_encoder(ShotOptions(encoder=name))
    SiglipVisionModel(SiglipVisionConfig(**TOWER, vision_use_head=False)).save_pretrained(tmp_path / "headless")
    SiglipImageProcessor(size=SIZE).save_pretrained(tmp_path / "headless")
    with pytest.raises(TPOError, match="no pooled output"):
        load_encoder(ShotOptions(encoder=str(tmp_path / "headless")))(np.zeros((1, 32, 32, 3), np.uint8))


def test_similarity_of_a_list_ignores_the_features_length() -> None:
    rng = random.Random(0)
    features = np.eye(5) * [[rng.uniform(1, 9)] for _ in range(5)]
    video = scan([(float(index), index + 1.0) for index in range(5)])
    made = choose_groups(video, video.shots, features, ShotOptions())
    np.testing.assert_allclose(made.similarity, np.eye(5), atol=1e-12)
