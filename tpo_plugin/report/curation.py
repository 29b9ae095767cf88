"""The curation funnel, and the mix of tasks, kinds and lengths that came out of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tpo_plugin.dataset.statistics import SHOT_STEPS, paper_mix, shown_tasks
from tpo_plugin.errors import TPOError
from tpo_plugin.options.shots import PAPER_VIDEOS
from tpo_plugin.records import PreferencePair, from_json
from tpo_plugin.report import charts, sources
from tpo_plugin.report.chains import look
from tpo_plugin.report.markup import Markup, definitions, join, row, table, tag
from tpo_plugin.report.words import say

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
        shot_steps(statistics["shots"]) if statistics.get("shots") else None,
        tag("h3", "What the kept pairs are about"),
        tag(
            "div",
            task_mix(shown_tasks(statistics["tasks"], "shots" in statistics)),
            tag("div", kinds(statistics["kinds"], "shots" in statistics), lengths(statistics["lengths"])),
            class_="columns",
        ),
        levels(statistics["difficulties"]) if statistics.get("difficulties") else None,
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


def shot_steps(shots: dict[str, int]) -> Markup:
    """How many videos each of TEMPLE's two steps left, beside the paper's."""
    rows = []
    for key, said in SHOT_STEPS.items():
        shares = [100 * counts[key] / counts["videos"] if counts["videos"] else 0.0 for counts in (shots, PAPER_VIDEOS)]
        rows.append(
            row(
                said, f"{shots[key]:,}", f"{shares[0]:.1f}", f"{PAPER_VIDEOS[key]:,}", f"{shares[1]:.1f}",
                charts.share_bar(shares[0], 100.0, shares[1]), numeric=(1, 2, 3, 4),
            )
        )  # fmt: skip
    return table(
        "Videos that the rules left: bar, this run; upright tick, TEMPLE\u2019s paper",
        ["Step", "Videos", "%", "Paper", "Paper %", ""],
        tag("tbody", rows),
        numeric=(1, 2, 3, 4),
        class_="mix",
    )


def levels(difficulties: dict[str, dict[str, int]]) -> Markup:
    """The kept pairs of each perturbation at each difficulty."""
    names = list(next(iter(difficulties.values())))
    numeric = tuple(range(1, len(names) + 2))
    rows = [
        row(name, *(f"{counts[level]:,}" for level in names), f"{sum(counts.values()):,}", numeric=numeric)
        for name, counts in difficulties.items()
    ]
    return table(
        "Kept pairs by perturbation and difficulty r (a large r is easy)",
        ["Perturbation", *(f"r = {level}" for level in names), "All"],
        tag("tbody", rows),
        numeric=numeric,
        class_="mix",
    )


def list_facts(recipe: dict[str, Any]) -> list[tuple[str, Any]]:
    """What made the pairs of perturbed lists of shots (`method: temple`)."""

    def model(section: str) -> Markup:
        return tag("code", say(look(recipe, f"{section}.model") or look(recipe, f"{section}.server.model")))

    shots = recipe.get("shots") or {}
    rules = ("min_shots", "max_shots", "min_seconds", "max_seconds", "min_groups", "max_groups", "similarity")
    return [
        ("videos", say(look(recipe, "videos.source"))),
        ("shots described by", model("captions.generator")),
        ("descriptions summed up by", model("responses")),
        ("shot detector", say(shots.get("detector"))),
        ("vision encoder", tag("code", say(shots.get("encoder")))),
        ("rules on shots", say({name.replace("_", " "): shots[name] for name in rules if name in shots})),
        ("perturbations of the list", say(look(recipe, "perturbations.lists"))),
        ("difficulties r", say(look(recipe, "perturbations.levels"))),
        ("filters", say(look(recipe, "filters.use"))),
        ("seed", say(recipe.get("seed"))),
    ]


def task_mix(tasks: dict[str, int]) -> Markup:
    """The share of each task beside the TPO paper's."""
    total, mix = sum(tasks.values()), paper_mix(tasks)
    names = [*mix, *sorted(set(tasks) - set(mix))]
    shares = {name: 100 * tasks.get(name, 0) / total if total else 0.0 for name in names}
    scale = max([1.0, *shares.values(), *mix.values()]) * 1.05
    rows = []
    for name in names:
        paper = mix.get(name)
        rows.append(
            row(
                name.replace("_", " "), f"{tasks.get(name, 0):,}", f"{shares[name]:.1f}",
                "\u2013" if paper is None else f"{paper:.1f}", charts.share_bar(shares[name], scale, paper), numeric=(1, 2, 3),
            )
        )  # fmt: skip
    return table(
        "Tasks: bar, this run; upright tick, the TPO paper\u2019s 10k pairs" if mix else "Tasks",
        ["Task", "Pairs", "%", "Paper %", ""],
        tag("tbody", rows),
        numeric=(1, 2, 3),
        class_="mix",
    )


def kinds(counts: dict[str, int], listed: bool) -> Markup:
    """Localized and comprehensive pairs; the TPO paper has them 5 : 5. Pairs of lists of shots (`listed`) are neither."""
    paper = "" if listed else " (the paper: 50 % localized, 50 % comprehensive)"
    return _shares(f"Kinds{paper}", "Kind", counts)


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
