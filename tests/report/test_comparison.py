"""Slices, paired differences and what may be said of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tpo_plugin.errors import TPOError
from tpo_plugin.evaluation.bootstrap import Interval
from tpo_plugin.records import write_json
from tpo_plugin.report import comparison
from tpo_plugin.report.answers import Model, Question, combine, load, load_all
from tpo_plugin.report.comparison import Comparison, Score, Slice, match
from tpo_plugin.report.evaluation import harness, probability, section, signed
from tpo_plugin.report.findings import findings, outcomes
from tpo_plugin.report.mcnemar import Discordance

Writer = Callable[..., Path]


def question(number: int, task: str = "videomme", **values: Any) -> Question:
    return Question(task, str(number), f"{number}.mp4", "A", **values)


def row(number: int, **values: Any) -> dict[str, Any]:
    return {"task": "videomme", "id": str(number), "video": f"{number}.mp4", "answer": "A", "question": "?"} | values


def compared(answers: dict[str, list[int]], questions: list[Question] | None = None) -> Comparison:
    count = len(next(iter(answers.values())))
    return Comparison(questions or [question(at) for at in range(count)], answers, [])


def test_slices() -> None:
    rows = [
        question(0, duration="long", kind="localized", categories=("Action",)),
        question(1, duration="short", kind="comprehensive", categories=("Temporal Reasoning",)),
        question(2, "mlvu_dev", kind="localized", categories=("Action",)),
    ]
    assert [(part.group, part.name, part.rows) for part in comparison.slices(rows)] == [
        ("All questions", "all", (0, 1, 2)),
        ("Benchmark", "mlvu_dev", (2,)),
        ("Benchmark", "videomme", (0, 1)),
        ("Video length", "short", (1,)),  # short before long; a question without a duration is in neither
        ("Video length", "long", (0,)),
        ("Temporal questions", "videomme: Temporal Reasoning", (1,)),
        ("Kind of question", "comprehensive", (1,)),
        ("Kind of question", "localized", (0, 2)),
        ("Kind and video length", "comprehensive, short", (1,)),
        ("Kind and video length", "localized, long", (0,)),
        ("Category", "mlvu_dev: Action", (2,)),  # one name in two benchmarks is two categories
        ("Category", "videomme: Action", (0,)),
        ("Category", "videomme: Temporal Reasoning", (1,)),
    ]


def test_questions_without_kind_and_duration_are_not_split_by_them() -> None:
    assert {part.group for part in comparison.slices([question(0)])} == {"All questions", "Benchmark"}


def test_accuracy_and_difference_by_hand() -> None:
    # 20 videos with one question each: base right on the first 5, tpo on the first 15.
    answers = {name: [int(at < right) for at in range(20)] for name, right in (("base", 5), ("tpo", 15))}
    base, tpo = comparison.compare(compared(answers), Slice("", "", tuple(range(20))))
    assert (base.accuracy.value, tpo.accuracy.value) == (5 / 20, 15 / 20)
    assert base.gain is None
    assert tpo.gain is not None
    assert tpo.gain.value == 10 / 20  # tpo minus base, not the other way round
    assert tpo.gain.low > 0
    assert tpo.changed is not None
    assert (tpo.changed.gained, tpo.changed.lost) == (10, 0)
    assert tpo.changed.p == 2 / 2**10
    assert tpo.reading == "higher"
    base, tpo = comparison.compare(compared(answers), Slice("", "", tuple(range(20))), reference="tpo")
    assert base.gain is not None
    assert (base.gain.value, tpo.gain) == (-10 / 20, None)
    (part,) = comparison.compare(compared({"base": answers["base"]}), Slice("", "", (0, 19)))
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
    gain = Interval((low + high) / 2, low, high, 100)
    score = Score("tpo", Interval(0.5, 0.4, 0.6, 100), gain, Discordance(9, 7), videos)
    assert score.reading == reading


def test_many_questions_on_one_video_are_too_few_videos() -> None:
    asked = [Question("videomme", str(at), "one.mp4", "A") for at in range(50)]
    _, tpo = comparison.compare(compared({"base": [0] * 50, "tpo": [1] * 50}, asked), Slice("", "", tuple(range(50))))
    assert tpo.reading == "too few videos to tell (1)"


def test_answers_are_paired_by_question_not_by_line(tmp_path: Path, write_answers: Writer) -> None:
    rows = [row(at) for at in range(6)]
    folder = write_answers(tmp_path, {"base": (rows, [0, 1] * 3), "tpo": (rows[::-1], [1, 0] * 3)})
    found = match(combine([load("", folder)]))
    assert found.correct["tpo"] == found.correct["base"] == [0, 1] * 3
    assert found.left_out == []


def test_only_what_all_answered_is_compared_and_the_rest_is_named(tmp_path: Path, write_answers: Writer) -> None:
    """Of six questions one is missing from tpo, one has another right answer, one another wording."""
    rows = [row(at) for at in range(6)]
    changed = [*rows[1:4], rows[4] | {"answer": "B"}, rows[5] | {"question": "!"}]
    folder = write_answers(tmp_path, {"base": (rows, [1] * 6), "tpo": (changed, [0] * 5)})
    found = match(combine([load("", folder)]))
    assert [one.id for one in found.questions] == ["1", "2", "3"]
    assert found.left_out == [
        "videomme: 3 of 6 questions are compared; tpo lacks 1 and 2 differ in wording, video or right answer between the models."
    ]


def test_a_prompt_variant_is_compared_with_the_benchmark(tmp_path: Path, write_answers: Writer) -> None:
    """A base on `videomme` beside a model on its variant; a model that ran both stands there with the benchmark itself."""
    variant = "videomme_prompt_llava_vid"
    own, other = [row(at) for at in range(3)], [row(at, task=variant) for at in range(3)]
    one = write_answers(tmp_path / "one", {"base": (own, [1, 0, 0]), "tpo": (other, [1, 1, 0])})
    found = match(combine(load_all({"": one})))
    assert (found.correct, found.left_out) == ({"base": [1, 0, 0], "tpo": [1, 1, 0]}, [])
    assert {asked.task for asked in found.questions} == {"videomme"}
    both = write_answers(tmp_path / "two", {"base": (other, [0, 0, 0]), "tpo": (own, [1, 1, 1])}, frames=8)
    found = match(combine(load_all({"one": one, "two": both})))  # both ran both: each is compared with itself
    assert found.correct == {"base": [1, 0, 0, 0, 0, 0], "tpo": [1, 1, 1, 1, 1, 0]}
    assert [asked.task for asked in found.questions] == ["videomme"] * 3 + [variant] * 3
    assert found.videos == 3


def test_a_benchmark_that_one_model_did_not_run_is_not_compared(tmp_path: Path, write_answers: Writer) -> None:
    other = [row(at, task="mlvu_dev") for at in range(3)]
    one = write_answers(tmp_path / "one", {"base": ([row(0)], [1]), "tpo": ([row(0)], [1])})
    two = write_answers(tmp_path / "two", {"base": (other, [1] * 3)})
    found = match(combine(load_all({"one": one, "two": two})))
    assert found.models == ["base", "tpo"]
    assert [asked.task for asked in found.questions] == ["videomme"]
    assert found.left_out == ["mlvu_dev: not compared, for tpo did not run it."]


def test_one_label_in_two_folders(tmp_path: Path, write_answers: Writer) -> None:
    """Other benchmarks of one checkpoint belong to one model; the same cell again is another model's."""
    same = [([row(0)], [1]), ([row(0, task="mlvu_dev")], [1])]
    one, two = (write_answers(tmp_path / str(at), {"base": answered}) for at, answered in enumerate(same))
    assert [model.label for model in combine(load_all({"a": one, "b": two}))] == ["base"]
    assert [model.label for model in combine(load_all({"a": one, "b": one}))] == ["a: base", "b: base"]


