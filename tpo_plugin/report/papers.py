"""The papers' tables, from the data files in published/, beside what was measured on the same benchmarks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import yaml
from dacite import Config, from_dict

from tpo_plugin.report.answers import Cell, Model
from tpo_plugin.report.markup import Markup, join, table, tag

PAPERS = ("tpo", "temple", "vniah")  # the files in published/
NOTE = (
    "Published numbers come from other software, data and hardware. A difference from them means something only where the list of protocols "
    "below shows none; the baseline that was run here, in the same way, is the one to compare with."
)


@dataclass(frozen=True)
class Benchmark:
    """A benchmark of a paper: its name there, the metric, and lmms-eval's tasks whose mean it is (none: the task of the same name).

    `questions` is how many the benchmark has, whatever the paper says of it.
    """

    name: str
    metric: str
    questions: int | None = None
    tasks: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Table:
    """One table of a paper: the rows' values by benchmark (lmms-eval's name), and what is said of how they were made.

    `table` says what the paper's table is about, `model` what it starts from; a value of `protocol` may be one for each benchmark.
    """

    name: str
    table: str
    model: str
    rows: dict[str, dict[str, float]]
    protocol: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Paper:
    """What one paper reports; `protocol` holds for all its tables that do not say otherwise, `lacking` says what it reports besides."""

    paper: str
    source: str
    benchmarks: dict[str, Benchmark]
    protocol: dict[str, Any]
    tables: list[Table]
    lacking: str = ""

    def stated(self, of: Table, fact: str, benchmark: str) -> Any:
        """What the paper says about `fact` for one benchmark of a table; None if nothing."""
        value = {"questions": self.benchmarks[benchmark].questions, **self.protocol, **of.protocol}.get(fact)
        return value.get(benchmark) if isinstance(value, dict) else value


def papers() -> list[Paper]:
    """All papers whose tables come with the package."""
    folder = files("tpo_plugin.report").joinpath("published")
    texts = [folder.joinpath(f"{name}.yaml").read_text(encoding="utf-8") for name in PAPERS]
    return [from_dict(Paper, yaml.safe_load(text), Config(cast=[float], strict=True)) for text in texts]


def tasks(paper: Paper, benchmark: str) -> list[str]:
    """The tasks of lmms-eval that measure a paper's benchmark."""
    return paper.benchmarks[benchmark].tasks or [benchmark]


def measured(paper: Paper, models: Sequence[Model]) -> list[str]:
    """The paper's benchmarks that some model was run on, in the paper's order."""
    return [
        name
        for name in paper.benchmarks
        if any(all(model.cell(task) for task in tasks(paper, name)) for model in models)
    ]


def section(found: Sequence[Paper], models: Sequence[Model]) -> Markup | None:
    """A table for each paper that shares a benchmark with what was measured; None if none does."""
    parts = [_table(paper, benchmarks, models) for paper in found if (benchmarks := measured(paper, models))]
    if not parts:
        return None
    odd = list(dict.fromkeys(sentence for paper in found for sentence in _others(paper, models)))
    warning = tag("ul", [tag("li", sentence) for sentence in odd], class_="absent") if odd else None
    return join(warning, parts, tag("p", NOTE, class_="note"))


def _others(paper: Paper, models: Sequence[Model]) -> Iterator[str]:
    """The tasks that were not run on as many questions as the benchmark has."""
    for name in measured(paper, models):
        whole = paper.benchmarks[name].questions
        counts = sorted({place[1].result["n"] for model in models if (place := model.cell(name))})
        if whole and counts != [whole]:
            yield (
                f"{name} was run on {' or '.join(f'{count:,}' for count in counts)} questions, the benchmark has {whole:,}: this is a part of "
                "it or another one of its name, and its numbers do not belong beside the published ones."
            )


def _table(paper: Paper, benchmarks: Sequence[str], models: Sequence[Model]) -> Markup:
    names = [paper.benchmarks[name] for name in benchmarks]
    bodies = [
        _body(f"{one.name} ({paper.source}, {one.table})", len(benchmarks), _published(one, benchmarks))
        for one in paper.tables
    ]
    rows = [
        tag("tr", tag("th", tag("bdi", model.label), scope="row"),
            [tag("td", _score(paper, name, model), class_="number") for name in benchmarks])
        for model in models
    ]  # fmt: skip
    bodies.append(_body("Measured here", len(benchmarks), rows))
    columns = ["Model", *(join(one.name, tag("br"), tag("small", f"{one.metric}, %")) for one in names)]
    caption = f"{paper.paper}: published, then measured"
    return join(
        table(caption, columns, bodies, numeric=range(1, len(columns)), class_="published"),
        tag("p", paper.lacking, class_="note") if paper.lacking else None,
    )


def _body(heading: str, columns: int, rows: Sequence[Markup]) -> Markup:
    return tag("tbody", tag("tr", tag("th", heading, colspan=columns + 1, scope="rowgroup"), class_="group"), rows)


def _published(one: Table, benchmarks: Sequence[str]) -> list[Markup]:
    return [
        tag("tr", tag("th", name, scope="row"),
            [tag("td", f"{values[task]:.1f}" if task in values else "\u2013", class_="number") for task in benchmarks])
        for name, values in one.rows.items()
    ]  # fmt: skip


def _score(paper: Paper, benchmark: str, model: Model) -> Markup | str:
    """The harness's score, with the interval where the metric is the plain accuracy, and the number of frames."""
    places = [model.cell(task) for task in tasks(paper, benchmark)]
    cells = [place[1] for place in places if place]
    if len(cells) < len(places):
        return "\u2013"
    value = sum(cell.result["score"] for cell in cells) / len(cells)
    variants = [cell.task for cell, task in zip(cells, tasks(paper, benchmark)) if cell.task != task]
    small = [*_interval(cells[0], paper.benchmarks[benchmark].metric), *_frames(cells), *variants]
    return join(tag("strong", f"{value:.1f}"), " ", tag("small", "; ".join(small)))


def _interval(cell: Cell, metric: str) -> list[str]:
    bounds = cell.result.get("accuracy")
    return [f"{bounds['low']:.1f} to {bounds['high']:.1f}"] if metric == "accuracy" and bounds else []


def _frames(cells: Sequence[Cell]) -> list[str]:
    counts = sorted({cell.frames for cell in cells if cell.frames is not None})
    return [f"{' or '.join(map(str, counts))} frames"] if counts else []
