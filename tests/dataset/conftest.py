"""A small data set that the tests of this folder share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tpo_plugin.dataset.pairs import Row, row_of, to_llava
from tpo_plugin.records import Perturbation, PreferencePair, Query, Segment, Video, write_json

TRICKY = 'Was sagt «sie» 当\n"quoted", it\'s\ttabbed \\ back?'


@pytest.fixture
def example_pairs() -> list[PreferencePair]:
    """Three pairs of two videos, 40 s and 200 s long; texts with quotes, line breaks and other scripts."""
    short = Video("v1", "folder/a b.mp4", 40.0, 25.0, 64, 48)
    long = Video("v2", "né/日本.mp4", 200.0, 25.0, 64, 48)
    cut = Perturbation("cut_segment", ((0.0, 5.0), (9.0, 40.0)))
    drop = Perturbation("drop", ((0.0, 50.0), (100.0, 150.0)), 2.0)
    segment = Segment("s1", 5.0, 9.0)
    return [
        PreferencePair("p1", short, Query("q1", "localized", "object", TRICKY, "a cup", segment), cut,
                       "A red cup\nstands there.", "Nothing.", (5.5, 8.5), (2.0, 20.0), "captions", "tiny", 7,
                       {"judge": "Yes / No / Yes"}),
        PreferencePair("p2", short, Query("q2", "localized", "spatial", "Where?", "left", segment), cut,
                       "On the left side.", "On the right.", generator="tiny", seed=7),
        PreferencePair("p3", long, Query("q3", "comprehensive", "object", "What first?", "b"), drop,
                       '{"b": 1}', "c", generator="tiny", seed=7, verdicts={"length": "fine"}),
    ]  # fmt: skip


@pytest.fixture
def example_rows(example_pairs: list[PreferencePair]) -> list[Row]:
    """The pairs as rows."""
    return [row_of(pair) for pair in example_pairs]


@pytest.fixture
def curated(tmp_path: Path, example_rows: list[Row]) -> Path:
    """A curation output of these rows, with its videos' root beside it; the second video is missing."""
    folder = tmp_path / "curated"
    write_json(folder / "pairs.json", [to_llava(row) for row in example_rows])
    write_json(folder / "dataset.json", {"video_root": "../videos", "pairs": "pairs.json"})
    video = tmp_path / "videos" / "folder" / "a b.mp4"
    video.parent.mkdir(parents=True)
    video.write_bytes(b"any file will do: nothing is decoded here")
    return folder