def test_a_model_stands_for_itself_with_its_run_outside_a_sweep(
    tmp_path: Path, write_answers: Writer, write_evaluation: Writer
) -> None:
    swept = write_evaluation(tmp_path / "swept", {"base": 0.5}, questions_a_task=8, sweep=(12, 96))
    (model,) = combine([load("", swept)])
    assert _frames(model) == 96, "a sweep's recipe has a number beside it that nothing was measured with"
    assert model.cell("longvideobench_val_v") is None
    sweep = write_answers(tmp_path / "sweep", {"base": ([row(0)], [1])}, frames=64, sweep=[64])
    main = write_answers(tmp_path / "main", {"base": ([row(0)], [1])}, frames=8)
    (model,) = combine(load_all({"sweep": sweep, "main": main}))
    assert _frames(model) == 8
    # lmms-eval's own wrappers may choose the number, and record no `frames`.
    results = json.loads((main / "results.json").read_text())
    del results["frames"]
    write_json(main / "results.json", results)
    (model,) = combine(load_all({"sweep": sweep, "main": main}))
    assert _frames(model) == 8


def _frames(model: Model) -> int | None:
    found = model.cell("videomme")
    assert found is not None
    return found[1].frames


def test_findings_compare_every_two_models(evaluation: Path) -> None:
    found = match(combine([load("", evaluation)]))
    sentences = [str(sentence) for sentence in findings(found)]
    assert len(sentences) == 3
    for sentence, (model, other) in zip(sentences, [("sft_self", "base"), ("tpo", "base"), ("tpo", "sft_self")]):
        gained, right, before = _counts(found, model, other)
        numbers = f"{right / 4:.1f} % against {before / 4:.1f} % right, {(right - before) / 4:+.1f} points"
        assert numbers in sentence
        assert f"{gained} questions gained, {gained - right + before} lost" in sentence
    assert "No difference shown between <bdi>sft_self</bdi> and <bdi>base</bdi>" in sentences[0]
    assert "<bdi>tpo</bdi> scores higher than <bdi>base</bdi>" in sentences[1]
    assert "includes 0" in sentences[0]
    assert "excludes 0" in sentences[1]
    assert all("adjusted for these 3 comparisons" in sentence for sentence in sentences[1:])


