"""`tpo needle`."""

from __future__ import annotations

import argparse
from pathlib import Path

from tpo_plugin.commands.common import Commands, add_recipe, use_torch
from tpo_plugin.errors import TPOError


def add(commands: Commands) -> None:
    parser = commands.add_parser("needle", help="a visual needle in a haystack: pictures among a long video's frames")
    add_recipe(parser, optional=True)
    parser.add_argument(
        "--compare", nargs=2, metavar=("A", "B"), help="two finished results, OUTPUT or OUTPUT:LABEL each, side by side"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="with --compare: the picture (SVG) to write")
    parser.set_defaults(run=_needle, extras="hf,lmms")


def _needle(args: argparse.Namespace) -> str:
    if (args.recipe is None) == (args.compare is None):
        raise TPOError("tpo needle takes a recipe, or --compare A B")
    if args.compare is not None:
        from tpo_plugin.evaluation.needle.compare import compare

        first, second = args.compare
        return compare(first, second, args.output)
    if args.output is not None:
        raise TPOError("--output belongs to --compare; a run's output folder is `output` in the recipe")
    use_torch()
    from tpo_plugin.evaluation.needle.run import needle
    from tpo_plugin.options import NeedleRecipe
    from tpo_plugin.recipe import load

    return str(needle(load(NeedleRecipe, args.recipe, tuple(args.overrides))))
