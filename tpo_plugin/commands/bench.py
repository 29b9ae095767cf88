"""`tpo bench`."""

from __future__ import annotations

import argparse

from tpo_plugin.commands.common import Commands, use_torch

OPTIONS = ("size", "frames", "pairs_per_video", "device")


def add(commands: Commands) -> None:
    parser = commands.add_parser("bench", help="what a pair costs: operations, time and memory on each path")
    parser.add_argument("recipe", nargs="?", default="bench/cpu", help="a YAML recipe (default: %(default)s)")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="replaces a recipe's value")
    for option in OPTIONS:
        parser.add_argument(f"--{option.replace('_', '-')}", help=f"the same as {option}=")
    parser.set_defaults(run=_bench, extras="hf")


def _bench(args: argparse.Namespace) -> str:
    use_torch()
    from tpo_plugin.bench.run import bench
    from tpo_plugin.options import BenchRecipe
    from tpo_plugin.recipe import load

    recipe, overrides = args.recipe, list(args.overrides)
    if "=" in recipe:  # no recipe, only changes
        recipe, overrides = "bench/cpu", [recipe, *overrides]
    overrides += [f"{name}={getattr(args, name)}" for name in OPTIONS if getattr(args, name) is not None]
    return bench(load(BenchRecipe, recipe, tuple(overrides)))
