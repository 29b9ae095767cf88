"""What differs in protocol: between the measured runs, and between them and the papers."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tpo_plugin.folders import differences
from tpo_plugin.report.answers import Cell, Model, Results, asked
from tpo_plugin.report.comparison import named
from tpo_plugin.report.markup import Markup, details, join, row, table, tag
from tpo_plugin.report.papers import Paper, Table, measured, tasks
from tpo_plugin.report.words import say

NOT_STATED = "not stated in the paper"
NOT_RECORDED = "not recorded"
NO_LIMIT = "no limit"
MOST_LINES, LONGEST = 40, 300  # of differences between folders, and characters of one
PLACES = (
    "model",
    "models",
    "cells",
    "tasks",
    "sweep",
    "data",
    "output",
    "data_digest",
)  # what a folder holds, not how it was made

# Facts of a wrapper that stand in a setting already, or belong to the model that it loaded.
TOLD = {
    *(
        "model",
        "checkpoint",
        "peft",
        "max_frames_num",
        "fps",
        "max_side",
        "max_pixels",
        "tokens_per_frame",
        "dtype",
        "time_instruction",
    ),
    *(
        "mm_spatial_pool_mode",
        "mm_newline_position",
        "conv_template",
        "chat_template",
        "attn_implementation",
        "transformers",
    ),
}


@dataclass(frozen=True)
class Setting:
    """A part of the protocol: the key under which papers state it, its name, how to read it from a cell, and what a recorded None means."""

    key: str
    name: str
    read: Callable[[Results, str, Cell], Any]
    none: str = "none"


def _recorded(*names: str) -> Callable[[Results, str, Cell], Any]:
    """Reads the first of these names that any record of the cell holds: of the cell, its model, its wrapper, its run.

    A recorded None counts: a wrapper that says so has no such limit. NOT_RECORDED where no record has the name.
    """

    def read(results: Results, model: str, cell: Cell) -> Any:
        for record in _records(results, model, cell):
            for name in names:
                if name in record:
                    return record[name]
        return NOT_RECORDED

    return read


def _records(results: Results, model: str, cell: Cell) -> Iterator[dict[str, Any]]:
    """The nearest first. A wrapper's own account of what it used counts more than what it was asked for."""
    for record in (cell.result, results.models[model], results.facts):
        wrapper = record.get("wrapper")
        if isinstance(wrapper, dict):
            yield from (part for part in (wrapper, wrapper.get("facts"), wrapper.get("args")) if isinstance(part, dict))
        yield record
    frames = results.facts.get("frames")
    if isinstance(frames, dict):
        yield frames


def _wrapper(results: Results, model: str, cell: Cell) -> Any:
    for record in (cell.result, results.models[model], results.facts):
        wrapper = record.get("wrapper")
        if wrapper:
            return wrapper.get("model", NOT_RECORDED) if isinstance(wrapper, dict) else wrapper
    return NOT_RECORDED


def _data(results: Results, model: str, cell: Cell) -> Any:
    digest = results.facts.get("data_digest")
    known = digest.get(cell.task) if isinstance(digest, dict) else None
    return known or cell.result.get("questions", NOT_RECORDED)


def _subtitles(results: Results, task: str) -> str:
    if "subtitle" not in task:
        return "none"
    shown = results.facts.get("subtitled", {}).get(task)
    return f"shown for {shown} videos" if shown else "shown"


SETTINGS = (
    Setting("frames", "frames at most", lambda results, model, cell: cell.frames, "the wrapper\u2019s own"),
    Setting("fps", "frames a second at most", _recorded("fps", "video_fps"), NO_LIMIT),
    Setting("max_side", "longest side in pixels", _recorded("max_side"), NO_LIMIT),
    Setting("max_pixels", "pixels a frame at most", _recorded("max_pixels"), NO_LIMIT),
    Setting("tokens_per_frame", "tokens a frame", _recorded("tokens_per_frame")),
    Setting("pooling", "pooling", _recorded("mm_spatial_pool_mode", "pooling")),
    Setting("newline", "newline tokens", _recorded("mm_newline_position", "newline")),
    Setting("time_instruction", "time instruction", _recorded("time_instruction", "add_time_instruction")),
    Setting("template", "conversation template", _recorded("conv_template", "chat_template")),
    Setting("prompt", "prompts (hash)", _recorded("prompts")),
    Setting("generation", "generation", _recorded("generation")),
    Setting("subtitles", "subtitles", lambda results, model, cell: _subtitles(results, cell.task)),
    Setting("wrapper", "wrapper", _wrapper),
    Setting("versions", "versions", _recorded("versions")),
    Setting("dtype", "number format", _recorded("dtype", "torch_dtype")),
    Setting("extractor", "answer extractor", _recorded("extractor")),
    Setting("attention", "attention", _recorded("attn_implementation")),
    Setting(
        "unreadable", "unreadable videos", lambda results, model, cell: cell.result.get("unreadable", NOT_RECORDED)
    ),
    Setting("data", "data (hash)", _data),
    Setting("questions", "questions", lambda results, model, cell: cell.result["n"]),
)


def values(setting: Setting, models: Sequence[Model], task: str) -> dict[str, list[str]]:
    """Each value of a setting on a benchmark, in words, with the models that were run with it."""
    found: dict[str, list[str]] = {}
    for model in models:
        place = model.cell(task)
        if place:
            results, cell = place
            name = next(name for folder, name in model.parts if folder is results)
            value = setting.read(results, name, cell)
            found.setdefault(setting.none if value is None else say(value), []).append(model.label)
    return found


