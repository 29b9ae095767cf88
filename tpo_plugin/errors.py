"""Errors that a user can act on. The command line prints their text alone and exits with status 1."""

from __future__ import annotations

import sys
from types import TracebackType


class TPOError(Exception):
    """Something the user can mend; the text says what is wrong and names the cure."""


def one_line(error: TPOError) -> str:
    """The error's own text, also if a data loader's worker raised it and torch put a traceback before it."""
    text = str(error)
    return text.rpartition("TPOError: ")[2].strip() if text.startswith("Caught TPOError") else text


def show_as_one_line() -> None:
    """In a process that is not ours, such as an upstream script: let a TPOError end it with its text instead of a traceback."""
    shown = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if isinstance(error, TPOError):
            sys.stderr.write(f"tpo: {one_line(error)}\n")
        else:
            shown(kind, error, trace)

    sys.excepthook = hook


class RecipeError(TPOError):
    """A recipe with an unknown key, a wrong type or values that do not fit together."""


class VideoError(TPOError):
    """A video that cannot be used; `reason` is the short name under which it is counted."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason

    def __reduce__(self):
        return type(self), (self.reason, str(self))


class ServerError(TPOError):
    """An OpenAI-compatible server that cannot be used at all (down, key refused, answers no chat completions)."""


class EvaluationError(TPOError):
    """An evaluation that failed or is incomplete: never reported as a score."""
