"""The page: reads what the stages left, puts the sections together, writes one self-contained file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from string import Template

from tpo_plugin.records import write_text
from tpo_plugin.report import answers, comparison, findings, gallery, needle, papers, protocol, runs, sweep
from tpo_plugin.report import curation as curation_part
from tpo_plugin.report import evaluation as evaluation_part
from tpo_plugin.report import training as training_part
from tpo_plugin.report.comparison import Comparison
from tpo_plugin.report.curation import Curation
from tpo_plugin.report.markup import Markup, escape, join, not_given, tag
from tpo_plugin.report.training import Run

TITLE = "Temporal Preference Optimization: report"
NO_PAIRS = not_given("preference pairs", "tpo curate", "them")
NO_TRAINING = not_given("training run", "tpo train", "its curves")
NO_NEEDLE = not_given("needle results", "tpo needle", "where in a long video a model still sees one frame")
NOT_PUBLISHED = tag("p", "No benchmark was run that the papers report.", class_="absent")
NO_EVALUATION = not_given("evaluation", "tpo evaluate", "whether training helped")


def write_report(
    output: Path,
    pairs: Path | None,
    training: Mapping[str, Path],
    evaluations: Mapping[str, Path],
    title: str = TITLE,
    needles: Mapping[str, Path] | None = None,
) -> Path:
    """Write the report as one HTML file at `output` and return that path.

    `pairs` is an output folder of `tpo curate`; `training`, `evaluations` and `needles` map labels to output folders of
    `tpo train`, `tpo evaluate` and `tpo needle`. The page says which were not given. TPOError for a folder that cannot be read and a page that cannot be written.
    """
    curated = curation_part.load(pairs) if pairs else None
    trained = [training_part.load(label, path) for label, path in training.items()]
    evaluated = answers.load_all(evaluations)
    searched = needle.load_all(needles or {})
    html = page(curated, trained, evaluated, searched, title)
    write_text(output, html)
    return output


def page(
    curated: Curation | None,
    trained: Sequence[Run],
    evaluated: Sequence[answers.Results],
    searched: Sequence[needle.Needle],
    title: str,
) -> str:
    """The whole page as HTML text."""
    models = answers.combine(evaluated)
    compared = comparison.match(models) if models else None
    colours = assign_colours([model.label for model in models], [run.label for run in trained])
    published = papers.papers()
    benchmarks = _benchmarks(models, compared, colours) if compared else NO_EVALUATION
    sections = [
        ("runs", "What was run", runs.section(curated, trained, evaluated, models)),
        ("curation", "Curation", curation_part.section(curated) if curated else NO_PAIRS),
        ("pairs", "Preference pairs", gallery.section(curated) if curated else NO_PAIRS),
        ("training", "Training", training_part.section(trained, colours) if trained else NO_TRAINING),
        ("benchmarks", "Benchmarks", benchmarks),
        ("needle", "Needle in a haystack", needle.section(searched, published) if searched else NO_NEEDLE),
        ("published", "Published numbers", papers.section(published, models) or NOT_PUBLISHED),
        (
            "protocol",
            "What differs in protocol",
            protocol.section(models, evaluated, published) if models else NO_EVALUATION,
        ),
    ]
    links = [tag("li", tag("a", name, href=f"#{key}")) for key, name, _ in sections]
    body = join(
        tag(
            "header",
            tag("h1", title),
            summary(curated, trained, compared),
            tag("nav", tag("ul", links), aria_label="Sections"),
        ),
        tag("main", [tag("section", tag("h2", name), content, id=key) for key, name, content in sections], id="main"),
    )
    here = files("tpo_plugin.report")
    template = Template(here.joinpath("template.html").read_text(encoding="utf-8"))
    style = here.joinpath("style.css").read_text(encoding="utf-8")
    return template.substitute(title=escape(title), style=style, body=body)


def _benchmarks(models: Sequence[answers.Model], compared: Comparison, colours: dict[str, int]) -> Markup:
    apart = list(dict.fromkeys(setting for setting, *_ in protocol.between_models(models)))
    warning = (
        tag(
            "p",
            "Not all models were run alike: ",
            tag("a", comparison.named(apart), href="#protocol"),
            " differ.",
            class_="absent",
        )
        if apart
        else None
    )
    by_frames = sweep.sweeps(models)
    return join(
        warning,
        evaluation_part.section(compared, colours),
        join(tag("h3", "By number of frames"), sweep.section(by_frames, colours)) if by_frames else None,
        tag("h3", "As lmms-eval reports it"),
        evaluation_part.harness(models),
    )


def assign_colours(models: Sequence[str], labels: Sequence[str]) -> dict[str, int]:
    """One colour a label, the same in every section; the first is the neutral one of the model that others are compared with."""
    return {label: at for at, label in enumerate(dict.fromkeys([*(models or [""]), *labels]))}


def summary(curated: Curation | None, trained: Sequence[Run], compared: Comparison | None) -> Markup:
    """The answer first: what the benchmarks show, and on how much it stands."""
    basis = []
    if curated:
        basis.append(f"{len(curated.kept):,} preference pairs kept of {len(curated.candidates):,}")
    if trained:
        basis.append(f"{len(trained)} training run{'s' if len(trained) > 1 else ''}")
    if compared:
        basis.append(f"{len(compared.questions):,} benchmark questions on {compared.videos:,} videos")
    return join(
        findings.answer(compared) if compared else NO_EVALUATION,
        tag("p", "Based on ", "; ".join(basis), ".", class_="basis") if basis else None,
    )
