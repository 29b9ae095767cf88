"""HTML that is escaped by construction: a `str` is text, only a `Markup` is HTML.

Joining a Markup with a str gives a str again, so a slip shows up as visible angle brackets, never as live HTML.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from typing import Any

VOID = {"br", "col", "hr", "img", "link", "meta"}
# Characters that HTML does not allow, and lone surrogates (file names that are not UTF-8): shown as U+FFFD.
NOT_HTML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


class Markup(str):
    """HTML that goes into the page as it is."""


def escape(value: Any) -> Markup:
    """The value as text that means only itself in HTML, also inside an attribute."""
    return Markup(html.escape(NOT_HTML.sub("\ufffd", str(value))))


def join(*children: Any) -> Markup:
    """The children one after the other: Markup as it is, None left out, iterables opened, everything else escaped."""
    return Markup("".join(_render(children)))


def _render(children: Iterable[Any]) -> Iterable[str]:
    for child in children:
        if isinstance(child, Markup):
            yield str(child)
        elif isinstance(child, str):
            yield escape(child)
        elif isinstance(child, Iterable):
            yield from _render(child)
        elif child is not None:
            yield escape(child)


def tag(element: str, *children: Any, **attributes: Any) -> Markup:
    """One element. `class_` is written class, `font_size` font-size; None and False leave an attribute out, True has no value."""
    opened = element + "".join(_attribute(name, value) for name, value in attributes.items())
    return Markup(f"<{opened}>") if element in VOID else Markup(f"<{opened}>{join(*children)}</{element}>")


def _attribute(name: str, value: Any) -> str:
    if value is None or value is False:
        return ""
    name = name.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(value)}"'


def model_text(text: str, **attributes: Any) -> Markup:
    """Text that a model or a user wrote, in its own writing direction; an empty one is said to be empty."""
    if not text.strip():
        return tag("p", tag("em", "(empty)"), **attributes)
    return tag("p", text, dir="auto", **attributes)


def definitions(items: Iterable[tuple[str, Any]], **attributes: Any) -> Markup:
    """Names and values as a description list; values that are None are left out."""
    rows = [tag("div", tag("dt", name), tag("dd", value)) for name, value in items if value is not None]
    return tag("dl", rows, **attributes)


def table(
    caption: str, columns: Sequence[Any], bodies: Iterable[Any], numeric: Iterable[int] = (), **attributes: Any
) -> Markup:
    """A table in its own sideways-scrolling, keyboard-reachable container. `bodies` are rows or `<tbody>`s of `row`s."""
    right = set(numeric)
    head = tag(
        "tr",
        [tag("th", name, scope="col", class_="number" if at in right else None) for at, name in enumerate(columns)],
    )
    inner = tag("table", tag("caption", tag("span", caption)), tag("thead", head), bodies, **attributes)
    return tag("div", inner, class_="scroll", tabindex="0", role="region", aria_label=caption)


def row(first: Any, *cells: Any, numeric: Iterable[int] = ()) -> Markup:
    """A table row whose first cell is its heading; `numeric` are the columns set to the right."""
    right = set(numeric)
    rest = [tag("td", cell, class_="number" if at in right else None) for at, cell in enumerate(cells, 1)]
    return tag("tr", tag("th", first, scope="row"), rest)


def details(summary: Any, *children: Any, **attributes: Any) -> Markup:
    """A part that opens on demand."""
    return tag("details", tag("summary", summary), *children, **attributes)


def not_given(what: str, command: str, purpose: str) -> Markup:
    """The sentence that stands in for a part that the report was not given; `command` is what makes one."""
    cure = join("Give an output folder of ", tag("code", command), f" to see {purpose}.")
    return tag("p", tag("strong", f"No {what} given. "), cure, class_="absent")
