"""`tpo needle --compare`: two models' heat maps side by side (as TPO's Fig. 3), with their difference."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

from tpo_plugin.errors import EvaluationError
from tpo_plugin.evaluation.bootstrap import difference
from tpo_plugin.evaluation.needle.results import SCORES, WORDS, Result, places, read_result
from tpo_plugin.folders import differences
from tpo_plugin.records import write_text
from tpo_plugin.report.comparison import FEWEST_VIDEOS
from tpo_plugin.report.heatmap import difference_map, heat_map
from tpo_plugin.report.markup import Markup, join, tag
from tpo_plugin.report.mcnemar import discordance
from tpo_plugin.report.needle import gained

GAP = 12


def compare(first: str, second: str, output: Path | None = None) -> str:
    """What separates two results (OUTPUT or OUTPUT:LABEL each), as text; the pictures as one SVG in `output`.

    EvaluationError where they were not asked for the same needles in the same cells.
    """
    before, after = read_result(first), read_result(second)
    names = _names(before, after, first, second)
    _check_same(before, after, names)
    lines = [_line(before, after, names, score) for score in SCORES]
    lines.append(
        "Intervals (95 %) resample whole needles"
        + ("" if _needles(before) >= FEWEST_VIDEOS else f", which takes {FEWEST_VIDEOS} of them or more")
        + ": the cells of one needle stand and fall together, which McNemar's test does not know, so its p is too small."
    )
    lines += [f"not alike: {line}" for line in differences(_settings(before), _settings(after))]
    if output is not None:
        write_text(output, f"{_picture(before, after, names)}\n")
        lines.append(str(output))
    return "\n".join(lines)


def _names(before: Result, after: Result, first: str, second: str) -> tuple[str, str]:
    return (before.label, after.label) if before.label != after.label else (first, second)


def _check_same(before: Result, after: Result, names: tuple[str, str]) -> None:
    """EvaluationError unless both were asked for the same needles in the same cells of the same haystack."""
    here, there = ({_place(answer) for answer in result.answers} for result in (before, after))
    for name, result, places_of in zip(names, (before, after), (here, there)):
        if len(places_of) < len(result.answers):
            raise EvaluationError(f"{name} has several answers to one question in one cell: run `tpo needle` again")
    if here != there:
        raise EvaluationError(
            f"{names[0]} and {names[1]} were not asked the same: {len(here - there)} questions only of the first, "
            f"{len(there - here)} only of the second; run both with the same `needles`, `frames` and `depths`"
        )
    if before.facts["haystack"]["digest"] != after.facts["haystack"]["digest"]:
        raise EvaluationError(f"{names[0]} and {names[1]} were not shown the same haystack; run both with the same one")


def _settings(result: Result) -> dict[str, object]:
    """What else can make two results differ, besides the models' weights."""
    return {**result.facts, **{key: result.model[key] for key in ("wrapper", "needle_frames")}}


def _line(before: Result, after: Result, names: tuple[str, str], score: str) -> str:
    old, new = ({_place(answer): answer[score] for answer in result.answers} for result in (before, after))
    order = sorted(old)
    first, second = [old[place] for place in order], [new[place] for place in order]
    gain = difference(first, second, [place[2:] for place in order])
    interval = f"[{gain.low:+.3f}, {gain.high:+.3f}]"
    if (count := _needles(before)) < FEWEST_VIDEOS:
        interval = f"(too few needles to tell: {count})"
    changed = discordance(first, second)
    means = [result.model[f"mean_{score}"] for result in (before, after)]
    return (
        f"{WORDS[score]}: {names[0]} {means[0]:.3f}, {names[1]} {means[1]:.3f}, difference {gain.value:+.3f} "
        f"{interval} over {len(order)} questions; {changed.gained} only right in the second, "
        f"{changed.lost} only in the first (McNemar p = {changed.p:.2g})"
    )


def _place(answer: Mapping[str, Any]) -> tuple[Hashable, ...]:
    """An answer's cell and needle; answers written before needles had ids go by the picture's name."""
    return answer["frames"], answer["depth"], answer.get("id", answer["needle"]), answer["question"]


def _needles(result: Result) -> int:
    return len({_place(answer)[2:] for answer in result.answers})


def _picture(before: Result, after: Result, names: tuple[str, str]) -> Markup:
    """The teacher-forced maps of both and their difference, one beside the other."""
    old, new = (places(result.model["cells"], "teacher_forced") for result in (before, after))
    change = difference_map(f"{names[1]} minus {names[0]}", gained(old, new))
    maps = [heat_map(names[0], old), heat_map(names[1], new), change]
    lefts = [sum(one.width + GAP for one in maps[:index]) for index in range(len(maps))]
    drawn = [tag("g", one, transform=f"translate({left} 0)") for left, one in zip(lefts, maps)]
    width, height = lefts[-1] + change.width, max(one.height for one in maps)
    title = f"{names[0]} and {names[1]}: needle in a haystack, teacher-forced"
    return tag(
        "svg", tag("title", title), join(drawn), xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {width} {height}",
        width=width, height=height, role="img",
    )  # fmt: skip
