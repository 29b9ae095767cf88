"""The command line: `tpo COMMAND`. What they do lives in the stages."""

from __future__ import annotations

import argparse
import logging
import sys

from tpo_plugin import __version__
from tpo_plugin.commands import ablate, bench, checkouts, curate, data, evaluate, needle, report, tiny, train
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
OPTIONAL += ("decord", "deepspeed", "tyro", "safetensors")


def main(argv: list[str] | None = None) -> int:
    """Run a command; 0 if it did all it was asked, 1 with one clear message on an error (`doctor`: if a run would fail)."""
    args = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    for chatty in ("httpx", "httpx2", "httpcore", "openai", "filelock"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        return _say(args.run(args))
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


def _say(result: str | tuple[str, int] | None) -> int:
    """Print what a command returned; the exit status."""
    text, status = result if isinstance(result, tuple) else (result, 0)
    if text is not None:
        print(text)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tpo", description="Temporal Preference Optimization for video LMMs")
    parser.add_argument("--version", action="version", version=f"tpo-plugin {__version__}")
    parser.set_defaults(extras="hf")  # what a missing package belongs to
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (
        tiny.add_demo, curate.add, data.add, train.add, evaluate.add, needle.add, report.add, ablate.add, checkouts.add,
        bench.add, tiny.add,
    ):  # fmt: skip
        add(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
