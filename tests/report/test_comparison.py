"""Slices, paired differences and what may be said of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tpo_plugin.errors import TPOError
from tpo_plugin.evaluation.bootstrap import Interval
from tpo_plugin.records import read_jsonl, write_json, write_jsonl
from tpo_plugin.report import comparison
from tpo_plugin.report.comparison import Evaluation, Score, Slice
from tpo_plugin.report.evaluation import findings, section, signed


def question(number: int, correct: int, **values: Any) -> dict[str, Any]:
    return {"task": "videomme", "id": str(number), "video": f"{number}.mp4", "correct": correct} | values


def write(folder: Path, answers: dict[str, list[dict[str, Any]]], **results: Any) -> Path:
    for label, rows in answers.items():
        write_jsonl(folder / label / "answers.jsonl", rows)
    models = {label: {"checkpoint": label, "tasks": {}} for label in answers}
    write_json(folder / "results.json", {"models": models} | results)
    return folder


def test_slices() -> None:
    rows = [
        question(0, 1, duration="long", kind="localized", category="Action"),
        question(1, 1, duration="short", kind="comprehensive", category="Action"),
        question(2, 0, task="mlvu_dev", duration=None, kind="localized", category="Action"),
    ]
    assert [(part.group, part.name, part.rows) for part in comparison.slices(rows)] == [
        ("All questions", "all", (0, 1, 2)),
        ("Benchmark", "mlvu_dev", (2,)),
        ("Benchmark", "videomme", (0, 1)),
        ("Video length", "short", (1,)),  # short before long; a question without a duration is in neither
        ("Video length", "long", (0,)),
        ("Kind of question", "comprehensive", (1,)),
        ("Kind of question", "localized", (0, 2)),
        ("Kind and video length", "comprehensive, short", (1,)),
        ("Kind and video length", "localized, long", (0,)),
        ("Category", "mlvu_dev: Action", (2,)),  # one name in two benchmarks is two categories
        ("Category", "videomme: Action", (0, 1)),
    ]


def test_questions_without_kind_and_duration_are_not_split_by_them() -> None:
    assert {part.group for part in comparison.slices([question(0, 1)])} == {"All questions", "Benchmark"}


def test_accuracy_and_difference_by_hand() -> None:
    # 20 videos with one question each: base right on the first 5, tpo on the first 15.
    answers = {name: [question(at, int(at < right)) for at in range(20)] for name, right in (("base", 5), ("tpo", 15))}
    base, tpo = comparison.compare(Evaluation(None, {}, answers), Slice("", "", tuple(range(20))))
    assert (base.accuracy.value, tpo.accuracy.value) == (5 / 20, 15 / 20)
    assert base.gain is None
    assert tpo.gain is not None
    assert tpo.gain.value == 10 / 20  # tpo minus base, not the other way round
    assert tpo.gain.low > 0
    assert tpo.reading == "higher"
    (part,) = comparison.compare(Evaluation(None, {}, {"base": answers["base"]}), Slice("", "", (0, 19)))
    assert part.accuracy.value == 1 / 2


@pytest.mark.parametrize(
    ("low", "high", "videos", "reading"),
    [
        (0.01, 0.2, 50, "higher"),
        (-0.2, -0.01, 50, "lower"),
        (-0.1, 0.1, 50, "no difference shown"),
        (0.0, 0.1, 50, "no difference shown"),
        (0.0, 0.0, 50, "no difference shown"),
        (0.01, 0.2, 9, "too few videos to tell (9)"),
    ],
)
def test_reading(low: float, high: float, videos: int, reading: str) -> None:
    score = Score("tpo", Interval(0.5, 0.4, 0.6, 100), Interval((low + high) / 2, low, high, 100), videos)
    assert score.reading == reading


def test_many_questions_on_one_video_are_too_few_videos() -> None:
    answers = {
        name: [question(at, right, video="one.mp4") for at in range(50)] for name, right in (("base", 0), ("tpo", 1))
    }
    _, tpo = comparison.compare(Evaluation(None, {}, answers), Slice("", "", tuple(range(50))))
    assert tpo.reading == "too few videos to tell (1)"


def test_answers_are_paired_by_question_not_by_line(tmp_path: Path) -> None:
    rows = [question(at, at % 2) for at in range(6)]
    loaded = comparison.load(write(tmp_path, {"base": rows, "tpo": rows[::-1]}))
    assert [row["id"] for row in loaded.answers["tpo"]] == [row["id"] for row in loaded.answers["base"]]


def test_findings_compare_every_two_models(evaluation: Path) -> None:
    loaded = comparison.load(evaluation)
    sentences = [str(sentence) for sentence in findings(loaded)]
    assert len(sentences) == 3
    right = {label: sum(row["correct"] for row in rows) for label, rows in loaded.answers.items()}
    for sentence, (model, other) in zip(sentences, [("sft_self", "base"), ("tpo", "base"), ("tpo", "sft_self")]):
        gain = 100 * (right[model] - right[other]) / 400
        numbers = f"{100 * right[model] / 400:.1f} % against {100 * right[other] / 400:.1f} % right, {gain:+.1f} points"
        assert numbers in sentence
    # The fixture's sft_self is 2.5 points above base on 400 questions, tpo 16.8: the first interval holds 0, the others do not.
    assert [sentence.rpartition(" 0.")[0].rpartition(" ")[2] for sentence in sentences] == [
        "includes",
        "excludes",
        "excludes",
    ]
    assert "No difference shown between <bdi>sft_self</bdi> and <bdi>base</bdi>" in sentences[0]
    assert "<bdi>tpo</bdi> scores higher than <bdi>base</bdi>" in sentences[1]


def test_numbers_in_words() -> None:
    assert [signed(share) for share in (0.051, -0.0302, 0.0, -0.0001)] == ["+5.1", "\u22123.0", "0.0", "0.0"]


def test_a_missing_question_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    rows = [question(at, 1) for at in range(4)]
    write(tmp_path, {"base": rows, "tpo": rows[:3]})
    with pytest.raises(TPOError, match=r"tpo.answers\.jsonl.*1 missing, 0 others; run `tpo evaluate`"):
        comparison.load(tmp_path)


def test_a_partial_file_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, {"base": [question(0, 1)]})
    results = json.loads((tmp_path / "results.json").read_text())
    results["models"]["base"]["tasks"] = {"videomme": {"score": 100.0, "n": 2, "metric": "m"}}
    write_json(tmp_path / "results.json", results)
    with pytest.raises(TPOError, match=r"holds 1 answers to videomme, results\.json counts 2"):
        comparison.load(tmp_path)


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([], "holds no answers"),
        ([{"task": "a", "id": "1"}], "record 1: needs `task`, `id` and `correct`"),
        ([question(1, 1), question(1, 0)], "record 2: question 1 of videomme is answered twice"),
    ],
)
def test_unusable_answers(tmp_path: Path, rows: list[dict[str, Any]], text: str) -> None:
    with pytest.raises(TPOError, match=text):
        comparison.load(write(tmp_path, {"base": rows}))


def test_the_table_holds_the_hand_counted_numbers(evaluation: Path) -> None:
    loaded = comparison.load(evaluation)
    html = section(loaded, {label: at for at, label in enumerate(loaded.models)})
    rows = list(read_jsonl(evaluation / "tpo" / "answers.jsonl"))
    long = [row["correct"] for row in rows if row["duration"] == "long"]
    assert f'<bdi>long</bdi></th><td rowspan="3" class="number">{len(long)}</td>' in html
    assert f"<strong>{100 * sum(long) / len(long):.1f}</strong>" in html
    assert "no difference shown" in html
