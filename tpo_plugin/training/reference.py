"""Reference log-probabilities: computed once, with the model as it is before training, and read from disk by every run that they fit.

Under torch.distributed the rows are divided over the ranks, and rank 0 alone reads and writes the table. All ranks run equally many
forwards (spare ones repeat a row), since a forward under ZeRO-3 is a collective, and all raise the error that one of them meets.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, distributed
from tqdm import tqdm

from tpo_plugin.errors import TPOError
from tpo_plugin.training.reference_table import FILE, Key, Sums, Table, lookup, row_keys

__all__ = ["FILE", "TREE_PAIRS", "Key", "Sums", "complete", "everywhere", "row_keys"]

logger = logging.getLogger(__name__)

TREE_PAIRS = 16  # of one video that are scored in one forward

T = TypeVar("T")


def complete(
    file: Path,
    fingerprint: Mapping[str, str],
    keys: Sequence[Key],
    videos: Sequence[Hashable],
    score: Callable[[Sequence[Sequence[int]]], Iterator[Sequence[Sums]]],
) -> Tensor:
    """The log-probabilities (N, 2) of N pairs, chosen and rejected, float64; those that `file` lacks are computed and appended.

    `keys` and `videos` have an entry a pair. `score` gets lists of indices of pairs that share a video, at most TREE_PAIRS each, and yields
    for each list the sums of its pairs: this rank's share of the work. It is not called if nothing is missing.
    All ranks must call this together; all return the same. TPOError if the file is of another fingerprint, damaged, or cannot be written.
    """
    with ExitStack() as stack:
        table = Table(file, fingerprint)
        known = everywhere(lambda: stack.enter_context(table).sums)
        missing = [index for index, key in enumerate(keys) if key not in known]
        if missing:
            logger.info("reference log-probabilities of %d pairs are computed into %s", len(missing), file)
        else:
            logger.info("reference log-probabilities of %d pairs come from %s", len(keys), file)
        units = _units(missing, videos)
        bar = stack.enter_context(
            tqdm(total=len(missing), desc="reference", unit="pair", disable=not missing or _rank() > 0)
        )
        for found in _rounds(units, score):
            keyed = [(keys[index], sums) for index, sums in found]
            everywhere(partial(table.add, keyed))
            known.update(keyed)
            bar.update(len(found))
    return lookup(known, keys, file)


def everywhere(make: Callable[[], T]) -> T:
    """What `make` returns on rank 0, on all ranks; a TPOError there is raised on all."""
    if not _distributed():
        return make()
    box: list[Any] = [None]
    if _rank() == 0:
        box = [_result(make)]
    distributed.broadcast_object_list(box, src=0)
    return _unwrapped(box[0])


def _rounds(
    units: Sequence[Sequence[int]], score: Callable[[Sequence[Sequence[int]]], Iterator[Sequence[Sums]]]
) -> Iterator[list[tuple[int, Sums]]]:
    """The pairs that all ranks together scored in each round, as (index, sums); the same on all ranks."""
    if not units:
        return
    world = distributed.get_world_size() if _distributed() else 1
    rounds = math.ceil(len(units) / world)
    scored = score([units[min(start * world + _rank(), len(units) - 1)] for start in range(rounds)])
    for start in range(rounds):
        gathered: list[Any] = [None] * world
        mine = _result(lambda: list(next(scored)))
        if _distributed():
            distributed.all_gather_object(gathered, mine)
        else:
            gathered = [mine]
        part = units[start * world : (start + 1) * world]  # what lies beyond the last unit was a repetition
        values = [_unwrapped(one) for one in gathered]
        yield [pair for unit, sums in zip(part, values) for pair in zip(unit, sums, strict=True)]


def _units(indices: Sequence[int], videos: Sequence[Hashable]) -> list[list[int]]:
    """`indices` in lists of equal entries of `videos`, at most TREE_PAIRS long, in order of first use."""
    groups: dict[Hashable, list[int]] = {}
    for index in indices:
        groups.setdefault(videos[index], []).append(index)
    return [
        group[start : start + TREE_PAIRS] for group in groups.values() for start in range(0, len(group), TREE_PAIRS)
    ]


def _result(make: Callable[[], T]) -> T | TPOError:
    """A TPOError becomes a value, so that no rank is left waiting for one that met it."""
    try:
        return make()
    except TPOError as error:
        return error


def _unwrapped(result: T | TPOError) -> T:
    if isinstance(result, TPOError):
        raise result
    return result


def _distributed() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def _rank() -> int:
    return distributed.get_rank() if _distributed() else 0
