"""Which column of a foreign table is which field: by its header, or by the user's word."""

from __future__ import annotations

from collections.abc import Sequence

from tpo_plugin.errors import TPOError

REQUIRED = ("video", "prompt", "chosen", "rejected")
# Headers in use for each field, as `_plain` writes them; the field's own name wins over its other names.
SYNONYMS = {
    "id": ("id", "uid", "uuid", "qid", "questionid", "sampleid", "pairid"),
    "video": ("video", "videopath", "videofile", "videoname", "videofilename", "videoid", "path", "filename", "file", "vid"),
    "prompt": ("prompt", "question", "query", "instruction", "userprompt", "input"),
    "chosen": ("chosen", "answer", "preferred", "preferredanswer", "preferredresponse", "chosenanswer", "chosenresponse",
               "positive", "winner", "accepted"),
    "rejected": ("rejected", "reject", "rejectedanswer", "rejectedresponse", "dispreferred", "dispreferredanswer",
                 "dispreferredresponse", "nonpreferred", "negative", "loser"),
    "task": ("task", "tasktype", "questiontype"),
    "kind": ("kind", "granularity"),
    "seconds": ("seconds", "duration", "videoduration", "videolength"),
}  # fmt: skip


def pick_columns(header: Sequence[str], given: Sequence[str] = ()) -> dict[str, int]:
    """The index of each field's column: `given` holds `column=field`, the rest is found by name.

    Raises TPOError that lists the columns and the --map to write, for a field that no or several columns could be. Of the
    fields in `REQUIRED` only `prompt` may be missing from the result: it can be part of a conversation in `chosen`.
    """
    picked = _given(header, given)
    for field, names in SYNONYMS.items():
        if field in picked:
            continue
        free = [index for index, name in enumerate(header) if index not in picked.values()]
        same = [index for index in free if _plain(header[index]) == field]
        found = same or [index for index in free if _plain(header[index]) in names]
        if len(found) > 1:
            raise TPOError(f"{_names(header, found)} could each be `{field}`. {_cure(header, field)}")
        if found:
            picked[field] = found[0]
        elif field in REQUIRED and field != "prompt":
            raise missing_column(header, field)
    return picked


def missing_column(header: Sequence[str], field: str) -> TPOError:
    """The error for a field that no column is."""
    return TPOError(f"no column is recognised as `{field}`. {_cure(header, field)}")


def _given(header: Sequence[str], given: Sequence[str]) -> dict[str, int]:
    picked: dict[str, int] = {}
    for entry in given:
        column, equals, field = (part.strip() for part in entry.rpartition("="))
        if not equals or field not in SYNONYMS:
            raise TPOError(f"--map is written column=field, with a field of {', '.join(SYNONYMS)}; not {entry!r}")
        found = [index for index, name in enumerate(header) if name.strip() == column]
        found = found or [index for index, name in enumerate(header) if _plain(name) == _plain(column)]
        if len(found) != 1:
            raise TPOError(f"--map {entry}: {len(found)} columns are named {column!r}. {_cure(header, field)}")
        if field in picked or found[0] in picked.values():
            raise TPOError(f"--map {entry}: `{field}` or {column!r} is mapped twice")
        picked[field] = found[0]
    return picked


def _plain(name: str) -> str:
    """The header without case, spaces and punctuation."""
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def _names(header: Sequence[str], indices: Sequence[int]) -> str:
    return " and ".join(repr(header[index]) for index in indices)


def _cure(header: Sequence[str], field: str) -> str:
    return f"Columns: {', '.join(map(repr, header))}. Say which it is: --map 'COLUMN={field}'"
