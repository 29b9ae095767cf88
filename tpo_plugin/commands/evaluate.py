"""`tpo evaluate`."""

from __future__ import annotations

import argparse

from tpo_plugin.commands.common import Commands, add_recipe, use_torch


def add(commands: Commands) -> None:
    parser = commands.add_parser("evaluate", help="checkpoints on lmms-eval benchmarks")
    add_recipe(parser)
    parser.set_defaults(run=_evaluate, extras="hf,lmms")


def _evaluate(args: argparse.Namespace) -> str:
    use_torch()
    from tpo_plugin.evaluation.run import evaluate
    from tpo_plugin.options import EvaluateRecipe
    from tpo_plugin.recipe import load

    return str(evaluate(load(EvaluateRecipe, args.recipe, tuple(args.overrides))))
