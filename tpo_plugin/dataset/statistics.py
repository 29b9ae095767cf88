"""What a data set holds: task, kind and length mix beside the paper's, response lengths, and the curation funnel."""

from __future__ import annotations

import statistics as numbers
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

from tpo_plugin.dataset.pairs import Row, read_json, read_pairs
from tpo_plugin.options import TASK_MIX
from tpo_plugin.options.shots import PAPER_VIDEOS

LENGTHS = ("<1", "1-3", "3-10", ">10")  # minutes; a length on a border counts upwards, but exactly 10 is not over 10
UNKNOWN = "unknown"
CAPTIONING = "captioning"  # the task of TEMPLE's pairs, which are no part of the TPO paper's mix
SHOT_STEPS = {
    "videos": "videos that can be read",
    "after_shots": "left by the rules on shots",
    "after_groups": "left by the rules on groups",
}
WIDTH = 100


def statistics(rows: Sequence[Row]) -> dict[str, Any]:
    """Counts of `rows`: `rows`, `videos`, `tasks`, `kinds`, `lengths` (of distinct videos), `perturbations`, `generators`, `responses`.

    `responses` has the words a response: mean, median, longest, for both sides. 'unknown' counts what a row does not say. Where rows have
    difficulties, `difficulties` counts them by perturbation and level: {"drop": {"16": 3}}.
    """
    seconds = {row.video: row.tpo.get("seconds") for row in rows}
    lengths = Counter(UNKNOWN if value is None else length_class(float(value)) for value in seconds.values())
    levels = _levels(rows)
    return {
        "rows": len(rows),
        "videos": len(seconds),
        "tasks": _counts(row.tpo.get("task") for row in rows),
        "kinds": _counts(row.tpo.get("kind") for row in rows),
        "lengths": {name: lengths[name] for name in (*LENGTHS, UNKNOWN) if name != UNKNOWN or lengths[name]},
        "perturbations": _counts((row.tpo.get("perturbation") or {}).get("name") for row in rows),
        **({"difficulties": levels} if levels else {}),
        "generators": _counts(row.tpo.get("generator") for row in rows),
        "responses": {
            "chosen": _words([row.chosen for row in rows]),
            "rejected": _words([row.rejected for row in rows]),
        },
    }


def length_class(seconds: float) -> str:
    """The class of the paper's length pie that a video falls into."""
    minutes = seconds / 60
    return "<1" if minutes < 1 else "1-3" if minutes < 3 else "3-10" if minutes <= 10 else ">10"


def stats_text(source: str | Path, video_root: str | Path | None = None) -> str:
    """The tables that `tpo data stats` prints: of a curation or import folder, or of a LLaVA DPO JSON / JSONL file.

    A curation folder's funnel is printed even where nothing was kept. Raises TPOError as `load_pairs` does.
    """
    folder = Path(source)
    curated = read_json(folder / "statistics.json") if (folder / "statistics.json").is_file() else {}
    counts = statistics(read_pairs(source, video_root)[0])
    parts = [f"{counts['rows']} pairs of {counts['videos']} videos"]
    if curated.get("funnel"):
        parts.append("Funnel\n" + funnel_table(curated["funnel"]))
    if curated.get("shots"):
        parts.append("Videos, % of those read, beside TEMPLE's\n" + shot_table(curated["shots"]))
    if "difficulties" in counts:
        parts.append("Pairs by perturbation and difficulty\n" + level_table(counts["difficulties"]))
    parts.append("Tasks, % of the pairs\n" + task_table(shown_tasks(counts["tasks"], "shots" in curated)))
    for title, key in (
        ("Kinds, % of the pairs", "kinds"),
        ("Video length in minutes, % of the videos", "lengths"),
        ("Perturbations, % of the pairs", "perturbations"),
    ):
        parts.append(f"{title}\n{share_table(counts[key])}")
    parts.append("Words a response\n" + response_table(counts["responses"]))
    if curated.get("llm"):
        parts.append("LLM: " + ", ".join(f"{name} {value}" for name, value in curated["llm"].items()))
    return "\n\n".join(parts)


def task_table(tasks: dict[str, int]) -> str:
    """Each task's count and share beside its share in the TPO paper's 10k pairs."""
    total = sum(tasks.values())
    paper = {name: f"{share:.1f}" for name, share in paper_mix(tasks).items()}
    names = [*paper, *(name for name in tasks if name not in paper)]
    rows = [(name, str(tasks.get(name, 0)), _share(tasks.get(name, 0), total), paper.get(name, "-")) for name in names]
    return table(
        ("task", "pairs", "%", "paper %") if paper else ("task", "pairs", "%"), [row[: 3 + bool(paper)] for row in rows]
    )


