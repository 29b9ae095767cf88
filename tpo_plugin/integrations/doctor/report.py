"""The doctor's table: rows with a verdict, then the problems and their cures as sentences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "note", "warning", "error"]


@dataclass(frozen=True)
class Row:
    """One line of the table. `level` says whether a run fails by it; `problem` and `cure` are said again below the table."""

    name: str
    found: str
    level: Level = "ok"
    problem: str = ""
    cure: str = ""
    verdict: str = ""  # shown in place of the level (a note's is not shown)


@dataclass(frozen=True)
class Section:
    title: str
    rows: list[Row]


@dataclass(frozen=True)
class Report:
    title: str
    sections: list[Section]

    @property
    def fails(self) -> bool:
        """Whether a run would fail."""
        return bool(self._rows("error"))

    def text(self) -> str:
        """The report as plain text."""
        blocks = [self.title, *map(_table, self.sections)]
        for level, title in (("error", "A run would fail"), ("warning", "Worth knowing")):
            if rows := self._rows(level):
                blocks.append("\n".join([f"{title}:", *map(_sentence, rows)]))
        if not self.fails:
            blocks.append("Nothing found that stops a run.")
        return "\n\n".join(blocks)

    def _rows(self, level: str) -> list[Row]:
        return [row for section in self.sections for row in section.rows if row.level == level]


def _table(section: Section) -> str:
    rows = [(row.name, row.found, row.verdict or row.level.replace("note", "")) for row in section.rows]
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    lines = (f"  {name:<{widths[0]}}  {found:<{widths[1]}}  {verdict}".rstrip() for name, found, verdict in rows)
    return "\n".join([section.title, *lines])


def _sentence(row: Row) -> str:
    return f"  - {row.problem}" + (f"\n    cure: {row.cure}" if row.cure else "")
