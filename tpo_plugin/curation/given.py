"""Queries and captions from an earlier curation, so that methods are compared on the same ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tpo_plugin.curation.captions import owner
from tpo_plugin.errors import TPOError
from tpo_plugin.records import PreferencePair, Query, from_json, read_jsonl


@dataclass
class Given:
    """A video's queries, and its captions by their owner (`captions.owner`)."""

    queries: list[Query] = field(default_factory=list)
    captions: dict[str, str] = field(default_factory=dict)


def read_given(folder: str | None) -> Mapping[str, Given]:
    """The queries of all candidates of a finished curation, kept or dropped, by video id; empty for None.

    TPOError for a folder that holds no finished curation.
    """
    if folder is None:
        return {}
    file = Path(folder) / "candidates.jsonl"
    if not file.is_file() or not (Path(folder) / "dataset.json").is_file():
        raise TPOError(f"`queries.curated`: {folder} holds no finished curation; run `tpo curate` into it first")
    found: dict[str, Given] = {}
    for row in read_jsonl(file):
        pair = from_json(PreferencePair, row)
        given = found.setdefault(pair.video.id, Given())
        given.queries.append(pair.query)
        given.captions[owner(pair.query.segment)] = pair.captions
    return found
