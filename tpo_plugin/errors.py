"""Errors that a user can act on. The command line prints their text alone and exits with status 1."""

from __future__ import annotations


class TPOError(Exception):
    """Something the user can mend; the text says what is wrong and names the cure."""


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
