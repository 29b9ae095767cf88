"""What a task of lmms-eval logs of one sample: right or wrong, and which categories it belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tpo_plugin.errors import EvaluationError
from tpo_plugin.evaluation.bootstrap import Interval, accuracy
from tpo_plugin.evaluation.data import FACT_NAMES
from tpo_plugin.evaluation.layouts import layout_of

Known = Mapping[str, Any]
PAIR = "vinoground_score"
SAME = {"task_type": "task_category", "domain": "category"}  # a column, and its name in what videomme logs
OTHERS = ("task_type", "task_category", "category", "dim")  # tried for a task without a layout here
KINDS = ("task_type", "task_category", "question_category", "dim", "area", "question_type")


def answer(task: str, metric: str, sample: Known, row: Known, truth: Known) -> dict[str, Any]:
    """The line of `answers.jsonl` for one sample; `row` is the benchmark's own question, `truth` see `is_right`."""
    value = sample.get(metric)
    known = {**(value if isinstance(value, dict) else {}), **row}
    layout = layout_of(task)
    name = str(known.get(layout.ident if layout else "question_id", sample["doc_id"]))
    columns = layout.categories if layout else OTHERS
    names = [known.get(column, known.get(SAME.get(column, ""))) for column in columns] + [row.get("kind")]
    duration = known.get("duration_group", known.get("duration"))
    return {
        "task": task,
        "id": name,
        "category": next((known[kind] for kind in KINDS if isinstance(known.get(kind), str)), None),
        "categories": list(dict.fromkeys(str(one) for one in names if one is not None)),
        "duration": duration if isinstance(duration, str) or duration is None else str(duration),
        "question": row.get("question", sample["input"]),
        "answer": sample["target"],
        "response": response(sample),
        "correct": int(is_right(metric, value, truth)),
        "video": known.get(layout.video) if layout else known.get("video"),
        "prompt": sample["input"],
        **{fact: row[fact] for fact in FACT_NAMES if fact in row},
    }


def response(sample: Known) -> Any:
    """What the model wrote."""
    written = sample.get("filtered_resps")
    return written[0] if isinstance(written, list) and len(written) == 1 else written


def is_right(metric: str, value: Any, truth: Known) -> bool:
    """From the answer's letter and the right one, or from a score of 0 or 1; `truth` holds Vinoground's right answers."""
    if isinstance(value, dict):
        if metric == PAIR:
            right = truth[f"{value['index']}_{value['question_type']}"]["GT"]
            return bool(value["pred"][:1].lower() == right.lower())
        if "ground_truth" in value:
            return str(value["pred"]) == str(value["ground_truth"])
        given = value.get("pred_answer", value.get("parsed_pred"))
        if given is not None and "answer" in value:
            return bool(given == value["answer"])
        value = next((value[name] for name in ("correct", "rating", "score") if name in value), None)
    if isinstance(value, (bool, int, float)) and value in (0, 1):
        return bool(value)
    raise EvaluationError(f"its samples do not say right or wrong in {metric} (found {value!r})")


def check_judged(metric: str, samples: Iterable[Known]) -> None:
    """EvaluationError if an LLM had to judge answers and did not: lmms-eval then counts them as wrong."""
    values = [sample[metric] for sample in samples if isinstance(sample.get(metric), dict)]
    unjudged = [
        value
        for value in values
        if value.get("rating") == -1 or (value.get("match_success") is False and not value.get("chatgpt_response"))
    ]
    if unjudged:
        raise EvaluationError(
            f"{len(unjudged)} of {len(values)} answers need an LLM that judges them, and none answered: set OPENAI_API_KEY, and "
            "OPENAI_API_URL (the full address of chat completions) for a server of your own; a rerun keeps the answers"
        )


def by_category(answers: Sequence[Known], groups: Sequence[Any] | None, seed: int) -> dict[str, Interval]:
    """The accuracy of each category of the answers' `categories`; Vinoground's scores over pairs of videos."""
    if answers and (layout := layout_of(answers[0]["task"])) and layout.pairs:
        return _pairs(answers, seed)
    found = {}
    for name in dict.fromkeys(name for one in answers for name in one["categories"]):
        places = [place for place, one in enumerate(answers) if name in one["categories"]]
        picked = [groups[place] for place in places] if groups else None
        found[name] = accuracy([answers[place]["correct"] for place in places], picked, seed)
    return found


def _pairs(answers: Sequence[Known], seed: int) -> dict[str, Interval]:
    """Text score: both captions' questions about a pair are right; video score: both videos' are; group score: all four.

    A score whose questions were not asked at all is left out.
    """
    right: dict[str, dict[str, list[int]]] = {}
    for one in answers:
        number, _, kind = one["id"].split("_")
        right.setdefault(number, {"text": [], "video": []})[kind].append(one["correct"])
    scores: dict[str, list[int]] = {
        kind: [int(len(pair[kind]) == 2 and all(pair[kind])) for pair in right.values()]
        for kind in ("text", "video")
        if any(pair[kind] for pair in right.values())
    }
    if len(scores) == 2:
        scores["group"] = [text & video for text, video in zip(scores["text"], scores["video"])]
    return {kind: accuracy(values, None, seed) for kind, values in scores.items()}
