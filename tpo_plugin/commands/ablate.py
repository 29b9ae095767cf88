"""`tpo ablate`."""

from __future__ import annotations

import argparse

from tpo_plugin.commands.common import Commands, add_recipe


def add(commands: Commands) -> None:
    parser = commands.add_parser("ablate", help="curate once, train many, evaluate: one table over seeds")
    add_recipe(parser)
    parser.set_defaults(run=_ablate, extras="hf,lmms")


def _ablate(args: argparse.Namespace) -> str:
    from tpo_plugin.ablation.run import ablate
    from tpo_plugin.options import AblateRecipe
    from tpo_plugin.recipe import load

    return ablate(load(AblateRecipe, args.recipe, tuple(args.overrides)))
