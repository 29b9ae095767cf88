"""The page: reads what the stages left, puts the sections together, writes one self-contained file."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template

from tpo_plugin.records import write_text
from tpo_plugin.report import comparison, gallery, runs
from tpo_plugin.report import curation as curation_part
from tpo_plugin.report import evaluation as evaluation_part
from tpo_plugin.report import training as training_part
from tpo_plugin.report.comparison import Evaluation
from tpo_plugin.report.curation import Curation
from tpo_plugin.report.markup import Markup, escape, join, not_given, tag
from tpo_plugin.report.training import Run

TITLE = "Temporal Preference Optimization: report"
NO_PAIRS = not_given("preference pairs", "tpo curate", "them")
NO_TRAINING = not_given("training run", "tpo train", "its curves")
NO_COMPARISON = tag("p", "One model was evaluated: there is nothing to compare it with.", class_="absent")
NO_EVALUATION = not_given("evaluation", "tpo evaluate", "whether training helped")


def write_report(
    output: Path, pairs: Path | None, training: dict[str, Path], evaluation: Path | None, title: str = TITLE
) -> Path:
    """Write the report as one HTML file at `output` and return that path.

    `pairs` is an output folder of `tpo curate`, `training` maps labels to output folders of `tpo train`, `evaluation` is one of
    `tpo evaluate`; the page says which were not given. TPOError for a folder that cannot be read and a page that cannot be
    written.
    """
    curated = curation_part.load(pairs) if pairs else None
    trained = [training_part.load(label, path) for label, path in training.items()]
    evaluated = comparison.load(evaluation) if evaluation else None
    html = page(curated, trained, evaluated, title)
    write_text(output, html)
    return output


def page(curated: Curation | None, trained: Sequence[Run], evaluated: Evaluation | None, title: str) -> str:
    """The whole page as HTML text."""
    colours = assign_colours(evaluated.models if evaluated else [], [run.label for run in trained])
    sections = [
        ("runs", "What was run", runs.section(curated, trained, evaluated)),
        ("curation", "Curation", curation_part.section(curated) if curated else NO_PAIRS),
        ("pairs", "Preference pairs", gallery.section(curated) if curated else NO_PAIRS),
        ("training", "Training", training_part.section(trained, colours) if trained else NO_TRAINING),
        ("benchmarks", "Benchmarks", evaluation_part.section(evaluated, colours) if evaluated else NO_EVALUATION),
    ]
    links = [tag("li", tag("a", name, href=f"#{key}")) for key, name, _ in sections]
    body = join(
        tag(
            "header",
            tag("h1", title),
            summary(curated, trained, evaluated),
            tag("nav", tag("ul", links), aria_label="Sections"),
        ),
        tag("main", [tag("section", tag("h2", name), content, id=key) for key, name, content in sections], id="main"),
    )
    here = files("tpo_plugin.report")
    template = Template(here.joinpath("template.html").read_text(encoding="utf-8"))
    style = here.joinpath("style.css").read_text(encoding="utf-8")
    return template.substitute(title=escape(title), style=style, body=body)


def assign_colours(models: Sequence[str], labels: Sequence[str]) -> dict[str, int]:
    """One colour a label, the same in every section; the first is the neutral one of the model that others are compared with."""
    return {label: at for at, label in enumerate(dict.fromkeys([*(models or [""]), *labels]))}


def summary(curated: Curation | None, trained: Sequence[Run], evaluated: Evaluation | None) -> Markup:
    """The answer first: what the benchmarks show, and on how much it stands."""
    basis = []
    if curated:
        basis.append(f"{len(curated.kept):,} preference pairs kept of {len(curated.candidates):,}")
    if trained:
        basis.append(f"{len(trained)} training run{'s' if len(trained) > 1 else ''}")
    if evaluated:
        basis.append(f"{len(evaluated.questions):,} benchmark questions on {evaluated.videos:,} videos")
    return join(_answer(evaluated), tag("p", "Based on ", "; ".join(basis), ".", class_="basis") if basis else None)


def _answer(evaluated: Evaluation | None) -> Markup:
    if not evaluated:
        return NO_EVALUATION
    sentences = evaluation_part.findings(evaluated)
    return tag("ul", [tag("li", sentence) for sentence in sentences], class_="findings") if sentences else NO_COMPARISON