def _counts(found: Comparison, model: str, other: str) -> tuple[int, int, int]:
    """Of 400 questions: those that only `model` has right, all that it has right, all that the other has right."""
    pairs = list(zip(found.correct[model], found.correct[other], strict=True))
    assert len(pairs) == 400
    return pairs.count((1, 0)), sum(one for one, _ in pairs), sum(two for _, two in pairs)


def test_many_models_are_compared_with_the_first_alone() -> None:
    answers = {f"m{at}": [int(number % (at + 2) == 0) for number in range(20)] for at in range(6)}
    assert len(findings(compared(answers))) == 5
    assert len(findings(compared(dict(list(answers.items())[:4])))) == 6


def test_outcomes_of_many_models_are_counted() -> None:
    """40 videos: two models win on all that the first has wrong, one loses all that it has right, one answers as it does."""
    first = [1] * 20 + [0] * 20
    answers = {"first": first, "up": [1] * 40, "also up": [1] * 40, "down": [0] * 40, "same": first}
    lines = [str(line) for line in outcomes(compared(answers))]
    assert [line.partition(" of 4 models")[0].rpartition(">")[2] for line in lines] == ["2", "1", "1"]
    assert (
        "higher.</strong> up and also up (2 with McNemar\u2019s p below 0.05, adjusted for these 4 comparisons)."
        in lines[0]
    )
    assert "lower.</strong> down (1 with McNemar\u2019s p below 0.05, adjusted for these 4 comparisons)." in lines[1]
    assert "no difference shown.</strong> same." in lines[2]


