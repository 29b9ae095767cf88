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

LENGTHS = ("<1", "1-3", "3-10", ">10")  # minutes; a length on a border counts upwards, but exactly 10 is not over 10
UNKNOWN = "unknown"
WIDTH = 100


def statistics(rows: Sequence[Row]) -> dict[str, Any]:
    """Counts of `rows`: `rows`, `videos`, `tasks`, `kinds`, `lengths` (of distinct videos), `perturbations`, `generators`, `responses`.

    `responses` has the words a response: mean, median, longest, for both sides. 'unknown' counts what a row does not say.
    """
    seconds = {row.video: row.tpo.get("seconds") for row in rows}
    lengths = Counter(UNKNOWN if value is None else length_class(float(value)) for value in seconds.values())
    return {
        "rows": len(rows),
        "videos": len(seconds),
        "tasks": _counts(row.tpo.get("task") for row in rows),
        "kinds": _counts(row.tpo.get("kind") for row in rows),
        "lengths": {name: lengths[name] for name in (*LENGTHS, UNKNOWN) if name != UNKNOWN or lengths[name]},
        "perturbations": _counts((row.tpo.get("perturbation") or {}).get("name") for row in rows),
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
    parts.append("Tasks, % of the pairs\n" + task_table(counts["tasks"]))
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
    """Each task's count and share beside its share in the paper's 10k pairs."""
    total = sum(tasks.values())
    names = [*TASK_MIX, *(name for name in tasks if name not in TASK_MIX)]
    paper = {name: f"{share:.1f}" for name, share in TASK_MIX.items()}
    rows = [(name, str(tasks.get(name, 0)), _share(tasks.get(name, 0), total), paper.get(name, "-")) for name in names]
    return table(("task", "pairs", "%", "paper %"), rows)


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


def _words(texts: Sequence[str]) -> dict[str, float]:
    counts = [len(text.split()) for text in texts] or [0]
    return {"mean": numbers.fmean(counts), "median": numbers.median(counts), "longest": max(counts)}


def _share(count: int, total: int) -> str:
    return f"{100 * count / total:.1f}" if total else "-"
