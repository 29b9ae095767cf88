"""What was run: the settings of each stage that change a number, and the whole recipes behind them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import yaml

from tpo_plugin import __version__
from tpo_plugin.report.answers import Model, Results
from tpo_plugin.report.chains import Part, look, setting
from tpo_plugin.report.curation import Curation, clock, list_facts
from tpo_plugin.report.markup import Markup, definitions, details, join, row, table, tag
from tpo_plugin.report.training import Run
from tpo_plugin.report.words import NOTHING, say


def section(
    curation: Curation | None, runs: Sequence[Run], evaluations: Sequence[Results], compared: Sequence[Model]
) -> Markup:
    """Models, then the settings of curation, training and evaluation."""
    return join(
        models(compared) if compared else None,
        _curation(curation) if curation else None,
        _training(runs) if runs else None,
        [_evaluation(results, len(evaluations) > 1) for results in evaluations],
        tag("p", f"Page made by tpo-plugin {__version__}.", class_="note"),
    )


def models(compared: Sequence[Model]) -> Markup:
    """Which checkpoint each label stands for."""
    made = [_made(model.chain) for model in compared]
    columns = ["Label", "Checkpoint", *(["Made by"] if any(made) else [])]
    rows = [
        row(model.label, tag("code", model.checkpoint or NOTHING), *([steps or NOTHING] if any(made) else []))
        for model, steps in zip(compared, made)
    ]
    return table("Models compared; differences are from the first", columns, tag("tbody", rows))


def _made(chain: Sequence[dict[str, Any]]) -> str:
    """The steps of a chain in words: what they start from, then their names with their stages."""
    if not chain:
        return ""
    names = [f"{step['name']} ({say(step['stages'])})" if step.get("stages") else str(step["name"]) for step in chain]
    return ", then ".join([say(chain[0].get("start")), *names])


def frames(value: Any) -> str:
    """Frame options in words."""
    if not isinstance(value, dict) or "max" not in value:
        return say(value)
    limit = f", of {say(value['max_pixels'])} pixels at most" if value.get("max_pixels") else ""
    return f"{say(value.get('fps'))} a second, at most {say(value['max'])}{limit}"


def _curation(curation: Curation) -> Markup:
    recipe = curation.recipe
    if recipe is None:
        return join(tag("h3", "Curation"), tag("p", "Its recipe was not saved.", class_="absent"))
    generator = look(recipe, "responses") or {}
    model = generator.get("model") or look(generator, "server.model")
    facts = [
        ("videos", say(look(recipe, "videos.source"))),
        ("answers by", tag("code", say(model))),
        ("queries and verdicts by", tag("code", say(look(recipe, "llm.model")))),
        ("frames", frames(recipe.get("frames"))),
        (
            "localized : comprehensive",
            " : ".join(say(part) for part in (look(recipe, "queries.ratio") or {}).values()) or NOTHING,
        ),
        ("rejected side", say(_perturbations(recipe))),
        ("filters", say(look(recipe, "filters.use"))),
        ("seed", say(recipe.get("seed"))),
    ]
    if recipe.get("method") == "temple":
        facts = list_facts(recipe)
    return join(tag("h3", "Curation"), definitions(facts, class_="facts"), _whole(recipe, "curation"))


def _perturbations(recipe: dict[str, Any]) -> dict[str, Any]:
    named = look(recipe, "perturbations") or {}
    return {kind: str(named[kind]).replace("_", " ") for kind in ("localized", "comprehensive") if kind in named}


HOW = (
    ("trained parts", "trainable"),
    ("LoRA", "lora"),
    ("learning rate", "arguments.learning_rate"),
    ("epochs", "arguments.num_train_epochs"),
    ("batch size a device", "arguments.per_device_train_batch_size"),
    ("gradient accumulation", "arguments.gradient_accumulation_steps"),
)
SETTINGS = (
    ("starts from", "model"),
    ("pairs", "data"),
    ("beta", "objective.beta"),
    ("weight of the preference loss", "objective.dpo_alpha"),
    ("weight of the SFT loss", "objective.gamma"),
    ("frames", "frames"),
    *HOW,
    ("seed", "seed"),
)


def _training(runs: Sequence[Run]) -> Markup:
    rows = [row("finished", *("yes" if run.finished else "no" for run in runs))]
    recorded = [run.recipe for run in runs]
    rows += [row(name, *values) for name, values in _set(SETTINGS, recorded, look)]
    shown = table(
        "Settings of each run", ["Setting", *(run.label for run in runs)], tag("tbody", rows), class_="settings"
    )
    recipes = [_whole(run.recipe, f"run {run.label}") for run in runs if run.recipe]
    return join(tag("h3", "Training"), shown, [provenance(run) for run in runs if run.parts], recipes)


PARTS = (
    ("preference loss", "objective.dpo_alpha"),
    ("SFT loss", "objective.gamma"),
    ("beta", "objective.beta"),
    ("level r", "difficulty"),
    ("order of levels", "curriculum"),
    *HOW,
    ("frames", "frames"),
    ("seed", "seed"),
)


def provenance(run: Run) -> Markup:
    """How a checkpoint came to be: its parts in their order, each with its start, its data, what it took and how it was set."""
    told: list[tuple[str, list[Any]]] = [
        ("trainer", [say(part.facts.get("trainer")) for part in run.parts]),
        ("starts from", [_code(look(part.facts, "start.checkpoint")) for part in run.parts]),
        ("its digest", [_code(look(part.facts, "start.digest")) for part in run.parts]),
        ("reference", [_reference(part) for part in run.parts]),
        *((name, [say(part.facts.get(name)) for part in run.parts]) for name in ("data", "pairs", "steps")),
        ("time", [clock(part.facts.get("seconds")) or NOTHING for part in run.parts]),
    ]
    told += _set(PARTS, [part.recipe for part in run.parts], setting)
    told.append(("releases", [say(part.facts.get("versions")) for part in run.parts]))
    rows = [row(name, *values) for name, values in told if any(value != NOTHING for value in values)]
    columns = ["Setting", *(part.name for part in run.parts)]
    return table(f"How {run.label} was made, in this order", columns, tag("tbody", rows), class_="settings")


def _set(
    settings: Sequence[tuple[str, str]], of: Sequence[dict[str, Any] | None], read: Callable[..., Any]
) -> Iterator[tuple[str, list[Any]]]:
    """Each setting that one of the recipes has, in words for each; `read(recipe, path)` finds it."""
    for name, path in settings:
        values = [read(recipe, path) for recipe in of]
        if any(value is not None for value in values):
            yield name, [frames(value) if path == "frames" else say(value) for value in values]


def _reference(part: Part) -> Markup | str:
    """What a preference training compares with."""
    if part.is_sft or part.recipe is None:
        return NOTHING
    other = setting(part.recipe, "reference_model")
    return _code(other) if other else "its start"


def _code(value: Any) -> Markup | str:
    return tag("code", say(value)) if value else NOTHING


def _evaluation(results: Results, several: bool) -> Markup:
    name = f" {results.label}" if several else ""
    facts: list[tuple[str, Any]] = [
        (key.replace("_", " "), frames(value) if key == "frames" else say(value))
        for key, value in results.facts.items()
        if key != "versions" and value not in (None, {}, [])
    ]
    versions = results.facts.get("versions")
    return join(
        tag("h3", f"Evaluation{name}"),
        definitions(facts, class_="facts"),
        tag("p", "Versions: ", say(versions), ".", class_="note") if versions else None,
        _whole(results.recipe, f"evaluation{name}") if results.recipe else None,
    )


def _whole(recipe: dict[str, Any], name: str) -> Markup:
    text = yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True)
    return details(f"Whole recipe of {name}", tag("pre", tag("code", text), tabindex="0"))