def test_numbers_in_words() -> None:
    assert [probability(p) for p in (1.0, 0.9961, 0.0123456, 0.001, 0.00099)] == ["1", "1", "0.012", "0.001", "< 0.001"]
    assert [signed(share) for share in (0.051, -0.0302, 0.0, -0.0001)] == ["+5.1", "\u22123.0", "0.0", "0.0"]


def test_a_partial_file_is_an_error(tmp_path: Path, write_answers: Writer) -> None:
    folder = write_answers(tmp_path, {"base": ([row(0), row(1)], [1, 1])})
    file = folder / "base" / "8" / "videomme" / "answers.jsonl"
    file.write_text(file.read_text().splitlines()[0])
    with pytest.raises(TPOError, match=r"holds 1 answers, results\.json counts 2; run `tpo evaluate` again"):
        load("", folder)
    file.unlink()
    with pytest.raises(TPOError, match=r"answers\.jsonl does not exist"):
        load("", folder)


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([{"task": "a", "id": "1"}], "record 1: needs `id` and `correct`"),
        ([row(1), row(1, video="2.mp4")], "record 2: question 1 is answered twice"),
    ],
)
def test_unusable_answers(tmp_path: Path, rows: list[dict[str, Any]], text: str, write_answers: Writer) -> None:
    folder = write_answers(tmp_path, {"base": (rows, [2 if "answer" not in one else 1 for one in rows])})
    with pytest.raises(TPOError, match=text):
        load("", folder)


@pytest.mark.parametrize(
    ("results", "text"),
    [
        ({"models": {"base": {"tasks": {}}}}, "no `models` and `cells`"),
        ({"models": {"base": {}}, "cells": [{"model": "base"}]}, "cell 1: needs model, frames, task"),
        (
            {
                "models": {"a": {}},
                "cells": [dict.fromkeys(("frames", "task", "score", "n", "metric")) | {"model": "b"}],
            },
            "cell 1: its model b is not in `models`",
        ),
    ],
)
def test_unusable_results(tmp_path: Path, results: dict[str, Any], text: str) -> None:
    write_json(tmp_path / "results.json", results)
    with pytest.raises(TPOError, match=text):
        load("", tmp_path)


def test_scores_that_no_single_question_has_stand_in_the_harness_table(write_answers: Writer, tmp_path: Path) -> None:
    """Vinoground's text score is over pairs of questions; the score of a category is in the tables by question already."""
    folder = write_answers(tmp_path, {"base": ([row(0, task="vinoground", category="object")], [1])})
    results = json.loads((folder / "results.json").read_text())
    results["cells"][0]["categories"] = {
        name: {"value": value, "low": 0.0, "high": 100.0, "n": 500}
        for name, value in (("text", 34.25), ("object", 99.0))
    }
    write_json(folder / "results.json", results)
    html = harness(combine([load("", folder)]))
    assert "<td>m: text</td>" in html
    assert '<td class="number">34.25</td>' in html
    assert "99" not in html
    assert "unit unknown" not in html
    results["cells"][0] |= {"score": 0.625, "unit": None}
    write_json(folder / "results.json", results)
    html = harness(combine([load("", folder)]))
    assert '<td class="number">0.625 (unit unknown)</td>' in html
    assert '<td class="number">34.25</td>' in html


def test_the_table_holds_the_hand_counted_numbers(evaluation: Path) -> None:
    found = match(combine([load("", evaluation)]))
    html = section(found, {label: at for at, label in enumerate(found.models)})
    long = [right for asked, right in zip(found.questions, found.correct["tpo"]) if asked.duration == "long"]
    assert f'<bdi>long</bdi></th><td rowspan="3" class="number">{len(long)}</td>' in html
    assert f"<strong>{100 * sum(long) / len(long):.1f}</strong>" in html
    assert "no difference shown" in html
