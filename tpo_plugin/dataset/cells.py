"""What a table's cell holds: plain text, or a conversation as JSON or as Python writes it."""

from __future__ import annotations

import ast
import json
from typing import Any

USER, ASSISTANT = ("user", "human"), ("assistant", "gpt", "model")


class BadCell(ValueError):
    """A cell that cannot be used; the text is the short reason under which its row is counted."""


def question_and_answer(cell: str) -> tuple[str, str]:
    """The cell's user turn and assistant turn; plain text is the answer alone. Raises BadCell for more than one of a kind."""
    turns = _turns(cell)
    if turns is None:
        return "", cell.strip()
    asked = [text for role, text in turns if role in USER]
    said = [text for role, text in turns if role in ASSISTANT]
    if len(asked) > 1 or len(said) > 1:
        raise BadCell("conversation of several turns")
    return (asked or [""])[0], (said or [""])[0]


def question(cell: str) -> str:
    """The cell's user turn; plain text is the question."""
    return cell.strip() if _turns(cell) is None else question_and_answer(cell)[0]


def single_path(cell: str) -> str:
    """The path in a cell, also where it is a list of one. Raises BadCell for a longer list."""
    value = _literal(cell)
    if not isinstance(value, list):
        return cell.strip()
    if len(value) != 1 or not isinstance(value[0], str):
        raise BadCell("not exactly one video")
    return value[0].strip()


def _turns(cell: str) -> list[tuple[str, str]] | None:
    """The (role, text) of each message, in LLaVA's (from, value) or the usual (role, content) form; None for plain text."""
    value = _literal(cell)
    messages = value if isinstance(value, list) else [value]
    if not messages or not all(isinstance(message, dict) for message in messages):
        return None
    turns = []
    for message in messages:
        role, content = message.get("role", message.get("from")), message.get("content", message.get("value"))
        if not isinstance(role, str) or content is None:
            return None
        turns.append((role, _text(content)))
    return turns


def _text(content: Any) -> str:
    """A message's text: itself, or the text blocks of a multimodal content list."""
    if isinstance(content, str):
        return content.strip()
    blocks = content if isinstance(content, list) else []
    return "".join(str(block.get("text") or "") for block in blocks if isinstance(block, dict)).strip()


def _literal(cell: str) -> Any:
    """The list or dict that the cell spells; None for anything else. pandas writes lists into CSV in Python's spelling."""
    text = cell.strip()
    if not text.startswith(("[", "{")):
        return None
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None
