"""What the demo's summary says: accuracies by length and kind of question, and how good the pairs really are."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import mean
from typing import Any

from tpo_plugin.evaluation.bootstrap import accuracy
from tpo_plugin.records import PreferencePair, from_json, read_jsonl
from tpo_plugin.tiny.questions import same_answer, true_answer
from tpo_plugin.tiny.world import Scene

LONG = 12  # scenes
SHORT = 3
SLICES: dict[str, Callable[[dict[str, Any]], bool]] = {
    "short": lambda answer: answer["scenes"] <= SHORT,
    "long": lambda answer: answer["scenes"] >= LONG,
    "localized": lambda answer: answer["kind"] == "localized",
    "comprehensive": lambda answer: answer["kind"] == "comprehensive",
    "long_localized": lambda answer: answer["scenes"] >= LONG and answer["kind"] == "localized",
    "long_comprehensive": lambda answer: answer["scenes"] >= LONG and answer["kind"] == "comprehensive",
}


def summarise(world: Path, pairs: Path, evaluation: Path) -> dict[str, Any]:
    """`models` and `pairs` of the demo's summary.json. Accuracies are in percent, each with its bootstrap 95 % interval."""
    labels = json.loads((evaluation / "results.json").read_text(encoding="utf-8"))["models"]
    return {
        "models": {label: _accuracies(read_jsonl(evaluation / label / "answers.jsonl")) for label in labels},
        "pairs": _pair_quality(pairs, json.loads((world / "scenes.json").read_text(encoding="utf-8"))),
    }


def _accuracies(answers: Iterable[dict[str, Any]]) -> dict[str, Any]:
    rows = list(answers)
    numbers: dict[str, Any] = {"n": len(rows), "intervals": {}}
    for name, wanted in SLICES.items():
        picked = [answer for answer in rows if wanted(answer)]
        found = accuracy([answer["correct"] for answer in picked], [answer["video"] for answer in picked])
        numbers[name] = round(100 * found.value, 1)
        numbers["intervals"][name] = [round(100 * found.low, 1), round(100 * found.high, 1), found.n]
    return numbers


def _pair_quality(pairs: Path, scenes: dict[str, Any]) -> dict[str, Any]:
    """How many pairs were kept and dropped, and the share of chosen responses that are right and of rejected ones that are wrong.

    `before_filters` has the same shares of all candidates.
    """
    candidates = [from_json(PreferencePair, row) for row in read_jsonl(pairs / "candidates.jsonl")]
    world = {name: [Scene(**scene) for scene in listed] for name, listed in scenes.items()}
    kept = [pair for pair in candidates if not pair.drop]
    funnel = json.loads((pairs / "statistics.json").read_text(encoding="utf-8"))["funnel"]
    dropped: Counter[str] = Counter()
    for stage in funnel:
        dropped.update(stage["dropped"])
    return {
        "kept": len(kept),
        "dropped": dict(dropped),
        **_shares(kept, world),
        "before_filters": {"candidates": len(candidates), **_shares(candidates, world)},
    }


def _shares(pairs: list[PreferencePair], world: dict[str, list[Scene]]) -> dict[str, float]:
    chosen, rejected = [], []
    for pair in pairs:
        true = true_answer(pair.query.text, world[pair.video.path]) or ""
        chosen.append(same_answer(pair.chosen, true))
        rejected.append(not same_answer(pair.rejected, true))
    return {"chosen_right": round(mean(chosen or [0]), 4), "rejected_wrong": round(mean(rejected or [0]), 4)}


def table(summaries: dict[int, dict[str, Any]]) -> str:
    """Accuracy in percent of each model: one seed with its bootstrap interval, several as mean and range over the seeds."""
    first = next(iter(summaries.values()))
    lines = ["  ".join(["model".ljust(9), *(name.rjust(20) for name in SLICES)])]
    for label, numbers in first["models"].items():
        cells = []
        for name in SLICES:
            values = [summary["models"][label][name] for summary in summaries.values()]
            low, high = (min(values), max(values)) if len(values) > 1 else numbers["intervals"][name][:2]
            cells.append(f"{mean(values):.1f} ({low:.1f}-{high:.1f})".rjust(20))
        lines.append("  ".join([label.ljust(9), *cells]))
    note = "bootstrap 95 % interval" if len(summaries) == 1 else f"range over {len(summaries)} seeds"
    quality = [summary["pairs"] for summary in summaries.values()]
    lines.append(f"accuracy in %, in brackets: {note}; {first['models']['base']['n']} questions a seed")
    lines.append(
        f"pairs: {mean(one['kept'] for one in quality):.0f} kept; "
        f"chosen right {100 * mean(one['chosen_right'] for one in quality):.1f} %, "
        f"rejected wrong {100 * mean(one['rejected_wrong'] for one in quality):.1f} % "
        f"(before the filters {100 * mean(one['before_filters']['chosen_right'] for one in quality):.1f} % and "
        f"{100 * mean(one['before_filters']['rejected_wrong'] for one in quality):.1f} %)"
    )
    return "\n".join(lines)
