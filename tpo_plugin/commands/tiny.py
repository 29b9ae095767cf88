"""`tpo demo` and `tpo tiny`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tpo_plugin.commands.common import Commands, use_torch


def add_demo(commands: Commands) -> None:
    demo = commands.add_parser("demo", help="the whole loop on the tiny world, on any CPU")
    demo.add_argument("--output", default="runs/demo", help="results go here (default: %(default)s)")
    demo.add_argument("--seeds", type=int, nargs="+", default=[0], help="one full run a seed (default: 0)")
    demo.set_defaults(run=_demo, extras="hf,lmms")


def add(commands: Commands) -> None:
    parts = commands.add_parser("tiny", help="parts of the tiny world").add_subparsers(required=True, metavar="COMMAND")
    pretrain = parts.add_parser("pretrain", help="make a tiny model's weights again (about 30 minutes)")
    pretrain.add_argument("output", type=Path)
    pretrain.add_argument(
        "--family", choices=["llava_onevision", "qwen2_vl"], default="llava_onevision", help="default: %(default)s"
    )
    pretrain.set_defaults(run=_pretrain)
    serve = parts.add_parser("serve", help="the tiny world's OpenAI-compatible server")
    serve.add_argument("--port", type=int, default=8765)
    serve.set_defaults(run=_serve)
    world = parts.add_parser("world", help="all that the tiny recipes need: videos, benchmarks, needles, instructions")
    world.add_argument("output", type=Path)
    world.add_argument("--seed", type=int, default=0)
    world.set_defaults(run=_world, extras="hf,lmms")


def _demo(args: argparse.Namespace) -> str:
    use_torch()
    from tpo_plugin.tiny.demo import demo

    return demo(Path(args.output), args.seeds)


def _pretrain(args: argparse.Namespace) -> None:
    use_torch()
    from tpo_plugin.tiny.pretrain import OPTIONS, pretrain

    pretrain(args.output, OPTIONS[args.family])


def _serve(args: argparse.Namespace) -> None:
    from tpo_plugin.tiny.server import TinyServer

    with TinyServer(args.port) as server:
        sys.stdout.write(f"{server.base_url}\n")
        sys.stdout.flush()
        server.wait()


def _world(args: argparse.Namespace) -> None:
    use_torch()
    from tpo_plugin.tiny.needles import write_needles
    from tpo_plugin.tiny.setting import write_world
    from tpo_plugin.tiny.temple import complete_world

    write_world(args.output, args.seed)
    write_needles(args.output / "needle", args.seed)
    complete_world(args.output, args.seed)
