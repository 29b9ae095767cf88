"""`tpo report`."""

from __future__ import annotations

import argparse
from pathlib import Path

from tpo_plugin.commands.common import Commands


def add(commands: Commands) -> None:
    parser = commands.add_parser("report", help="one HTML page on what was run and whether it helped")
    parser.add_argument("output", help="the page to write, such as report.html")
    parser.add_argument("--pairs", type=Path, help="a curation output folder")
    parser.add_argument(
        "--train", nargs="+", action="extend", default=[], metavar="LABEL=FOLDER", help="training output folders"
    )
    parser.add_argument("--evaluation", type=Path, help="an evaluation output folder")
    parser.set_defaults(run=_report)


def _report(args: argparse.Namespace) -> str:
    from tpo_plugin.report.page import write_report

    training = {}
    for item in args.train:
        label, equals, folder = item.partition("=")
        training[label if equals else Path(label).name] = Path(folder if equals else label)
    return str(write_report(Path(args.output), args.pairs, training, args.evaluation))
