"""`tpo data import`: a table of preference pairs (CSV, TSV) as a data set that `tpo train` reads.

Made for LongVA-TPO-10k, whose columns are documented nowhere: they are recognised by their headers, or named by the user.
"""

from __future__ import annotations

import codecs
import csv
import io
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, get_args

from tpo_plugin.dataset.cells import BadCell, question, question_and_answer, single_path
from tpo_plugin.dataset.columns import REQUIRED, missing_column, pick_columns
from tpo_plugin.dataset.pairs import MANIFEST, Row, strip_placeholders, to_llava, unique_ids
from tpo_plugin.errors import TPOError
from tpo_plugin.records import Kind, stable_id, write_json, write_text
from tpo_plugin.video import SUFFIXES

REPORT, REJECTED = "import_report.json", "rejected_rows.csv"
DELIMITERS = (",", "\t", ";", "|")
NOT_FOUND = "video not found"


@dataclass(frozen=True)
class Imported:
    """What became of the table: rows used, rows rejected by reason, and which column was taken for which field."""

    source: str
    output: str
    video_root: str
    rows: int
    kept: int
    rejected: dict[str, int]
    missing_videos: int
    columns: dict[str, str]
    delimiter: str
    encoding: str

    def __str__(self) -> str:
        lines = [f"{self.kept} of {self.rows} rows of {self.source} imported to {self.output}"]
        lines += [f"  {field}: column {column!r}" for field, column in self.columns.items()]
        lines += [f"  not used: {count} ({reason})" for reason, count in self.rejected.items()]
        if self.rejected:
            lines.append(f"  each with its line and reason in {Path(self.output) / REJECTED}")
        if self.missing_videos:
            lines.append(f"  {self.missing_videos} videos are not under {self.video_root}")
        return "\n".join(lines)


def import_csv(
    source: str | Path,
    output: str | Path,
    columns: Sequence[str] = (),
    videos: str | Path | None = None,
    allow_missing: bool = False,
    encoding: str | None = None,
) -> Imported:
    """Write `pairs.json`, `dataset.json`, `import_report.json` and `rejected_rows.csv` to the folder `output`.

    `columns` are `column=field` (--map), `videos` the root of the video paths (default: the table's folder). Rows that cannot be
    used are counted by reason; rows whose video is missing are among them unless `allow_missing`. Raises TPOError if the table
    cannot be read, a column is missing or ambiguous, no row can be used, or the output cannot be written.
    """
    table, target = Path(source), Path(output)
    root = Path(videos) if videos is not None else table.parent
    if not root.is_dir():
        raise TPOError(f"no folder {root}; --videos names the folder that the table's video paths start from")
    if (target / MANIFEST).exists() and not (target / REPORT).exists():
        raise TPOError(f"{target} holds a data set that is no import; name another output")
    text, encoding = _decoded(table, encoding)
    delimiter = _delimiter(text, table)
    records = _records(text, delimiter, table)
    _, header = next(records, (0, []))
    if not any(header):
        raise TPOError(f"{table} is empty; its first line must name the columns")
    reader = _Reader(table, header, pick_columns(header, columns), root.resolve(), allow_missing)
    for line, cells in records:
        reader.take(line, cells)
    report = Imported(
        source=str(source),
        output=str(output),
        video_root=str(root),
        rows=len(reader.rows) + len(reader.rejected),
        kept=len(reader.rows),
        rejected=dict(Counter(reason for _, reason, _ in reader.rejected).most_common()),
        missing_videos=len(reader.missing),
        columns={field: header[index] for field, index in reader.columns.items()},
        delimiter=delimiter,
        encoding=encoding,
    )
    try:
        _write(report, reader, target, root)
    except (OSError, UnicodeEncodeError) as error:
        raise TPOError(f"cannot write {target}: {error}; name another output") from None
    if not reader.rows:
        raise TPOError(f"no row of {table} can be used: {report.rejected}; see {target / REJECTED}")
    return report


