"""Training curves of one or several runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from tpo_plugin.errors import TPOError
from tpo_plugin.report import chains, charts, sources
from tpo_plugin.report.chains import Part
from tpo_plugin.report.markup import Markup, details, join, row, table, tag

COMMAND = "tpo train"
Chart = tuple[str, str, str, float | None]
# History key, title, unit, level of reference. The two log-probabilities share their y range.
CHARTS: tuple[Chart, ...] = (
    ("loss", "Loss", "nats", None),
    ("loss/sft", "SFT term of the loss", "nats a token", None),
    ("grad_norm", "Norm of the gradient, before clipping", "L2", None),
    ("rewards/margins", "Reward margin, chosen over rejected", "nats", 0.0),
    ("rewards/accuracies", "Reward accuracy", "share of pairs", 0.5),
    ("logps/chosen", "Log-probability of the chosen answer", "nats", None),
    ("logps/rejected", "Log-probability of the rejected answer", "nats", None),
)
KIND_CHARTS: tuple[Chart, ...] = (
    ("rewards/margins/localized", "Reward margin, localized pairs", "nats", 0.0),
    ("rewards/margins/comprehensive", "Reward margin, comprehensive pairs", "nats", 0.0),
    ("rewards/margins/caption", "Reward margin, caption pairs", "nats", 0.0),
)
SFT_CHARTS: tuple[Chart, ...] = (
    ("loss", "Loss of supervised fine-tuning", "nats a token", None),
    ("grad_norm", "Norm of its gradient, before clipping", "L2", None),
)
SHARED_RANGE = ("logps/chosen", "logps/rejected")


@dataclass(frozen=True)
class Run:
    """One training run; `finished` is false while its completion marker is missing. `parts` are those that it was made of, if several."""

    label: str
    recipe: dict[str, Any] | None
    history: list[dict[str, Any]]
    finished: bool
    parts: Sequence[Part] = ()

    @property
    def borders(self) -> list[float]:
        """The last logged step of each part but the last one."""
        steps = [(entry.get("stage"), float(entry["step"])) for entry in self.history if "step" in entry]
        return [step for (stage, step), (following, _) in pairwise(steps) if stage != following]

    def values(self, key: str) -> list[tuple[float, float]]:
        """The (step, value) points of a logged quantity; a value that is not a finite number is NaN."""
        return [
            (float(entry["step"]), _finite(entry[key])) for entry in self.history if key in entry and "step" in entry
        ]


def _finite(value: Any) -> float:
    usable = isinstance(value, (int, float)) and math.isfinite(value)
    return float(value) if usable else math.nan


def load(label: str, path: Path) -> Run:
    """Read the output folder of a training or of a chain; TPOError names the file that is missing or unreadable."""
    run = sources.folder(path, f"training run {label}", COMMAND)
    recipe = sources.read_recipe(run)
    if (run / "chain.json").is_file() or chains.look(recipe, "steps"):
        return _chain(label, run, recipe)
    history = sources.read_json(run / "history.json", list, COMMAND) if chains.state_of(run) is None else []
    if not all(isinstance(entry, dict) for entry in history):
        raise TPOError(f"{run / 'history.json'} must hold a list of objects; run `{COMMAND}` again")
    history = chains.history_of(run)
    parts = chains.of_folder(run)
    several = parts if any("stage" in entry for entry in history) else ()
    ended = (run / "done.json").exists() or chains.state_of(run) is not None
    loaded = Run(label, recipe, history, ended, several)
    if not loaded.values("loss"):
        raise TPOError(f"{run / 'history.json'} has no step with a `loss`; let `{COMMAND}` log at least once")
    return loaded


def _chain(label: str, run: Path, recipe: dict[str, Any] | None) -> Run:
    """A chain as one run, with the history of all its parts."""
    parts, finished = chains.of_chain(run)
    loaded = Run(label, recipe, chains.joined(parts), finished, parts)
    if not loaded.values("loss"):
        raise TPOError(f"no step of the chain in {run} has logged a `loss` yet; let `{COMMAND}` log at least once")
    return loaded


def section(runs: Sequence[Run], colours: dict[str, int]) -> Markup:
    """A chart for each quantity that any run logged, and the numbers behind them."""
    by_kind = _figures(runs, KIND_CHARTS, [key for key, *_ in KIND_CHARTS], colours)
    unfinished = [run.label for run in runs if not run.finished]
    warning = (
        f"Not finished (no completion marker): {', '.join(unfinished)}. The curves end where the run stands."
        if unfinished
        else None
    )
    return join(
        tag("p", warning, class_="absent") if warning else None,
        _figures(runs, CHARTS, SHARED_RANGE, colours),
        tag(
            "p",
            "Thin lines are the logged values, thick ones their trailing mean over a tenth of the run. The loss of runs with other weights is "
            "another quantity: compare its terms. A reward is beta times the "
            "log-probability ratio of policy to reference; the dashed level is where a policy equal to its reference stands. The two "
            "log-probability charts share one scale: a preference loss may lower both sides. An upright dashed line is where the next step of a "
            "chain, or the next stage, begins.",
            class_="note",
        ),
        join(tag("h3", "By kind of pair"), by_kind) if by_kind else None,
        supervised(runs, colours),
        details("Numbers behind the curves", numbers(runs)),
    )


def supervised(runs: Sequence[Run], colours: dict[str, int]) -> Markup | None:
    """Loss and gradient of all supervised fine-tuning, each from its own first step; None where the charts of the runs show it so."""
    alone = [
        Run(run.label, part.recipe, part.history, run.finished)
        for run in runs
        for part in run.parts or [Part("", run.recipe, run.history)]
        if part.is_sft and part.history
    ]
    if len(alone) < 2 or not any(run.parts for run in runs):
        return None
    figures = _figures(alone, SFT_CHARTS, (), colours)
    note = "The supervised steps of all runs, each counted from its own start: with a preference training before it, and without."
    return join(tag("h3", "Supervised fine-tuning"), tag("p", note, class_="note"), figures)


def _figures(
    runs: Sequence[Run], drawn: Sequence[Chart], shared: Sequence[str], colours: dict[str, int]
) -> Markup | None:
    """The charts of what was logged; those named in `shared` have one y range. None if nothing was."""
    together = [curve for key in shared for curve in _curves(runs, key, colours)]
    limits = charts.y_range(together) if together else None
    figures = []
    for key, title, unit, reference in drawn:
        curves = _curves(runs, key, colours)
        if curves:
            chart = charts.line_chart(title, curves, unit, limits if key in shared else None, reference)
            figures.append(tag("figure", tag("figcaption", title, " ", tag("small", unit)), chart))
    return tag("div", figures, class_="charts") if figures else None


def _curves(runs: Sequence[Run], key: str, colours: dict[str, int]) -> list[charts.Curve]:
    curves = [charts.Curve(run.label, run.values(key), colours[run.label], borders=run.borders) for run in runs]
    return [curve for curve in curves if any(not math.isnan(y) for _, y in curve.points)]


def numbers(runs: Sequence[Run]) -> Markup:
    """First and last logged value of each quantity, and the mean over the last tenth of the run."""
    bodies = []
    for key, title, unit, _ in (*CHARTS, *KIND_CHARTS):
        rows = []
        for run in runs:
            points = [point for point in run.values(key) if not math.isnan(point[1])]
            if points:
                tail = [y for _, y in points[-max(1, len(points) // 10) :]]
                shown = [points[0][1], points[-1][1], sum(tail) / len(tail)]
                rows.append(
                    row(run.label, f"{points[-1][0]:g}", *(charts.number(y, 4) for y in shown), numeric=range(1, 5))
                )
        if rows:
            heading = tag("tr", tag("th", f"{title} ({unit})", scope="rowgroup", colspan=5))
            bodies.append(tag("tbody", heading, rows))
    columns = ["Run", "Last step", "First", "Last", "Mean of last tenth"]
    return table("Logged values of each run", columns, bodies, numeric=range(1, 5))
