"""Escaping by construction."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from tpo_plugin.report.markup import Markup, escape, join, model_text, tag


class Collector(HTMLParser):
    """What a browser would make of the text: elements with their attributes, and the text in them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


HOSTILE = [
    "<script>alert(1)</script>",
    "</style></p><img src=x onerror=alert(1)>",
    "\"><b onmouseover='alert(1)'>",
    "a & b &amp; c &lt;",
    "\u202eright to left\u202c \u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
    "\u732b \U0001f408 e\u0301",
    "$title ${body} {braces}",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_text_means_itself_in_content_and_in_attributes(text: str) -> None:
    seen = Collector(tag("p", text, title=text))
    assert seen.elements == [("p", {"title": text})]
    assert seen.text == text


def test_only_markup_is_html() -> None:
    assert tag("p", Markup("<b>x</b>"), "<b>") == "<p><b>x</b>&lt;b&gt;</p>"
    # Adding a str makes a str: what was HTML becomes visible text instead of live HTML.
    assert join(Markup("<b>x</b>") + "<i>") == "&lt;b&gt;x&lt;/b&gt;&lt;i&gt;"


def test_nested_children_none_and_numbers() -> None:
    assert tag("p", ["a", None, [tag("br"), 3]]) == "<p>a<br>3</p>"


def test_attributes() -> None:
    assert tag("a", class_="x", aria_label="y", hidden=True, title=None, open=False) == (
        '<a class="x" aria-label="y" hidden></a>'
    )


@pytest.mark.parametrize("text", ["\x00", "\ud800", "\x1b", "\x85"])
def test_characters_that_html_forbids_become_visible(text: str) -> None:
    assert escape(f"a{text}b") == "a\ufffdb"


def test_model_text_is_isolated_in_direction_and_says_when_it_is_empty() -> None:
    assert model_text("\u05e9\u05dc\u05d5\u05dd") == '<p dir="auto">\u05e9\u05dc\u05d5\u05dd</p>'
    assert model_text(" \n") == "<p><em>(empty)</em></p>"
