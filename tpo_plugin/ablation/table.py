"""The tables of an ablation: each model's mean over seeds and its paired difference from the base."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tpo_plugin.ablation.collect import Measured
from tpo_plugin.evaluation.bootstrap import difference
from tpo_plugin.report.answers import Question
from tpo_plugin.report.evaluation import signed

Wanted = Callable[[Measured, Question], bool]
# By seed, task as it was run (variants of a benchmark ask the same), and question.
Right = dict[tuple[int, str, Question], int]
DIFFERENCE, ACCURACY_DIFFERENCE = "\u21b3 difference", "\u21b3 difference in accuracy"  # the rows below a model's

NOTE = (
    "Each benchmark's own score in % (as the papers give it: MLVU's is the mean over its task types, Vinoground's the text score) and the "
    "accuracy over all questions{over}. Beside a score the difference from {base} in points{by_seed}; beside the accuracy that on the same "
    "questions, with the bootstrap 95 % interval over videos{pooled}: **bold** where it excludes 0, as one in 20 does by chance where nothing "
    "differs. n is the number of questions{counted}."
)
SEEDS = {
    "over": ", mean \u00b1 standard deviation over {count} seeds",
    "by_seed": ", seed by seed",
    "pooled": ", all seeds together (other seeds could lie outside it)",
    "counted": ", counted once a seed",
}
ACCURACY_NOTE = (
    "Accuracy in %, that is the share of right answers, by benchmark, by length of video and by kind of question. Below each model's its "
    "difference from {base}, as above."
)


def note(base: str, seeds: int) -> str:
    """What the numbers of the main table are."""
    words = SEEDS if seeds > 1 else {**dict.fromkeys(SEEDS, ""), "over": ", of one seed"}
    return NOTE.format(base=base, **{key: text.format(count=seeds) for key, text in words.items()})


@dataclass(frozen=True)
class Entry:
    """A model on some of the questions: accuracy a seed in percent, and the difference from the base with its interval, as shares (None: it
    is the base, or shares no question)."""

    seeds: list[float]
    gain: tuple[float, float, float] | None
    n: int

    def mean(self) -> str:
        return _mean(self.seeds)

    def difference(self) -> str:
        if self.gain is None:
            return ""
        value, low, high = self.gain
        text = f"{signed(value)} ({signed(low)} to {signed(high)})"
        return f"**{text}**" if low > 0 or high < 0 else text


def main_table(cells: Sequence[Measured], base: str, pairs: Mapping[str, str]) -> str:
    """A row a model: each benchmark's own score and the accuracy over all questions, each with its difference from the base."""
    main = [one for one in cells if one.main]
    names, tasks = list(dict.fromkeys(one.name for one in main)), list(dict.fromkeys(one.cell.task for one in main))
    scores = {task: _scores([one for one in main if one.cell.task == task]) for task in tasks}
    accuracies = _entries(main, names, base, None)
    most = max(entry.n for entry in accuracies.values())
    rows = []
    for name in names:
        row = [name, pairs.get(name, "")]
        for task in tasks:
            row += [_mean(scores[task].get(name, {}).values()), _gain(scores[task], name, base)]
        rows.append([*row, _of(accuracies[name], most), accuracies[name].difference()])
    columns = [*(f"{task} score" for task in tasks), f"accuracy (n {most})"]
    return markdown(["model", "pairs", *(part for column in columns for part in (column, f"\u2212\u00a0{base}"))], rows)


def accuracy_tables(cells: Sequence[Measured], base: str) -> list[str]:
    """Accuracy by benchmark, by length of video and by kind of question, a table each, as far as they are known."""
    main = [one for one in cells if one.main]
    tables = [{task: _of_task(task) for task in dict.fromkeys(one.cell.task for one in main)}]
    for name in ("duration", "kind"):
        values = dict.fromkeys(getattr(question, name) for one in main for question in one.cell.answers)
        tables.append({value: _with(name, value) for value in values if value})
    return [_accuracies(main, base, parts) for parts in tables if parts]


def _of_task(task: str) -> Wanted:
    return lambda one, question: one.cell.task == task


def _with(name: str, value: str) -> Wanted:
    return lambda one, question: getattr(question, name) == value


def _accuracies(main: Sequence[Measured], base: str, parts: Mapping[str, Wanted]) -> str:
    names = list(dict.fromkeys(one.name for one in main))
    columns = {title: _entries(main, names, base, wanted) for title, wanted in parts.items()}
    most = [max((entry.n for entry in column.values()), default=0) for column in columns.values()]
    head = [f"{title} (n {count})" for title, count in zip(columns, most)]
    rows = []
    for name in names:
        entries = [column.get(name) for column in columns.values()]
        rows.append([name, *(_of(entry, count) if entry else "" for entry, count in zip(entries, most))])
        if name != base:
            rows.append([DIFFERENCE, *(entry.difference() if entry else "" for entry in entries)])
    return markdown(["model", *head], rows)


