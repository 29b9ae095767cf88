"""Needles in a haystack: heat maps of the models side by side with their differences, teacher-forced and generated apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tpo_plugin.errors import TPOError
from tpo_plugin.report import sources
from tpo_plugin.report.comparison import named
from tpo_plugin.report.heatmap import Cell, difference_map, heat_map
from tpo_plugin.report.markup import Markup, join, row, table, tag
from tpo_plugin.report.papers import Paper
from tpo_plugin.report.protocol import changes, listed

COMMAND = "tpo needle"
BENCHMARK = "v_niah"  # its name in the papers' tables
SCORES = {"teacher_forced": "Teacher-forced", "generated": "Generated"}
OWN = ("checkpoint", "digest", "cells")  # what differs between any two models
MOST_MAPS = 5  # models that are drawn; the table holds the others
NOTE = (
    "A score is the share of a cell\u2019s questions that are right. Teacher-forced: every token of the right answer is the model\u2019s most "
    "likely one after the right tokens before it (V-NIAH\u2019s own score). Generated: the model\u2019s own answer is right. The two are not "
    "comparable with each other. With few questions a cell jumps in large steps: read rows and columns, not single cells."
)


@dataclass(frozen=True)
class Needle:
    """One model's grid; `scores` has the cells (frames, depth 0 ... 1, score) of each kind of score that was measured.

    `facts` is what its folder recorded of the run and of the model besides.
    """

    label: str
    questions: int
    scores: dict[str, list[Cell]]
    facts: dict[str, Any]

    def mean(self, kind: str) -> float | None:
        """The mean over the cells."""
        cells = self.scores.get(kind)
        return sum(score for *_, score in cells) / len(cells) if cells else None


def load_all(folders: Mapping[str, Path]) -> list[Needle]:
    """The models of several folders; a label that several use is told apart by its folder's. TPOError names what is unreadable."""
    loaded = [(label, model) for label, path in folders.items() for model in _load(label, path)]
    labels = [model.label for _, model in loaded]
    return [
        replace(model, label=f"{label}: {model.label}") if labels.count(model.label) > 1 else model
        for label, model in loaded
    ]


def _load(label: str, path: Path) -> list[Needle]:
    run = sources.folder(path, f"needle {label}", COMMAND)
    file = run / "results.json"
    facts = sources.without_secrets(sources.read_json(file, dict, COMMAND))
    models = facts.pop("models", None)
    if not isinstance(models, dict) or not models:
        raise TPOError(f"{file} names no models; run `{COMMAND}` again")
    try:
        return [_model(name, entry, facts) for name, entry in models.items()]
    except (KeyError, TypeError, ValueError) as error:
        raise TPOError(f"{file} has a model without usable cells ({error!r}); run `{COMMAND}` again") from None


def _model(name: str, entry: dict[str, Any], facts: dict[str, Any]) -> Needle:
    cells = entry["cells"]
    scores = {
        kind: [(int(cell["frames"]), round(float(cell["depth"]), 4), float(cell[kind])) for cell in cells]
        for kind in SCORES
        if cells and all(cell.get(kind) is not None for cell in cells)
    }
    for kind, found in scores.items():
        heat_map(kind, found)  # refuses a place twice and a number out of range
    own = {key: value for key, value in entry.items() if key not in OWN and not key.startswith("mean_")}
    return Needle(name, max(int(cell["n"]) for cell in cells), scores, {**facts, **own})


def section(models: Sequence[Needle], papers: Sequence[Paper]) -> Markup:
    """The means, beside the published one; then for each kind of score every model's map and its difference from the first one's."""
    apart = changes([(model.label, model.facts) for model in models])
    parts = [_means(models, papers), listed(apart, f"Settings that differ from those of {models[0].label}")]
    for kind, name in SCORES.items():
        scored = [model for model in models if kind in model.scores]
        if scored:
            parts += [tag("h3", name), _maps(scored, kind, name.lower())]
    return join(parts, tag("p", NOTE, class_="note"))


def _means(models: Sequence[Needle], papers: Sequence[Paper]) -> Markup:
    rows = [
        row(
            model.label,
            len(next(iter(model.scores.values()), [])),
            model.questions,
            *(f"{mean:.3f}" if (mean := model.mean(kind)) is not None else "\u2013" for kind in SCORES),
            numeric=range(1, 5),
        )
        for model in models
    ]
    said = []
    for paper in papers:
        for one in paper.tables:
            for name, values in one.rows.items():
                if BENCHMARK in values:
                    score = f"{values[BENCHMARK]:.3f}"
                    rows.append(row(f"{name}, published", "", "", score, "\u2013", numeric=range(1, 5)))
                    how = "; ".join(f"{key} {value}" for key, value in paper.protocol.items())
                    said.append(f"Published: {paper.source}, {one.table}; {how}.")
    columns = ["Model", "Cells", "Questions a cell", *(f"Mean, {name.lower()}" for name in SCORES.values())]
    return join(
        table("Mean score over the grid", columns, tag("tbody", rows), numeric=range(1, 5)),
        tag("p", " ".join(said), class_="note") if said else None,
    )


def _maps(models: Sequence[Needle], kind: str, name: str) -> Markup:
    first, *others = models[:MOST_MAPS]
    drawn = [(heat_map, f"{first.label}, {name}", first.scores[kind])]
    apart: dict[str, list[str]] = {}
    for model in others:
        drawn.append((heat_map, f"{model.label}, {name}", model.scores[kind]))
        gains = gained(first.scores[kind], model.scores[kind])
        if why := _apart(first, model) or ("" if gains else "no cell in common with"):
            apart.setdefault(why, []).append(model.label)
        else:
            drawn.append((difference_map, f"{model.label} \u2212 {first.label}, {name}", gains))
    sentences = [f"No difference is drawn for {named(labels)}: {why} {first.label}." for why, labels in apart.items()]
    if len(models) > MOST_MAPS:
        sentences.append(f"Not drawn: {named([model.label for model in models[MOST_MAPS:]])}; their means are above.")
    boxes = [
        tag("div", draw(title, cells), class_="scroll", tabindex="0", role="region", aria_label=f"Heat map: {title}")
        for draw, title, cells in drawn
    ]
    return join(tag("div", boxes, class_="maps"), tag("p", " ".join(sentences), class_="note") if sentences else None)


def _apart(first: Needle, second: Needle) -> str:
    """Why a difference would not be the models': what they were shown or asked; empty if nothing is known against it."""
    haystacks = [model.facts.get("haystack") or {} for model in (first, second)]
    if haystacks[0].get("digest") != haystacks[1].get("digest"):
        return "another haystack than"
    asked = [
        sorted(str([one.get(key) for key in ("shown", "question", "answer")]) for one in model.facts["needles"])
        if isinstance(model.facts.get("needles"), list)
        else None
        for model in (first, second)
    ]
    return "" if asked[0] == asked[1] else "other needles than"


def gained(first: Sequence[Cell], second: Sequence[Cell]) -> list[Cell]:
    """The second grid minus the first where both were measured, rounded to what scores are recorded with."""
    before = {place[:2]: place[2] for place in first}
    return [
        (frames, depth, round(score - before[frames, depth], 6))
        for frames, depth, score in second
        if (frames, depth) in before
    ]
