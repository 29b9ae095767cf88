"""The command line: `tpo demo|curate|data|reference|train|evaluate|report|tiny`. Each command's body lives in its stage."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path

from tpo_plugin import __version__
from tpo_plugin.bench import command as bench
from tpo_plugin.dataset import command as data
from tpo_plugin.errors import TPOError, one_line

OPTIONAL: tuple[str, ...] = (
    "torch",
    "torchvision",
    "transformers",
    "trl",
    "peft",
    "accelerate",
    "datasets",
    "lmms_eval",
    "pyarrow",
)
OPTIONAL += ("decord", "deepspeed", "tyro")


def main(argv: list[str] | None = None) -> int:
    """Run a command; 0 if it did all it was asked, 1 with one clear message on an error (`doctor`: if a run would fail)."""
    args = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    for chatty in ("httpx", "httpx2", "httpcore", "openai", "filelock"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        return args.run(args) or 0
    except TPOError as error:
        print(f"tpo: {one_line(error)}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"tpo: {error.filename}: {error.strerror}" if error.filename else f"tpo: {error}", file=sys.stderr)
        return 1
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in OPTIONAL:
            raise
        print(f"tpo: {error.msg}: pip install 'tpo-plugin[{args.extras}]'", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("tpo: stopped; the same command continues", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tpo", description="Temporal Preference Optimization for video LMMs")
    parser.add_argument("--version", action="version", version=f"tpo-plugin {__version__}")
    parser.set_defaults(extras="hf")  # what a missing package belongs to
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser("demo", help="the whole loop on the tiny world, on any CPU")
    demo.add_argument("--output", default="runs/demo", help="results go here (default: %(default)s)")
    demo.add_argument("--seeds", type=int, nargs="+", default=[0], help="one full run a seed (default: 0)")
    demo.set_defaults(run=_demo, extras="hf,lmms")

    for name, text, run, extras in (
        ("curate", "videos to preference pairs", _curate, "hf"),
        ("reference", "the reference's log-probabilities, which `tpo train` else computes first", _reference, "hf"),
        ("train", "preference pairs to a trained checkpoint", _train, "hf"),
        ("evaluate", "checkpoints on lmms-eval benchmarks", _evaluate, "hf,lmms"),
    ):
        command = commands.add_parser(name, help=text)
        if name == "train":
            command.add_argument(
                "--upstream",
                metavar="CHECKOUT",
                help="run the DPO script of this LLaVA-NeXT or LongVA checkout with --tpo; its own flags follow after --",
            )
        command.add_argument(
            "recipe",
            nargs="?" if name == "train" else None,
            help="a YAML recipe; those of the package go by name, as in tiny/curate",
        )
        command.add_argument("overrides", nargs="*", metavar="key=value", help="replaces a recipe's value (a.b=c)")
        command.set_defaults(run=run, extras=extras)

    described = commands.add_parser("data", help="export, import and describe preference data")
    data.add_arguments(described)
    described.set_defaults(run=_data)

    measured = commands.add_parser("bench", help="what a pair costs: operations, time and memory on each path")
    bench.add_arguments(measured)
    measured.set_defaults(run=_bench)

    report = commands.add_parser("report", help="one HTML page on what was run and whether it helped")
    report.add_argument("output", help="the page to write, such as report.html")
    report.add_argument("--pairs", type=Path, help="a curation output folder")
    report.add_argument(
        "--train", nargs="+", action="extend", default=[], metavar="LABEL=FOLDER", help="training output folders"
    )
    report.add_argument("--evaluation", type=Path, help="an evaluation output folder")
    report.set_defaults(run=_report)

    _add_patch(
        commands.add_parser("patch", help="put --tpo into the training script of a LLaVA-NeXT or LongVA checkout")
    )
    doctor = commands.add_parser("doctor", help="would a run start here, and if not, what to do")
    doctor.add_argument(
        "path", nargs="?", help="a checkout of LLaVA-NeXT or LongVA (default: none, for `tpo train RECIPE`)"
    )
    doctor.add_argument("--model", metavar="CHECKPOINT", help="what --model_name_or_path would be")
    doctor.add_argument("--tower", help="what --vision_tower would be")
    doctor.add_argument("--data", help="what --data_path would be")
    doctor.set_defaults(run=_doctor)

    _add_tiny(commands.add_parser("tiny", help="parts of the tiny world"))
    return parser


def _add_patch(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for action, text in (
        ("apply", "insert our lines, which do nothing without --tpo; shows the diff first"),
        ("revert", "take them out again, so that every byte is as it was"),
        ("status", "what the checkout is, and which patches are applied"),
    ):
        command = commands.add_parser(action, help=text, description=text[0].upper() + text[1:])
        command.add_argument("path", help="the repository's root folder")
        if action != "status":
            command.add_argument("--dry-run", action="store_true", help="show the diff and change nothing")
        command.set_defaults(run=_patch, action=action)


def _add_tiny(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    pretrain = commands.add_parser("pretrain", help="make the tiny model's weights again (about 30 minutes)")
    pretrain.add_argument("output", type=Path)
    pretrain.set_defaults(run=_tiny_pretrain)
    serve = commands.add_parser("serve", help="the tiny world's OpenAI-compatible server")
    serve.add_argument("--port", type=int, default=8765)
    serve.set_defaults(run=_tiny_serve)
    world = commands.add_parser("world", help="write the tiny world's videos and benchmarks")
    world.add_argument("output", type=Path)
    world.add_argument("--seed", type=int, default=0)
    world.set_defaults(run=_tiny_world, extras="hf,lmms")


def _use_torch() -> None:
    """What a process needs before transformers is imported."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from tpo_plugin.integrations.torchvision import repair

    if repair():
        logging.getLogger(__name__).info("torchvision does not match this torch: using its transforms only")


