"""The tiny films in Vinoground's form: what lmms-eval's own task reads, and that its questions are true."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from tpo_plugin.evaluation.data import read_benchmark, vinoground_truth
from tpo_plugin.options import FrameOptions
from tpo_plugin.tiny import vinoground
from tpo_plugin.tiny.captions import described
from tpo_plugin.tiny.vinoground import film_pairs, write_vinoground
from tpo_plugin.tiny.vision import read_scenes
from tpo_plugin.video import probe, read_frames, sample_times


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("vinoground")
    (folder / "truth.json").write_text('{"videomme": {"a": {}}}')
    with pytest.MonkeyPatch.context() as patch:  # few films, asked about as often as there must be questions
        patch.setattr(vinoground, "GROUPS", {"2-4 scenes": ((2, 3, 4), 8), "12 scenes": ((12,), 492)})
        assert write_vinoground(folder, 3, per_film=25) == 1000
        assert write_vinoground(folder, 3, per_film=25) == 1000, "kept"
    return folder


def test_the_task_finds_its_questions_and_films(folder: Path) -> None:
    benchmark = read_benchmark(folder, "vinoground")
    assert benchmark is not None
    assert len(benchmark.rows) == 1000
    assert Counter(row["duration"] for row in benchmark.rows) == {"2-4 scenes": 16, "12 scenes": 984}
    assert {row["scenes"] for row in benchmark.rows[:16]} == {2, 3, 4}
    assert {row["scenes"] for row in benchmark.rows[16:]} == {12}
    assert json.loads((folder / "truth.json").read_text())["videomme"] == {"a": {}}, "what was there is kept"


def test_right_captions_are_in_the_films_order(folder: Path) -> None:
    truth = vinoground_truth(folder / "vinoground")
    pairs = defaultdict(dict)
    for item in truth.values():
        number, side = item["idx"].split("_")
        pairs[number][side] = item
    assert len(pairs) == 500
    letters = Counter()
    for number in ("0", "3", "7", "8", "300"):
        for item in pairs[number].values():
            film = folder / "vinoground" / item["video_name"]
            scenes = read_scenes(
                read_frames(film, sample_times([(0.0, probe(film).seconds)], FrameOptions(fps=0.5)), 96)
            )
            colours = [scene.colour for scene in scenes]
            right = next(line for line in item["question"].splitlines() if line.startswith(item["GT"]))
            first, second = (scene.colour for scene in described(right))
            assert colours.index(first) < colours.index(second)
    for pair in pairs.values():
        assert pair["pos"]["question"] == pair["neg"]["question"]
        assert {pair["pos"]["GT"], pair["neg"]["GT"]} == {"A", "B"}, "who always says one letter has no pair right"
        letters[pair["pos"]["GT"]] += 1
    assert 200 < letters["A"] < 300


def test_films_of_a_pair_have_the_same_scenes() -> None:
    for films in film_pairs((2, 3, 4, 6), 60, 0):
        assert set(films.pos) == set(films.neg)
        assert films.pos != films.neg
        for first, second in films.asked:
            assert films.pos.index(first) < films.pos.index(second)
            assert films.neg.index(first) > films.neg.index(second)
    assert sum(len(films.asked) for films in film_pairs((2, 3, 4, 6), 60, 0)) == 60
    assert list(film_pairs((3,), 5, 0)) != list(film_pairs((3,), 5, 1))
