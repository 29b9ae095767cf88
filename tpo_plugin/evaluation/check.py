"""`tpo evaluate --check`: is everything in place, before a GPU hour is spent. Loads no model and asks no network."""

from __future__ import annotations

import inspect
import os
import tempfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

from tpo_plugin.errors import EvaluationError, TPOError, VideoError
from tpo_plugin.evaluation.checkpoints import check_model
from tpo_plugin.evaluation.layouts import OF_VIDEOS, SUBTITLED, layout_of, with_members
from tpo_plugin.evaluation.run import check_recipe, local_benchmark, versions
from tpo_plugin.evaluation.workers import Harness
from tpo_plugin.evaluation.wrapper import OF_CHECKOUTS, upstream_of, wrapper_class
from tpo_plugin.integrations.lmms_eval import MODEL_ID, MODELS
from tpo_plugin.options import EvaluateRecipe
from tpo_plugin.video import probe


def check(recipe: EvaluateRecipe) -> tuple[list[str], bool]:
    """One line for each part of the recipe, `ok` or `todo` and what to do, and whether all are ok.

    RecipeError for a recipe that says nothing that could be checked.
    """
    check_recipe(recipe)
    parts: list[tuple[str, Callable[[], str]]] = [
        ("packages", lambda: check_packages(recipe)),
        (f"wrapper {recipe.wrapper}", lambda: check_wrapper(recipe)),
        *((f"model {label}", lambda path=path: check_model(recipe, path)) for label, path in recipe.models.items()),
        *((f"task {task}", lambda task=task: check_task(recipe, task)) for task in with_members(recipe.tasks)),
    ]
    lines, fine = [], True
    for name, part in parts:
        try:
            lines.append(f"ok    {name}: {part()}")
        except TPOError as error:
            lines.append(f"todo  {name}: {error}")
            fine = False
    return lines, fine


def check_packages(recipe: EvaluateRecipe) -> str:
    """The releases in use. TPOError if one is missing or the wrapper does not run on it."""
    found = versions(recipe)
    if recipe.wrapper == MODEL_ID and int(found["transformers"].partition(".")[0]) < 5:
        raise EvaluationError(
            f"transformers {found['transformers']}; {MODEL_ID} needs 5: make an environment for it "
            "(pip install 'tpo-plugin[hf,lmms]')"
        )
    if recipe.wrapper in OF_CHECKOUTS:
        from tpo_plugin.integrations.llava_family.repairs import check_transformers

        check_transformers()
    return ", ".join(f"{name} {found[name]}" for name in ("lmms-eval", "transformers", "torch"))


def check_wrapper(recipe: EvaluateRecipe) -> str:
    """Import lmms-eval, the wrapper and the index of tasks as a run does, in a process of its own; see whether the wrapper takes the
    recipe's arguments, and where its checkout is. TPOError if that fails: the process's log is then kept."""
    if recipe.wrapper in MODELS:
        known = inspect.signature(wrapper_class(recipe.wrapper)).parameters
        if unknown := set(recipe.wrapper_args) - set(known):
            raise EvaluationError(f"`wrapper_args`: {recipe.wrapper} takes no {', '.join(sorted(unknown))}")
    checkout = upstream_of(recipe)
    if recipe.data and not Path(recipe.data).is_dir():  # where lmms-eval is to work
        raise EvaluationError(f"no folder {recipe.data}: set `data` to the one that holds lmms-eval's local files")
    handle, log = tempfile.mkstemp(prefix="tpo-evaluate-check-", suffix=".log")
    os.close(handle)
    with Harness(recipe, Path(log)) as harness:
        harness.check()
    Path(log).unlink()
    said = f" with the prompts of {recipe.prompt_as}" if recipe.prompt_as else ""
    return f"imported, and every task is known{said}{f'; {checkout.title} in {checkout.path}' if checkout else ''}"


def check_task(recipe: EvaluateRecipe, task: str) -> str:
    """A task's numbers of questions and videos. EvaluationError says what is missing."""
    layout = layout_of(task)
    missing = [name for name in layout.modules if find_spec(name) is None] if layout else []
    if missing:
        raise EvaluationError(f"lmms-eval's code for it imports {', '.join(missing)}: pip install {' '.join(missing)}")
    benchmark = local_benchmark(recipe, task)
    if benchmark is None:
        return "its files are not known here; lmms-eval looks for them itself"
    opened = list(_spread(benchmark.videos, recipe.check))
    broken = [problem for video in opened if (problem := _problem(video))]
    if broken:
        raise EvaluationError(
            f"{len(broken)} of {len(opened)} videos that were opened cannot be used, such as {broken[0]}"
        )
    said = f"{len(benchmark.rows)} questions, {len(benchmark.videos)} videos, {len(opened)} opened"
    if benchmark.subtitled is not None:
        said += f", {benchmark.subtitled} with subtitles (Video-MME has them for {SUBTITLED} of its {OF_VIDEOS})"
    if layout and layout.judge and not os.environ.get("OPENAI_API_KEY"):
        raise EvaluationError(
            f"{said}; but answers that no rule matches are judged by an LLM: set OPENAI_API_KEY, and OPENAI_API_URL for a "
            "server of your own"
        )
    return said


def _spread(videos: list[Path], limit: int | None) -> Iterator[Path]:
    """At most `limit` of the videos, evenly spread."""
    count = len(videos) if limit is None else min(limit, len(videos))
    return (videos[place * len(videos) // count] for place in range(count))


def _problem(video: Path) -> str | None:
    try:
        probe(video)
    except VideoError as error:
        return str(error)
    return None
