from __future__ import annotations

import json
from collections import Counter

import pytest
from lmms_eval.tasks.mlvu import utils as mlvu
from lmms_eval.tasks.videomme import utils as videomme

from tpo_plugin.evaluation.data import read_benchmark
from tpo_plugin.options import FrameOptions
from tpo_plugin.tiny.benchmarks import MLVU_TYPES, VIDEOMME_TYPES, BenchmarkSizes, films, write_benchmarks
from tpo_plugin.tiny.questions import true_answer
from tpo_plugin.video import probe, read_frames, sample_times

SIZES = BenchmarkSizes(short=12, medium=4, long=4, mlvu=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmarks")
    assert write_benchmarks(folder, 7, SIZES) == {"videomme": 20, "mlvu_dev": 8}
    return folder


def test_rows_have_the_benchmarks_own_columns_and_names(folder):
    rows = read_benchmark(folder, "videomme").rows
    assert Counter(row["duration"] for row in rows) == {"short": 12, "medium": 4, "long": 4}
    assert {row["answer"] for row in rows} == set("ABCD")
    assert len({row["question_id"] for row in rows}) == 20
    for row in rows:
        assert row["domain"] in videomme.CATEGORIES
        assert row["sub_category"] in videomme.SUB_CATEGORIES
        assert [option[:3] for option in row["options"]] == ["A. ", "B. ", "C. ", "D. "]
        assert len(set(row["options"])) == 4
    assert set(VIDEOMME_TYPES.values()) <= set(videomme.TASK_CATEGORIES)


def test_no_letter_is_much_the_likeliest():
    films_of_a_seed = list(films("long", 800, 4, 3))
    letters = Counter(question.choices.index(question.answer) for film in films_of_a_seed for question in film.asked)
    assert max(letters.values()) < 0.4 * 800
    assert min(letters.values()) > 0.15 * 800


def test_a_perfect_model_scores_100_on_mlvu():
    """MLVU's score is a mean over seven task types, of which an absent one counts as 0."""
    logged = [
        mlvu.mlvu_process_results({"question": "?", "task_type": name, "answer": "B"}, ["B"])["mlvu_percetion_score"]
        for name in MLVU_TYPES.values()
    ]
    assert mlvu.mlvu_aggregate_results_dev(logged) == pytest.approx(100)


def test_answers_are_true(folder):
    truth = json.loads((folder / "truth.json").read_text())
    rows = {row["question_id"]: row for row in read_benchmark(folder, "videomme").rows}
    assert set(truth["videomme"]) == set(rows)
    for group, count in (("short", 12), ("medium", 4), ("long", 4)):
        for film in films(group, count, SIZES.per_video, 7):
            for number, question in enumerate(film.asked, 1):
                row = rows[f"{film.name}-{number}"]
                right = row["options"]["ABCD".index(row["answer"])][3:]
                assert right == true_answer(row["question"], film.scenes) == question.answer
                assert truth["videomme"][row["question_id"]]["scenes"] == len(film.scenes)
    assert {fact["scenes"] for fact in truth["videomme"].values()} == {1, 2, 3, 6, 12}
    assert Counter(fact["kind"] for fact in truth["mlvu_dev"].values()) == {"localized": 4, "comprehensive": 4}


def test_an_order_question_does_not_answer_itself():
    """Both colours that it names are among the options of all order questions."""
    seen = 0
    for film in films("long", 200, 4, 1):
        for question in film.asked:
            if question.form == "order":
                named = question.text.rstrip("?").split(", ")[1].split(" or ")
                assert set(named) <= set(question.choices)
                seen += 1
    assert seen > 10


@pytest.mark.parametrize(
    ("name", "seconds", "frames"), [("short-001", 8.0, 4), ("medium-000", 48.0, 24), ("long-000", 96.0, 48)]
)
def test_videos_show_their_scenes(folder, name, seconds, frames):
    path = folder / "videomme" / "data" / f"{name}.mp4"
    info = probe(path)
    assert (info.seconds, info.fps, info.width, info.height) == (seconds, 2.0, 96, 96)
    times = sample_times([(0.0, info.seconds)], FrameOptions(fps=0.5, max=96))
    assert len(times) == frames
    corners = read_frames(path, times)[:, :6, :6].reshape(frames, -1, 3).mean(axis=1)
    per_scene = frames // (2 if seconds == 8.0 else round(seconds / 8))
    for start in range(0, frames, per_scene):
        assert abs(corners[start : start + per_scene] - corners[start]).max() < 60


def test_the_seed_decides_everything(folder, tmp_path):
    write_benchmarks(tmp_path / "again", 7, SIZES)
    names = ["truth.json", "lmms-eval/Video-MME/test.parquet", "mlvu/mlvu-001.mp4", "videomme/data/short-002.mp4"]
    for name in names:
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()
    write_benchmarks(tmp_path / "other", 8, SIZES)
    for name in names[1:]:
        assert (tmp_path / "other" / name).read_bytes() != (folder / name).read_bytes()
