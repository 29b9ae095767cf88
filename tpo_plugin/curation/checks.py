"""Values of a curation recipe that have the right type and still make no sense."""

from __future__ import annotations

import re
from operator import attrgetter

from tpo_plugin.checks import at_least, check_frames, checkpoint_named, positive
from tpo_plugin.curation.methods import METHODS
from tpo_plugin.curation.queries import check_options
from tpo_plugin.errors import RecipeError
from tpo_plugin.options import CurateRecipe, GeneratorOptions, ServerOptions

LEAST = {
    "videos.limit": 1,
    "segments.per_video": 1,
    "captions.frames_per_call": 1,
    "queries.per_video": 1,
    "perturbations.drop_parts": 2,
    "filters.max_characters": 1,
    "videos_in_flight": 1,
    "max_pairs": 1,
}
POSITIVE = ("videos.decode_timeout", "segments.min_seconds", "segments.max_seconds")
BETWEEN_0_AND_1 = ("segments.max_share", "perturbations.drop_share")


def check(recipe: CurateRecipe) -> None:
    """RecipeError names the first value that makes no sense."""
    check_frames(recipe.frames)
    for path, least in LEAST.items():
        at_least(path, attrgetter(path)(recipe), least)
    for path in POSITIVE:
        positive(path, attrgetter(path)(recipe))
    for path in BETWEEN_0_AND_1:
        if not 0 < attrgetter(path)(recipe) < 1:
            raise RecipeError(f"`{path}` must lie between 0 and 1, it is {attrgetter(path)(recipe)}")
    if recipe.segments.min_seconds > recipe.segments.max_seconds:
        raise RecipeError(
            f"`segments.min_seconds` ({recipe.segments.min_seconds:g}) is over `segments.max_seconds` "
            f"({recipe.segments.max_seconds:g})"
        )
    check_options(recipe.queries)
    METHODS[recipe.method].check(recipe)
    _check_server("llm", recipe.llm)
    for name, options in used_generators(recipe).items():
        _check_generator(name, options)


def used_generators(recipe: CurateRecipe) -> dict[str, GeneratorOptions]:
    """The generators that the run will use, by the name of their section."""
    return METHODS[recipe.method].generators(recipe)


def _check_generator(name: str, options: GeneratorOptions) -> None:
    if options.type != "server":
        checkpoint_named(f"{name}.model", options.model)
    if options.type == "llava" and not options.upstream.strip():
        raise RecipeError(
            f"`{name}.upstream` is empty: type `llava` needs the path of a checkout of LLaVA-NeXT (for LLaVA-Video) or LongVA"
        )
    for item in ("batch_size", "max_new_tokens"):
        at_least(f"{name}.{item}", getattr(options, item), 1)
    at_least(f"{name}.temperature", options.temperature, 0)
    _check_server(f"{name}.server", options.server)


def _check_server(name: str, options: ServerOptions) -> None:
    at_least(f"{name}.concurrency", options.concurrency, 1)
    at_least(f"{name}.retries", options.retries, 0)
    positive(f"{name}.timeout", options.timeout)
    if not re.fullmatch(r"https?://[^/?#@]+(/[^?#@]*)?", options.base_url):
        # The recipe is saved and shown: an address with a password or a token in it must not get there (nor into this text).
        raise RecipeError(
            f"`{name}.base_url` must look like http://host:port/v1, without user, password or query; "
            f"a key belongs into the environment variable {options.key_env}"
        )
