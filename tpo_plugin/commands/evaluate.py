"""`tpo evaluate`."""

from __future__ import annotations

import argparse

from tpo_plugin.commands.common import Commands, add_recipe, use_torch


def add(commands: Commands) -> None:
    parser = commands.add_parser("evaluate", help="checkpoints on lmms-eval benchmarks")
    add_recipe(parser)
    parser.add_argument(
        "--check", action="store_true", help="only say whether data, videos, models and wrapper are in place"
    )
    parser.set_defaults(run=_evaluate, extras="hf,lmms")


def _evaluate(args: argparse.Namespace) -> str | tuple[str, int]:
    use_torch()
    from tpo_plugin.evaluation.check import check
    from tpo_plugin.evaluation.run import evaluate
    from tpo_plugin.options import EvaluateRecipe
    from tpo_plugin.recipe import load

    recipe = load(EvaluateRecipe, args.recipe, tuple(args.overrides))
    if args.check:
        lines, fine = check(recipe)
        return "\n".join(lines), 0 if fine else 1
    return str(evaluate(recipe))
