"""The curation funnel, and the mix of tasks, kinds and lengths that came out of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tpo_plugin.errors import TPOError
from tpo_plugin.options import TASK_MIX
from tpo_plugin.records import PreferencePair, from_json
from tpo_plugin.report import charts, sources
from tpo_plugin.report.markup import Markup, definitions, join, row, table, tag

COMMAND = "tpo curate"


@dataclass(frozen=True)
class Curation:
    """What `tpo curate` left in its output folder; `videos` is the folder that the pairs' video paths start from."""

    recipe: dict[str, Any] | None
    statistics: dict[str, Any]
    candidates: list[PreferencePair]
    videos: Path

    @property
    def kept(self) -> list[PreferencePair]:
        return [pair for pair in self.candidates if pair.drop is None]


def load(path: Path) -> Curation:
    """Read a curation output folder; TPOError names the file that is missing or unreadable."""
    run = sources.folder(path, "pairs", COMMAND)
    statistics = sources.read_json(run / "statistics.json", dict, COMMAND)
    for key, kind in (("funnel", list), ("tasks", dict), ("kinds", dict), ("lengths", dict)):
        if not isinstance(statistics.get(key), kind):
            raise TPOError(f"{run / 'statistics.json'} has no usable `{key}`; run `{COMMAND}` again")
    if not all(
        isinstance(stage, dict) and {"stage", "in", "out", "dropped"} <= stage.keys() for stage in statistics["funnel"]
    ):
        raise TPOError(f"{run / 'statistics.json'} has no usable `funnel`; run `{COMMAND}` again")
    data = sources.read_json(run / "dataset.json", dict, COMMAND)
    candidates = []
    for line, values in enumerate(sources.read_rows(run / "candidates.jsonl", COMMAND), 1):
        try:
            candidates.append(from_json(PreferencePair, values))
        except TPOError as error:
            raise TPOError(f"{run / 'candidates.jsonl'}, record {line}: {error}; run `{COMMAND}` again") from None
    return Curation(sources.read_recipe(run), statistics, candidates, run / str(data.get("video_root", ".")))


def section(curation: Curation) -> Markup:
    """Funnel, kinds, tasks, lengths, and what it cost."""
    statistics = curation.statistics
    return join(
        tag("h3", "Funnel"),
        funnel(statistics["funnel"]),
        tag("h3", "What the kept pairs are about"),
        tag(
            "div",
            task_mix(statistics["tasks"]),
            tag("div", kinds(statistics["kinds"]), lengths(statistics["lengths"])),
            class_="columns",
        ),
        tag("h3", "Effort"),
        effort(statistics),
    )


def funnel(stages: list[dict[str, Any]]) -> Markup:
    """One row a stage: how many came in and went out, and each reason for dropping with its count."""
    rows = []
    for stage in stages:
        dropped = sum(stage["dropped"].values())
        share = stage["out"] / stage["in"] if stage["in"] else 0.0
        reasons = sorted(stage["dropped"].items(), key=lambda item: (-item[1], item[0]))
        listed = [tag("span", tag("code", name), f" {count:,}", class_="reason") for name, count in reasons]
        bar = charts.share_bar(share, 1.0) if stage["in"] else None
        rows.append(
            row(
                stage["stage"], stage.get("unit", ""), f"{stage['in']:,}", f"{stage['out']:,}", f"{dropped:,}", bar,
                listed or "\u2013", numeric=(2, 3, 4),
            )
        )  # fmt: skip
    return join(
        table(
            "Records into and out of each stage",
            ["Stage", "Counts", "In", "Out", "Dropped", "Share that went on", "Dropped because"],
            tag("tbody", rows),
            numeric=(2, 3, 4),
            class_="funnel",
        ),
        tag(
            "p",
            "Stages count different things, so one stage's Out is not the next one's In: a video gives several queries.",
            class_="note",
        ),
    )


def task_mix(tasks: dict[str, int]) -> Markup:
    """The share of each task beside the paper's."""
    total = sum(tasks.values())
    names = [*TASK_MIX, *sorted(set(tasks) - set(TASK_MIX))]
    shares = {name: 100 * tasks.get(name, 0) / total if total else 0.0 for name in names}
    scale = max([*shares.values(), *TASK_MIX.values()]) * 1.05
    rows = []
    for name in names:
        paper = TASK_MIX.get(name)
        rows.append(
            row(
                name.replace("_", " "), f"{tasks.get(name, 0):,}", f"{shares[name]:.1f}",
                "\u2013" if paper is None else f"{paper:.1f}", charts.share_bar(shares[name], scale, paper), numeric=(1, 2, 3),
            )
        )  # fmt: skip
    return table(
        "Tasks: bar, this run; upright tick, the TPO paper\u2019s 10k pairs",
        ["Task", "Pairs", "%", "Paper %", ""],
        tag("tbody", rows),
        numeric=(1, 2, 3),
        class_="mix",
    )


def kinds(counts: dict[str, int]) -> Markup:
    """Localized and comprehensive pairs; the paper has them 5 : 5."""
    return _shares("Kinds (the paper: 50 % localized, 50 % comprehensive)", "Kind", counts)


def lengths(counts: dict[str, int]) -> Markup:
    """The videos' lengths in the paper's four bins."""
    named = {f"{name}\u00a0min".replace("-", "\u2013"): count for name, count in counts.items()}
    return join(
        _shares("Video length of the kept pairs", "Length", named),
        tag(
            "p",
            "The bins are those of the paper\u2019s chart; its shares are not known to this page.",
            class_="note",
        ),
    )


def _shares(caption: str, heading: str, counts: dict[str, int]) -> Markup:
    total = sum(counts.values())
    rows = []
    for name, count in counts.items():
        share = 100 * count / total if total else 0.0
        rows.append(row(name, f"{count:,}", f"{share:.1f}", charts.share_bar(share, 100.0), numeric=(1, 2)))
    return table(caption, [heading, "Pairs", "%", ""], tag("tbody", rows), numeric=(1, 2), class_="mix shares")


def effort(statistics: dict[str, Any]) -> Markup:
    """LLM calls, tokens, cost and wall time, as far as they were recorded."""
    llm = statistics.get("llm") or {}
    cost = llm.get("cost")
    return definitions(
        [
            ("LLM calls", _count(llm.get("calls"))),
            ("answered from the cache", _count(llm.get("cached"))),
            ("tokens in", _count(llm.get("tokens_in"))),
            ("tokens out", _count(llm.get("tokens_out"))),
            ("cost at the recipe\u2019s prices", None if cost is None else f"{cost:,.2f}"),
            ("wall time", clock(statistics.get("seconds"))),
        ],
        class_="facts",
    )


def _count(value: Any) -> str | None:
    return None if value is None else f"{value:,}"


def clock(seconds: float | None) -> str | None:
    """A duration in the units a person would say it in."""
    if seconds is None:
        return None
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
