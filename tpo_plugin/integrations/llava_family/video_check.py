"""Files of a training set that cannot be read: found before training, counted while it runs.

As a module (`python -m`) this probes the videos that stdin names. It is a process of its own because the decoder processes that it
starts import their parent's main module, which in training is the whole script.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tpo_plugin.concurrency import together
from tpo_plugin.errors import TPOError, VideoError
from tpo_plugin.integrations.llava_family.rows import paths
from tpo_plugin.records import write_json
from tpo_plugin.video import REASONS
from tpo_plugin.video.isolated import IsolatedDecoder

logger = logging.getLogger(__name__)

WORKERS = 8
TIMEOUT = 60.0  # seconds for one video
NAMED = 10  # an error names so many
CURE = "mend these files, take their rows out of the data, or allow more with --tpo_max_broken"


def broken_videos(videos: Iterable[str], cache: Path) -> dict[str, str]:
    """What is wrong with each of the videos (files, or folders of frames) that cannot be read.

    Verdicts are kept in the file `cache` under path, size and time of change, so a resumed run probes nothing again and has the
    same answer. A probe reads the headers, the first frame and the last packets: damage in the middle passes it.
    """
    videos = dict.fromkeys(videos)
    known, broken, fresh = _read(cache), missing_videos(videos), {}
    for path in videos:
        if path in broken or os.path.isdir(path):
            continue
        if known.get(path, {}).get("file") != _file(path):
            fresh[path] = _file(path)
        elif known[path]["error"]:
            broken[path] = known[path]["error"]
    if fresh:
        errors = _probe_all(list(fresh))
        write_json(cache, known | {path: {"file": file, "error": errors[path]} for path, file in fresh.items()})
        broken |= {path: error for path, error in errors.items() if error}
    return broken


def missing_videos(videos: Iterable[str]) -> dict[str, str]:
    """Those of the videos (files, or folders of frames) that are not there; none is opened."""
    missing = {}
    for path in dict.fromkeys(videos):
        if os.path.isdir(path):
            if not os.listdir(path):
                missing[path] = f"{path}: an empty folder"
        elif not os.path.isfile(path):
            missing[path] = f"{path}: {REASONS['missing_file']}"
    return missing


def missing_images(images: Iterable[str]) -> dict[str, str]:
    """Those of the pictures that are not there; whether they can be read shows when they are due."""
    return {path: f"{path}: {REASONS['missing_file']}" for path in images if not os.path.isfile(path)}


def sort_out(
    rows: Sequence[dict[str, Any]], data_args: Any, broken: Mapping[str, str]
) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows that show none of the files in `broken`, and what is wrong with each of the others."""
    kept, dropped = [], []
    for row in rows:
        reason = next((broken[path] for path in paths(row, data_args) if path in broken), None)
        if reason is None:
            kept.append(row)
        else:
            dropped.append(describe(row, reason))
    return kept, dropped


def check_share(failed: Sequence[str], total: int, most: float) -> None:
    """TPOError if the rows that `failed` are more than the share `most` of all."""
    if len(failed) > most * total:
        named = "\n".join(f"  {line}" for line in failed[:NAMED])
        rest = f"\n  and {len(failed) - NAMED} more" if len(failed) > NAMED else ""
        raise TPOError(
            f"{len(failed)} of {total} rows have a file that cannot be read, more than the share {most:g} "
            f"allowed:\n{named}{rest}\n{CURE}"
        )


class FailedRows:
    """Counts the rows whose file cannot be read: `dropped` before training, and those added while it runs.

    All processes of a run, ranks and data loader workers, count in the same `file`, one line a row: place, id, reason.
    """

    def __init__(self, file: Path, dropped: Sequence[str], total: int, most: float) -> None:
        self.file, self.dropped, self.total, self.most = file, list(dropped), total, most

    def check(self) -> None:
        """TPOError if more than the share `most` of the rows failed."""
        later = self.file.read_text(encoding="utf-8").splitlines() if self.file.exists() else []
        found = self.dropped + list({line.partition("\t")[0]: line.partition("\t")[2] for line in later}.values())
        check_share(found, self.total, self.most)

    def add(self, place: int, row: dict[str, Any], reason: str) -> None:
        """Count the row at `place`, once however often it fails."""
        with self.file.open("a", encoding="utf-8") as lines:
            lines.write(f"{place}\t{describe(row, reason)}\n")
        self.check()


def describe(row: dict[str, Any], reason: str) -> str:
    """One line that names the row and what is wrong."""
    return " ".join(f"{row['id']}: {reason}".split())


def _file(path: str) -> list[int]:
    stat = os.stat(path)
    return [stat.st_size, stat.st_mtime_ns]


def _read(cache: Path) -> dict[str, Any]:
    try:
        known = json.loads(cache.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        logger.warning("%s cannot be read (%s): all videos are probed again", cache, error)
        return {}
    return known if isinstance(known, dict) else {}


def _probe_all(videos: list[str]) -> dict[str, str | None]:
    logger.info("probing %d videos", len(videos))
    command = [sys.executable, "-m", __name__]
    done = subprocess.run(command, input=json.dumps(videos), stdout=subprocess.PIPE, text=True, check=True)
    errors: dict[str, str | None] = json.loads(done.stdout)
    return errors


async def _probe_isolated(videos: list[str]) -> dict[str, str | None]:
    # A process that is stopped while it still starts prints a traceback: few videos, few processes.
    workers = min(WORKERS, os.cpu_count() or 1, 1 + len(videos) // 16)
    with (
        IsolatedDecoder(workers, TIMEOUT) as decoder,
        tqdm(total=len(videos), desc="probe videos", unit="video", disable=len(videos) < 100) as bar,
    ):

        async def error_of(path: str) -> str | None:
            try:
                await decoder.probe(Path(path))
            except VideoError as error:
                slow = f"{path}: {REASONS['decoder_timeout']} ({TIMEOUT:g} s; `touch` it to have it probed again)"
                return slow if error.reason == "decoder_timeout" else str(error)
            finally:
                bar.update()
            return None

        return dict(zip(videos, await together(map(error_of, videos))))


if __name__ == "__main__":
    json.dump(asyncio.run(_probe_isolated(json.load(sys.stdin))), sys.stdout)
