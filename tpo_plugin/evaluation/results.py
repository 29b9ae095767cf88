"""Reading what lmms-eval wrote, and refusing what is incomplete."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tpo_plugin.errors import EvaluationError
from tpo_plugin.evaluation.bootstrap import Interval, accuracy
from tpo_plugin.evaluation.layouts import layout_of
from tpo_plugin.evaluation.scoring import answer, by_category, check_judged, response
from tpo_plugin.records import read_jsonl

Rows = Sequence[Mapping[str, Any]]


def read_task(
    folder: Path,
    task: str,
    expected: int | None = None,
    rows: Rows | None = None,
    seed: int = 0,
    truth: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """One task's result and its answers (the lines of `answers.jsonl`) from the folder that lmms-eval wrote to.

    `rows` are the benchmark's own questions, in order; `expected` is their number (default: what lmms-eval says it is); `truth` holds
    Vinoground's right answers. Raises EvaluationError for a missing result, an empty metric, a question that has not exactly one
    sample, and answers that no judge has seen.

    `score` is the task's own metric, of Vinoground its text score. It is in percent, and `unit` is "%", except for a task without a
    layout here whose metric is not the share of right answers: then it is as lmms-eval gives it, and `unit` is None.
    """
    outcome = _only(folder, "*_results.json", "results file")
    results = json.loads(outcome.read_text(encoding="utf-8"))
    metric, value = _score(results, task)
    samples = list(read_jsonl(_only(folder, f"*_samples_{task}.jsonl", f"sample log of {task}")))
    count = expected if expected is not None else int(results["n-samples"][task]["original"])
    _check_complete(samples, count)
    check_judged(metric, samples)
    samples.sort(key=lambda sample: sample["doc_id"])
    answers = [answer(task, metric, sample, rows[sample["doc_id"]] if rows else {}, truth or {}) for sample in samples]
    videos = [one["video"] for one in answers]
    groups = videos if all(videos) else None
    right = accuracy([one["correct"] for one in answers], groups, seed)
    score, unit = _in_percent(task, value, right.value)
    result = {
        "score": score,
        "unit": unit,
        "n": len(answers),
        "metric": metric,
        "accuracy": percent(right),
        "categories": {name: percent(found) for name, found in by_category(answers, groups, seed).items()},
        "empty_responses": sum(not one["response"].strip() for one in answers),
        "prompts": _hash(one["prompt"] for one in answers),
        "questions": _hash(sample.get("doc_hash", "") for sample in samples),
        "generation": results["configs"][task].get("generation_kwargs"),
    }
    return result, answers


def percent(interval: Interval) -> dict[str, Any]:
    """An interval as JSON, in percent."""
    return {
        "value": round(100 * interval.value, 3),
        "low": round(100 * interval.low, 3),
        "high": round(100 * interval.high, 3),
        "n": interval.n,
    }


def last_lines(log: Path, count: int = 12) -> str:
    """The end of a log without colours, bars and empty lines."""
    text = log.read_bytes()[-20_000:].decode("utf-8", "replace") if log.is_file() else ""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    lines = [line.rstrip() for line in re.split(r"[\r\n]", plain) if line.strip() and "%|" not in line]
    return "\n".join(lines[-count:]) or "(the log is empty)"


def _hash(texts: Any) -> str:
    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _only(folder: Path, pattern: str, what: str) -> Path:
    found = sorted(folder.rglob(pattern))
    if len(found) != 1:
        raise EvaluationError(f"lmms-eval wrote {len(found) or 'no'} {what}")
    return found[0]


def _score(results: Mapping[str, Any], task: str) -> tuple[str, float]:
    """Name of the task's own metric, and its value."""
    if task not in results["results"]:
        raise EvaluationError(f"no result; lmms-eval has results of {', '.join(results['results']) or 'no task'}")
    if task not in results["configs"]:
        members = results.get("group_subtasks", {}).get(task) or [name for name in results["configs"] if name != task]
        raise EvaluationError(
            f"a group of tasks has no samples of its own; write its tasks into `tasks`: {', '.join(members)}"
        )
    metric = results["configs"][task]["metric_list"][0]["metric"]
    values = [value for key, value in results["results"][task].items() if key.split(",")[0] == metric]
    layout = layout_of(task)
    if layout and layout.pairs and len(values) == 1 and isinstance(values[0], list):
        values = values[0][:1]  # text, video and group score
    if len(values) != 1 or isinstance(values[0], bool) or not isinstance(values[0], (int, float)):
        raise EvaluationError(f"its metric {metric} is {values}, not a number")
    if not math.isfinite(values[0]):
        raise EvaluationError(f"its metric {metric} is {values[0]}")
    return metric, float(values[0])


def _in_percent(task: str, value: float, right: float) -> tuple[float, str | None]:
    """A metric's value in percent, and its unit; None where it is not known what the task counts in. `right` is the share of right answers."""
    layout = layout_of(task)
    if layout is None and not any(math.isclose(value, share, abs_tol=1e-6) for share in (right, 100 * right)):
        return value, None
    shares = math.isclose(value, right, abs_tol=1e-6) if layout is None else not layout.percent
    return (100 * value if shares else value), "%"


def _check_complete(samples: Sequence[Mapping[str, Any]], expected: int) -> None:
    """Every question has exactly one sample with a response."""
    seen = Counter(sample["doc_id"] for sample in samples)
    missing = [number for number in range(expected) if number not in seen]
    repeated = [number for number, times in seen.items() if times > 1]
    if missing:
        raise EvaluationError(f"{len(missing)} of {expected} questions have no answer (the first is {missing[0]})")
    if repeated or len(seen) != expected:
        raise EvaluationError(
            f"{len(samples)} answers to {expected} questions: {len(repeated)} are answered more than once"
        )
    silent = [sample["doc_id"] for sample in samples if not isinstance(response(sample), str)]
    if silent:
        raise EvaluationError(f"{len(silent)} of {expected} questions have no response (the first is {silent[0]})")