def shown_tasks(tasks: dict[str, int], listed: bool) -> dict[str, int]:
    """The counts to show; a curation of lists of shots (`listed`) of which nothing is left had one task too."""
    return tasks or ({CAPTIONING: 0} if listed else {})


def paper_mix(tasks: Iterable[str]) -> dict[str, float]:
    """The TPO paper's shares, to be shown beside these tasks; none beside TEMPLE's pairs alone, which have one task."""
    return {} if set(tasks) == {CAPTIONING} else TASK_MIX


def shot_table(shots: dict[str, int]) -> str:
    """How many videos each of TEMPLE's two steps left, beside the paper's."""
    rows = [
        (said, str(shots[key]), _share(shots[key], shots["videos"]), str(PAPER_VIDEOS[key]),
         _share(PAPER_VIDEOS[key], PAPER_VIDEOS["videos"]))
        for key, said in SHOT_STEPS.items()
    ]  # fmt: skip
    return table(("", "videos", "%", "paper", "paper %"), rows)


def level_table(difficulties: dict[str, dict[str, int]]) -> str:
    """Pairs of each perturbation at each level, and their sums."""
    levels = list(next(iter(difficulties.values())))
    lines = {**difficulties, "all": {level: sum(row[level] for row in difficulties.values()) for level in levels}}
    rows = [(name, *(str(row[level]) for level in levels), str(sum(row.values()))) for name, row in lines.items()]
    return table(("", *(f"r = {level}" for level in levels), "all"), rows)


def funnel_table(funnel: Sequence[dict[str, Any]]) -> str:
    """What went into and came out of each stage, and why the rest was dropped."""
    rows = []
    for stage in funnel:
        reasons = sorted(stage.get("dropped", {}).items(), key=lambda item: (-item[1], item[0]))
        # A no-break space keeps a reason and its count on one line.
        text = ", ".join(f"{reason}\N{NO-BREAK SPACE}{count}" for reason, count in reasons)
        lines = [line.replace("\N{NO-BREAK SPACE}", " ") for line in wrap(text, WIDTH - 40)] or [""]
        rows.append((stage["stage"], str(stage["in"]), str(stage["out"]), lines[0]))
        rows += [("", "", "", line) for line in lines[1:]]
    return table(("stage", "in", "out", "dropped"), rows)


def share_table(counts: dict[str, int]) -> str:
    """Counts and their shares."""
    total = sum(counts.values())
    return table(("", "n", "%"), [(name, str(count), _share(count, total)) for name, count in counts.items()])


def response_table(responses: dict[str, dict[str, float]]) -> str:
    """Mean, median and longest of both sides."""
    rows = [
        (side, f"{words['mean']:.1f}", f"{words['median']:g}", str(words["longest"]))
        for side, words in responses.items()
    ]
    return table(("", "mean", "median", "longest"), rows)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns two spaces apart: numbers to the right, text to the left."""
    columns = list(zip(header, *rows))
    widths = [max(map(len, column)) for column in columns]
    right = [
        all(cell == "-" or cell.replace(".", "", 1).isdigit() for cell in column[1:] if cell) for column in columns
    ]
    lines = [
        "  ".join(cell.rjust(width) if number else cell.ljust(width) for cell, width, number in zip(row, widths, right))
        for row in (header, *rows)
    ]
    return "\n".join("  " + line.rstrip() for line in lines)


def _counts(values: Iterable[str | None]) -> dict[str, int]:
    return dict(Counter(value or UNKNOWN for value in values).most_common())


def _levels(rows: Sequence[Row]) -> dict[str, dict[str, int]]:
    """The numbers of pairs of each perturbation at each difficulty, from the easiest (largest) on."""
    made = [row.tpo.get("perturbation") or {} for row in rows]
    found = Counter((one.get("name", UNKNOWN), one["difficulty"]) for one in made if one.get("difficulty") is not None)
    levels = sorted({level for _, level in found}, reverse=True)
    names = dict.fromkeys(name for name, _ in found)
    return {name: {f"{level:g}": found[name, level] for level in levels} for name in names}


def _words(texts: Sequence[str]) -> dict[str, float]:
    counts = [len(text.split()) for text in texts] or [0]
    return {"mean": numbers.fmean(counts), "median": numbers.median(counts), "longest": max(counts)}


def _share(count: int, total: int) -> str:
    return f"{100 * count / total:.1f}" if total else "-"
