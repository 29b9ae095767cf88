"""`tpo curate`."""

from __future__ import annotations

import argparse

from tpo_plugin.commands.common import Commands, add_recipe, use_torch


def add(commands: Commands) -> None:
    parser = commands.add_parser("curate", help="videos to preference pairs")
    add_recipe(parser)
    parser.set_defaults(run=_curate, extras="hf")


def _curate(args: argparse.Namespace) -> str:
    from tpo_plugin.options import CurateRecipe
    from tpo_plugin.recipe import load

    recipe = load(CurateRecipe, args.recipe, tuple(args.overrides))
    from tpo_plugin.curation.checks import used_generators

    types = {options.type for options in used_generators(recipe).values()}
    if "llava" in types:
        args.extras = "llava"
    if recipe.method == "temple":  # shots are compared by a vision encoder
        args.extras = "llava,temple" if "llava" in types else "temple"
    if types - {"server"} or recipe.method == "temple":
        use_torch()
    from tpo_plugin.curation.pipeline import curate
    from tpo_plugin.dataset.statistics import stats_text

    return stats_text(curate(recipe))