def _of(entry: Entry, most: int) -> str:
    """The mean, with its number of questions where others were asked more: it is not to be compared with theirs."""
    return entry.mean() if entry.n == most else f"{entry.mean()} (n {entry.n})"


def sweep_table(cells: Sequence[Measured], base: str) -> str | None:
    """Own scores by number of frames, of the models that were measured with several; None if there is none."""
    rows, counts = [], sorted({one.cell.frames for one in cells if one.cell.frames is not None})
    for task in dict.fromkeys(one.cell.task for one in cells):
        frames: dict[str, set[int | None]] = {}
        for one in cells:
            if one.cell.task == task:
                frames.setdefault(one.name, set()).add(one.cell.frames)
        names = [name for name, found in frames.items() if len(found) > 1]
        columns = [[one for one in cells if one.cell.frames == count and one.cell.task == task] for count in counts]
        scores = [_scores(column) for column in columns]
        entries = [_entries(column, names, base, None) for column in columns]
        for name in names:
            rows.append([f"{task}, {name}", *(_mean(column.get(name, {}).values()) for column in scores)])
            if name != base:
                gains = (column[name].difference() if name in column else "" for column in entries)
                rows.append([DIFFERENCE, *(_gain(column, name, base) for column in scores)])
                rows.append([ACCURACY_DIFFERENCE, *gains])
    return markdown(["benchmark, model", *(f"{count} frames" for count in counts)], rows) if rows else None


def needle_table(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """Teacher-forced and generated score of the needles by number of frames, over all depths; None if there are none."""
    counts = list(dict.fromkeys(row["frames"] for row in rows))
    lines = []
    for name in dict.fromkeys(row["name"] for row in rows):
        for how in ("teacher-forced", "generated"):
            picked = [row for row in rows if row["name"] == name and row["category"].startswith(how)]
            entries = [_over_seeds([row for row in picked if row["frames"] == count]) for count in counts]
            lines.append(
                [f"{name}, {how}", *(entry.mean() if entry else "" for entry in (*entries, _over_seeds(picked)))]
            )
    return markdown(["model, score", *(f"{count} frames" for count in counts), "all"], lines) if lines else None


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose columns also align as plain text."""
    lines = [list(head), *map(list, rows)]
    widths = [max(map(len, column)) for column in zip(*lines)]
    shown = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |" for line in lines]
    return "\n".join([shown[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *shown[1:]])


def _entries(cells: Sequence[Measured], names: Sequence[str], base: str, wanted: Wanted | None) -> dict[str, Entry]:
    """Each model's entry on the wanted questions of these cells."""
    right: dict[str, Right] = {name: {} for name in (base, *names)}
    data = {(one.seed, one.cell.task): one.data for one in cells}
    for one in cells:
        if one.name in right:
            for question, correct in one.cell.answers.items():
                if wanted is None or wanted(one, question):
                    right[one.name][one.seed, one.cell.task, question] = correct
    return {name: _entry(right[name], None if name == base else right[base], data) for name in names if right[name]}


def _entry(right: Right, base: Right | None, data: Mapping[tuple[int, str], str]) -> Entry:
    """`data` tells of a seed and a benchmark which questions these are: seeds that share them share their videos."""
    seeds: dict[int, list[int]] = {}
    for (seed, *_), correct in right.items():
        seeds.setdefault(seed, []).append(correct)
    gain = None
    shared = [key for key in right if base is not None and key in base]
    if base is not None and shared:
        groups: list[Hashable] = [(data[seed, task], question.task, question.video) for seed, task, question in shared]
        found = difference([base[key] for key in shared], [right[key] for key in shared], groups)
        gain = (found.value, found.low, found.high)
    return Entry([100 * statistics.fmean(values) for values in seeds.values()], gain, len(right))


def _scores(cells: Sequence[Measured]) -> dict[str, dict[int, float]]:
    """The benchmark's own score by model and seed, of cells on one benchmark."""
    found: dict[str, dict[int, float]] = {}
    for one in cells:
        found.setdefault(one.name, {})[one.seed] = float(one.cell.result["score"])
    return found


def _mean(values: Iterable[float], form: Callable[[float], str] = "{:.1f}".format) -> str:
    """Mean, and standard deviation if there are several; empty for none."""
    numbers = list(values)
    if not numbers:
        return ""
    spread = f" \u00b1 {statistics.stdev(numbers):.1f}" if len(numbers) > 1 else ""
    return form(statistics.fmean(numbers)) + spread


def _gain(scores: Mapping[str, Mapping[int, float]], name: str, base: str) -> str:
    """The difference from the base's score, over the seeds that both have."""
    before = {} if name == base else scores.get(base, {})
    gains = [score - before[seed] for seed, score in scores.get(name, {}).items() if seed in before]
    return _mean(gains, lambda points: signed(points / 100))


def _over_seeds(rows: Sequence[Mapping[str, Any]]) -> Entry | None:
    seeds: dict[int, list[float]] = {}
    for row in rows:
        seeds.setdefault(row["seed"], []).append(row["score"])
    return Entry([statistics.fmean(values) for values in seeds.values()], None, len(rows)) if rows else None