class _Reader:
    """Collects the rows of one table: `rows` to use, `rejected` as (line, reason, cells), `missing` video paths."""

    def __init__(
        self, table: Path, header: Sequence[str], columns: dict[str, int], root: Path, allow_missing: bool
    ) -> None:
        self.table, self.header, self.columns, self.root, self.allow_missing = (
            table,
            header,
            columns,
            root,
            allow_missing,
        )
        self.rows: list[Row] = []
        self.rejected: list[tuple[int, str, list[str]]] = []
        self.missing: set[str] = set()
        self._seen: set[str] = set()

    def take(self, line: int, cells: list[str]) -> None:
        try:
            self.rows.append(self._row(line, cells))
        except BadCell as error:
            self.rejected.append((line, str(error), cells))

    def _row(self, line: int, cells: list[str]) -> Row:
        if len(cells) != len(self.header):
            raise BadCell("more cells than columns" if len(cells) > len(self.header) else "fewer cells than columns")
        fields = {field: cells[index] for field, index in self.columns.items()}
        asked, chosen = question_and_answer(fields["chosen"])
        rejected = question_and_answer(fields["rejected"])[1]
        if "prompt" not in fields and not asked:
            raise BadCell("no prompt") if self.rows else missing_column(self.header, "prompt")
        prompt = strip_placeholders(question(fields["prompt"]) if "prompt" in fields else asked)
        texts = {"video": single_path(fields["video"]), "prompt": prompt, "chosen": chosen, "rejected": rejected}
        for name, text in texts.items():
            if not text.strip():
                raise BadCell(f"no {name}")
        if chosen == rejected:
            raise BadCell("chosen equals rejected")
        texts["video"] = self._video(texts["video"])
        content = stable_id(texts)
        if content in self._seen:
            raise BadCell("repeats an earlier row")
        self._seen.add(content)
        return Row(id=fields.get("id", "").strip() or content, tpo=self._provenance(line, cells, fields), **texts)

    def _video(self, path: str) -> str:
        """The path relative to the root, with its file name suffix where the table leaves it out."""
        if os.path.isabs(path):
            if not Path(path).is_relative_to(self.root):
                raise BadCell("absolute video path outside the video root")
            path = Path(path).relative_to(self.root).as_posix()
        if ".." in PurePosixPath(path).parts:
            raise BadCell("video path leaves the video root")
        found = next((path + suffix for suffix in ("", *SUFFIXES) if os.path.isfile(self.root / (path + suffix))), None)
        if found is None:
            self.missing.add(path)
            if not self.allow_missing:
                raise BadCell(NOT_FOUND)
        return found or path

    def _provenance(self, line: int, cells: list[str], fields: dict[str, str]) -> dict[str, Any]:
        used = {self.columns.get(field) for field in ("id", *REQUIRED)}
        rest = {name: cells[index] for index, name in enumerate(self.header) if index not in used and cells[index]}
        tpo: dict[str, Any] = {"imported": {"file": self.table.name, "line": line, "columns": rest}}
        task, kind, seconds = (fields.get(name, "").strip() for name in ("task", "kind", "seconds"))
        if task:
            tpo["task"] = task.casefold().replace(" ", "_").replace("-", "_")
        if kind.casefold() in get_args(Kind):
            tpo["kind"] = kind.casefold()
        if seconds.replace(".", "", 1).isdigit():
            tpo["seconds"] = float(seconds)
        return tpo


def _write(report: Imported, reader: _Reader, target: Path, root: Path) -> None:
    """All files of the output, `dataset.json` last: with it the folder is a data set."""
    rejected = io.StringIO()
    writer = csv.writer(rejected, lineterminator="\n")
    writer.writerow(["line", "reason", *reader.header])
    writer.writerows([line, reason, *cells] for line, reason, cells in reader.rejected)
    write_text(target / REJECTED, rejected.getvalue())
    write_json(target / REPORT, asdict(report))
    if reader.rows:
        write_json(target / "pairs.json", [to_llava(row) for row in unique_ids(reader.rows)])
        relative = Path(os.path.relpath(root.resolve(), target.resolve())).as_posix()
        write_json(target / MANIFEST, {"video_root": relative, "pairs": "pairs.json"})


def _decoded(table: Path, encoding: str | None) -> tuple[str, str]:
    """The table's text and its encoding: the given one, else by byte order mark, else UTF-8."""
    try:
        data = table.read_bytes()
    except OSError as error:
        raise TPOError(f"cannot read {table}: {error.strerror}") from None
    if encoding is None:
        wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        encoding = "utf-16" if wide else "utf-8-sig"
    try:
        return data.decode(encoding), encoding
    except (UnicodeDecodeError, LookupError) as error:
        raise TPOError(f"{table} is not {encoding} text ({error}); name its encoding: --encoding cp1252") from None


def _delimiter(text: str, table: Path) -> str:
    """The delimiter that splits the header into most columns."""
    if table.suffix.casefold() == ".tsv":
        return "\t"
    first = text.splitlines()[:1]
    return max(DELIMITERS, key=lambda mark: len(next(csv.reader(first, delimiter=mark), [])))


def _records(text: str, delimiter: str, table: Path) -> Iterator[tuple[int, list[str]]]:
    """Each record with the line that it starts on; blank lines are left out."""
    limit = csv.field_size_limit(len(text) + 1)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    line = 1
    try:
        for cells in reader:
            if cells:
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        raise TPOError(f"{table}, line {line} is not CSV: {error}") from None
    finally:
        csv.field_size_limit(limit)