def _rest(models: Sequence[Model], task: str) -> dict[str, dict[str, list[str]]]:
    """As `values`, of each fact without a setting that the wrappers recorded of their cells; those that recorded none are left out."""
    facts = {}
    for model in models:
        place = model.cell(task)
        wrapper = place[1].result.get("wrapper") if place else None
        if isinstance(wrapper, dict):
            facts[model.label] = dict(_flat({key: value for key, value in wrapper.items() if key not in TOLD}))
    found: dict[str, dict[str, list[str]]] = {}
    for key in dict.fromkeys(key for known in facts.values() for key in known):
        for label, known in facts.items():
            value = say(known[key]) if key in known else NOT_RECORDED
            found.setdefault(f"wrapper: {key}", {}).setdefault(value, []).append(label)
    return found


def _flat(facts: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values under dotted keys."""
    for key, value in facts.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def in_words(found: dict[str, list[str]]) -> str:
    """One value alone; several with their models."""
    if len(found) == 1:
        return next(iter(found))
    return "; ".join(f"{value} ({named(labels)})" for value, labels in found.items())


def between_models(models: Sequence[Model]) -> list[tuple[str, str, str]]:
    """(setting, benchmarks, values with their models) of every setting in which the compared cells differ."""
    found: dict[tuple[str, str], list[str]] = {}
    for task in asked(models):
        known = {setting.name: values(setting, models, task) for setting in SETTINGS}
        for name, by_value in {**known, **_rest(models, task)}.items():
            if len(by_value) > 1:
                found.setdefault((name, in_words(by_value)), []).append(task)
    return [(name, named(of), text) for (name, text), of in found.items()]


def between_folders(folders: Sequence[Results]) -> list[str]:
    """Everything else that the folders recorded differently from the first, a line each."""
    return changes(
        [
            (results.label, {key: value for key, value in results.facts.items() if key not in PLACES})
            for results in folders
        ]
    )


def changes(recorded: Sequence[tuple[str, dict[str, Any]]]) -> list[str]:
    """`label: key: value of the first -> value here` for each fact that differs from the first one's."""
    return [
        f"{label}: {textwrap.shorten(line, LONGEST, placeholder=' ...')}"
        for label, facts in recorded[1:]
        for line in differences(recorded[0][1], facts)
    ]


def listed(lines: Sequence[str], title: str) -> Markup | None:
    """The lines on demand, as many as can be read; None without any."""
    if not lines:
        return None
    shown = [*lines[:MOST_LINES], *([f"and {len(lines) - MOST_LINES} more"] if len(lines) > MOST_LINES else [])]
    return details(f"{title} ({len(lines)})", tag("ul", [tag("li", line) for line in shown]))


def section(models: Sequence[Model], folders: Sequence[Results], papers: Sequence[Paper]) -> Markup:
    """Both lists: between what was measured, and against each paper that shares a benchmark with it."""
    apart = between_models(models)
    if len(models) < 2:
        own = None
    elif apart:
        own = table(
            "Between the models compared", ["Setting", "Benchmarks", "Values"], tag("tbody", [row(*line) for line in apart]),
            class_="settings",
        )  # fmt: skip
    else:
        own = tag("p", "All models were run alike in everything that is recorded of their cells.")
    others = listed(between_folders(folders), "Other settings that differ between the folders")
    return join(own, others, [_against(paper, models) for paper in papers])


def _against(paper: Paper, models: Sequence[Model]) -> Markup | None:
    """What the paper states beside what was measured; settings that it does not state anywhere are one sentence at the end."""
    benchmarks = measured(paper, models)
    if not benchmarks:
        return None
    protocols = _protocols(paper)
    rows: dict[tuple[str, str, Markup], list[str]] = {}
    unstated = []
    for setting in SETTINGS:
        stated = [
            name for name in benchmarks if any(paper.stated(one, setting.key, name) is not None for one in protocols)
        ]
        for name in stated:
            found = _found(setting, models, tasks(paper, name))
            told = join(tag("td", _verdict(paper.stated(one, setting.key, name), found)) for one in protocols)
            rows.setdefault((setting.name, in_words(found), told), []).append(paper.benchmarks[name].name)
        if not stated:
            unstated.append(setting.name)
    body = [
        tag("tr", tag("th", name, scope="row"), tag("td", named(of)), tag("td", found), told)
        for (name, found, told), of in rows.items()
    ]
    caption = f"{paper.paper}, {paper.source}: what it states, and what was measured here"
    columns = ["Setting", "Benchmarks", "Measured here", *(f"Paper, {one.model}" for one in protocols)]
    return join(
        table(caption, columns, tag("tbody", body), class_="settings"),
        tag("p", f"{NOT_STATED.capitalize()}: {', '.join(unstated)}.", class_="note") if unstated else None,
    )


def _found(setting: Setting, models: Sequence[Model], measured_by: Sequence[str]) -> dict[str, list[str]]:
    """`values` over the tasks that make up one benchmark."""
    found: dict[str, list[str]] = {}
    for task in measured_by:
        for value, labels in values(setting, models, task).items():
            found[value] = list(dict.fromkeys([*found.get(value, []), *labels]))
    return found


def _protocols(paper: Paper) -> list[Table]:
    """One table for each protocol of a paper."""
    return [
        one
        for at, one in enumerate(paper.tables)
        if one.protocol not in [other.protocol for other in paper.tables[:at]]
    ]


def _verdict(stated: Any, found: Iterable[str]) -> Markup:
    """A paper's value, and whether every measured one is that; where the paper uses more than a word the reader decides."""
    if stated is None:
        return tag("em", NOT_STATED)
    text, seen = say(stated), list(found)
    if seen == [text]:
        return join(text, " ", tag("small", "(the same)"))
    if NOT_RECORDED in seen or " " in text:
        return join(text, " ", tag("small", "(compare)"))
    return join(text, " ", tag("strong", "(differs)"))
