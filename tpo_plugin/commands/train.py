"""`tpo train` and `tpo reference`."""

from __future__ import annotations

import argparse

from tpo_plugin.commands.common import Commands, add_recipe, use_torch
from tpo_plugin.errors import TPOError


def add(commands: Commands) -> None:
    reference = commands.add_parser(
        "reference", help="the reference's log-probabilities, which `tpo train` else computes first"
    )
    add_recipe(reference)
    reference.set_defaults(run=_reference, extras="hf")
    train = commands.add_parser("train", help="preference pairs to a trained checkpoint; several trainings in a row")
    train.add_argument(
        "--upstream",
        metavar="CHECKOUT",
        help="run the DPO script of this LLaVA-NeXT or LongVA checkout with --tpo; its own flags follow after --",
    )
    add_recipe(train, optional=True)
    train.set_defaults(run=_train, extras="hf")


def _train(args: argparse.Namespace) -> str | None:
    use_torch()
    if args.upstream:
        args.extras = "llava"
        from tpo_plugin.integrations.llava_family.launcher import launch

        launch(args.upstream, [*([args.recipe] if args.recipe else []), *args.overrides])
        return None
    if args.recipe is None:
        raise TPOError("name a recipe, or give --upstream CHECKOUT -- FLAGS")
    from tpo_plugin.options import ChainRecipe, TrainRecipe, UpstreamRecipe
    from tpo_plugin.recipe import load, read

    given = read(args.recipe)
    if "steps" in given:
        chain = load(ChainRecipe, args.recipe, tuple(args.overrides))
        if any("upstream" in read(step["recipe"]) for step in chain.steps if isinstance(step.get("recipe"), str)):
            args.extras = "llava"
        from tpo_plugin.training.chain import train_chain

        return str(train_chain(chain))
    if "upstream" in given:
        from tpo_plugin.training.upstream import train_upstream

        args.extras = "llava"
        return str(train_upstream(load(UpstreamRecipe, args.recipe, tuple(args.overrides))))
    from tpo_plugin.training.run import train

    return str(train(load(TrainRecipe, args.recipe, tuple(args.overrides))))


def _reference(args: argparse.Namespace) -> str:
    use_torch()
    from tpo_plugin.options import TrainRecipe
    from tpo_plugin.recipe import load, read

    given = read(args.recipe)
    if "upstream" in given:
        raise TPOError(f"{args.recipe} runs an upstream script, which computes its reference itself: use `tpo train`")
    if "steps" in given:
        raise TPOError(f"{args.recipe} is a chain, whose steps compute their references in turn: use `tpo train`")
    from tpo_plugin.training.run import reference

    return str(reference(load(TrainRecipe, args.recipe, tuple(args.overrides))))
