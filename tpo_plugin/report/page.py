"""The page: reads what the stages left, puts the sections together, writes one self-contained file."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template

from tpo_plugin.errors import TPOError
from tpo_plugin.records import write_text
from tpo_plugin.report import curation, evaluation, gallery, runs, training
from tpo_plugin.report.markup import Markup, escape, join, not_given, tag

TITLE = "Temporal Preference Optimization: report"
NO_PAIRS = not_given("preference pairs", "Give the output folder of `tpo curate` to see them.")
NO_TRAINING = not_given("training run", "Give the output folders of `tpo train` to see their curves.")
NO_EVALUATION = not_given("evaluation", "Give the output folder of `tpo evaluate` to see whether training helped.")


def write_report(
    output: Path, pairs: Path | None, training_runs: dict[str, Path], evaluated: Path | None, title: str = TITLE
) -> Path:
    """Write the report as one HTML file at `output` and return that path.

    `pairs` is an output folder of `tpo curate`, `training_runs` maps labels to output folders of `tpo train`, `evaluated` is one
    of `tpo evaluate`; the page says which were not given. TPOError for a folder that cannot be read and a page that cannot be
    written.
    """
    curated = curation.load(pairs) if pairs else None
    trained = [training.load(label, path) for label, path in training_runs.items()]
    results = evaluation.load(evaluated) if evaluated else None
    html = page(curated, trained, results, title)
    try:
        write_text(output, html)
    except OSError as error:
        raise TPOError(f"cannot write the report to {output} ({error}); choose another path") from None
    return output


def page(
    curated: curation.Curation | None,
    trained: Sequence[training.Run],
    results: evaluation.Evaluation | None,
    title: str,
) -> str:
    """The whole page as HTML text."""
    colours = assign_colours(results.models if results else [], [run.label for run in trained])
    sections = [
        ("runs", "What was run", runs.section(curated, trained, results)),
        ("curation", "Curation", curation.section(curated) if curated else NO_PAIRS),
        ("pairs", "Preference pairs", gallery.section(curated) if curated else NO_PAIRS),
        ("training", "Training", training.section(trained, colours) if trained else NO_TRAINING),
        ("benchmarks", "Benchmarks", evaluation.section(results, colours) if results else NO_EVALUATION),
    ]
    links = [tag("li", tag("a", name, href=f"#{key}")) for key, name, _ in sections]
    body = join(
        tag(
            "header",
            tag("h1", title),
            summary(curated, trained, results),
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


def summary(
    curated: curation.Curation | None, trained: Sequence[training.Run], results: evaluation.Evaluation | None
) -> Markup:
    """The answer first: what the benchmarks show, and on how much it stands."""
    lines: list[Markup] = []
    if results:
        found = evaluation.findings(results)
        lines.append(
            tag("ul", [tag("li", sentence) for sentence in found], class_="findings") if found else NO_COMPARISON
        )
    else:
        lines.append(NO_EVALUATION)
    basis = []
    if curated:
        basis.append(f"{len(curated.kept):,} preference pairs kept of {len(curated.candidates):,}")
    if trained:
        basis.append(f"{len(trained)} training run{'s' if len(trained) > 1 else ''}")
    if results:
        asked = results.questions
        videos = len({(item["task"], item.get("video") or item["id"]) for item in asked})
        basis.append(f"{len(asked):,} benchmark questions on {videos:,} videos")
    return join(lines, tag("p", "Based on ", "; ".join(basis), ".", class_="basis") if basis else None)


NO_COMPARISON = tag("p", "One model was evaluated: there is nothing to compare it with.", class_="absent")
