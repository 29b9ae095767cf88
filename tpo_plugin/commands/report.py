"""`tpo report`."""

from __future__ import annotations

import argparse
from pathlib import Path

from tpo_plugin.commands.common import Commands
from tpo_plugin.errors import TPOError


def add(commands: Commands) -> None:
    parser = commands.add_parser("report", help="one HTML page on what was run and whether it helped")
    parser.add_argument("output", help="the page to write, such as report.html")
    parser.add_argument("--pairs", type=Path, help="a curation output folder")
    folders = {"nargs": "+", "action": "extend", "default": [], "metavar": "LABEL=FOLDER"}
    parser.add_argument("--train", **folders, help="training output folders")
    parser.add_argument(
        "--evaluation", **folders, help="evaluation output folders, compared on the questions they share"
    )
    parser.add_argument("--needle", **folders, help="needle output folders")
    parser.set_defaults(run=_report)


def _report(args: argparse.Namespace) -> str:
    from tpo_plugin.report.page import write_report

    training, evaluations, needles = (_labelled(items) for items in (args.train, args.evaluation, args.needle))
    return str(write_report(Path(args.output), args.pairs, training, evaluations, needles=needles))


def _labelled(items: list[str]) -> dict[str, Path]:
    """Folders by their labels; one without a label goes by its own name."""
    folders: dict[str, Path] = {}
    for item in items:
        label, equals, folder = item.partition("=")
        path = Path(folder if equals else item)
        label = label if equals else path.absolute().name
        if label in folders:
            raise TPOError(f"{folders[label]} and {path} are both called {label!r}: write LABEL={path}")
        folders[label] = path
    return folders
