"""`tpo data export|stats|import`."""

from __future__ import annotations

import argparse

from tpo_plugin.commands.common import Commands


def add(commands: Commands) -> None:
    parser = commands.add_parser("data", help="export, import and describe preference data")
    parts = parser.add_subparsers(required=True, metavar="COMMAND")
    export = parts.add_parser("export", help="write pairs in another trainer's format")
    export.add_argument("data", help="a curation output folder or a LLaVA DPO JSON")
    export.add_argument("output", help="file (llava, trl, ms_swift) or folder (hf) to write")
    export.add_argument("--format", default="llava", help="llava, trl, ms_swift, hf, or package.module:function")
    export.add_argument("--video-root", help="the folder that video paths start from (default: what the data says)")
    export.set_defaults(run=_export)
    stats = parts.add_parser("stats", help="funnel, task mix and length mix beside the paper's")
    stats.add_argument("data", help="a curation output folder or a LLaVA DPO JSON")
    stats.set_defaults(run=_stats)
    imported = parts.add_parser("import", help="read a CSV of pairs such as LongVA-TPO-10k")
    imported.add_argument("csv", help="the CSV or TSV file")
    imported.add_argument("--output", required=True, help="folder for the imported data set")
    imported.add_argument("--videos", help="the folder that video paths start from (default: the CSV's)")
    imported.add_argument(
        "--map", nargs="+", action="extend", default=[], metavar="column=field", help="which column is which field"
    )
    imported.add_argument("--allow-missing", action="store_true", help="keep rows whose video is not there")
    imported.add_argument("--encoding", help="the CSV's text encoding (default: UTF-8)")
    imported.set_defaults(run=_import)


def _export(args: argparse.Namespace) -> str:
    from tpo_plugin.dataset.export import export

    return str(export(args.data, args.format, args.output, args.video_root))


def _stats(args: argparse.Namespace) -> str:
    from tpo_plugin.dataset.statistics import stats_text

    return stats_text(args.data)


def _import(args: argparse.Namespace) -> str:
    from tpo_plugin.dataset.importers import import_csv

    return str(import_csv(args.csv, args.output, args.map, args.videos, args.allow_missing, args.encoding))