def _demo(args: argparse.Namespace) -> None:
    _use_torch()
    from tpo_plugin.tiny.demo import demo

    print(demo(Path(args.output), args.seeds))


def _curate(args: argparse.Namespace) -> None:
    from tpo_plugin.options import CurateRecipe
    from tpo_plugin.recipe import load

    recipe = load(CurateRecipe, args.recipe, tuple(args.overrides))
    types = {recipe.responses.type, recipe.captions.generator.type}
    if "llava" in types:
        args.extras = "llava"
    if types != {"server"}:
        _use_torch()
    from tpo_plugin.curation.pipeline import curate
    from tpo_plugin.dataset.statistics import stats_text

    print(stats_text(curate(recipe)))


def _train(args: argparse.Namespace) -> None:
    _use_torch()
    if args.upstream:
        args.extras = "llava"
        from tpo_plugin.integrations.llava_family.launcher import launch

        launch(args.upstream, [*([args.recipe] if args.recipe else []), *args.overrides])
        return
    if args.recipe is None:
        raise TPOError("name a recipe, or give --upstream CHECKOUT -- FLAGS")
    from tpo_plugin.options import TrainRecipe, UpstreamRecipe
    from tpo_plugin.recipe import load, read

    if "upstream" in read(args.recipe):
        from tpo_plugin.training.upstream import train_upstream

        args.extras = "llava"
        print(train_upstream(load(UpstreamRecipe, args.recipe, tuple(args.overrides))))
        return
    from tpo_plugin.training.run import train

    print(train(load(TrainRecipe, args.recipe, tuple(args.overrides))))


def _reference(args: argparse.Namespace) -> None:
    _use_torch()
    from tpo_plugin.options import TrainRecipe
    from tpo_plugin.recipe import load, read

    if "upstream" in read(args.recipe):
        raise TPOError(f"{args.recipe} runs an upstream script, which computes its reference itself: use `tpo train`")
    from tpo_plugin.training.run import reference

    print(reference(load(TrainRecipe, args.recipe, tuple(args.overrides))))


def _evaluate(args: argparse.Namespace) -> None:
    _use_torch()
    from tpo_plugin.evaluation.run import evaluate
    from tpo_plugin.options import EvaluateRecipe
    from tpo_plugin.recipe import load

    print(evaluate(load(EvaluateRecipe, args.recipe, tuple(args.overrides))))


def _data(args: argparse.Namespace) -> None:
    print(args.text(args))


def _bench(args: argparse.Namespace) -> None:
    _use_torch()
    print(bench.run(args))


def _report(args: argparse.Namespace) -> None:
    from tpo_plugin.report.page import write_report

    training = {}
    for item in args.train:
        label, equals, folder = item.partition("=")
        training[label if equals else Path(label).name] = Path(folder if equals else label)
    print(write_report(Path(args.output), args.pairs, training, args.evaluation))


def _patch(args: argparse.Namespace) -> None:
    from tpo_plugin.integrations import patching
    from tpo_plugin.integrations.checkout import find_checkout

    checkout = find_checkout(args.path, strict=args.action != "revert")
    if args.action == "status":
        print(patching.status_text(checkout))
        return
    changes = patching.plan_apply(checkout) if args.action == "apply" else patching.plan_revert(checkout)
    for change in changes:
        print(change.diff(checkout.path))
    if not changes:
        print("already applied" if args.action == "apply" else "nothing to revert")
    elif args.dry_run:
        print("dry run: nothing was changed")
    else:
        patching.carry_out(changes)
        print("applied" if args.action == "apply" else "reverted")


def _doctor(args: argparse.Namespace) -> int:
    from tpo_plugin.integrations.doctor import doctor

    report = doctor(args.path, args.model, args.tower, args.data)
    print(report.text())
    return int(report.fails)


def _tiny_pretrain(args: argparse.Namespace) -> None:
    _use_torch()
    from tpo_plugin.tiny.pretrain import pretrain

    pretrain(args.output)


def _tiny_serve(args: argparse.Namespace) -> None:
    from tpo_plugin.tiny.server import TinyServer

    with TinyServer(args.port) as server:
        print(server.base_url, flush=True)
        server.wait()


def _tiny_world(args: argparse.Namespace) -> None:
    from tpo_plugin.tiny.demo import write_world

    write_world(args.output, args.seed)


if __name__ == "__main__":
    sys.exit(main())
