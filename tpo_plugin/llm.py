"""Chat completions from any OpenAI-compatible server: bounded concurrency, retries, a disk cache, token counts.

The key comes from the environment only and is struck out of every text that leaves this module.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from tpo_plugin.errors import ServerError, TPOError
from tpo_plugin.options import ServerOptions

logger = logging.getLogger(__name__)
REJECTED = "rejected_request"
MOST_REJECTED = 3  # so many rejected requests before the first answer are no longer the requests' fault


@dataclass(frozen=True)
class Reply:
    """What the server said; `problem` names why its text is missing (empty_reply, refused, rejected_request)
    or not complete (cut_off)."""

    text: str
    problem: str | None = None


@dataclass
class Usage:
    """Calls and tokens; `cost` is an estimate from the recipe's prices."""

    calls: int = 0
    cached: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0


class ChatClient:
    """One server and model. Replies are kept in `cache` (sqlite) under model, messages and parameters.

    Raises ServerError where going on is pointless: no connection, key refused, no such model, no chat completions, or the first
    requests of this `kind` (what they have in common, such as the recipe parts that make them) are all rejected. A request that is
    rejected later costs itself only, and is not remembered. Until one of a kind was answered, they are sent one by one.
    """

    def __init__(self, options: ServerOptions, cache: Path, kind: str = "") -> None:
        from openai import AsyncOpenAI

        self.options = options
        self.kind = kind
        self._key = os.environ.get(options.key_env, "").strip()
        self._client = AsyncOpenAI(
            api_key=self._key or "not-needed",
            base_url=options.base_url,
            timeout=options.timeout,
            max_retries=options.retries,
        )
        cache.parent.mkdir(parents=True, exist_ok=True)
        self._cache_path, self._cache = cache, sqlite3.connect(cache)
        self._sql("PRAGMA journal_mode=WAL")
        self._sql("PRAGMA synchronous=NORMAL")
        self._sql("CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, text TEXT, problem TEXT)")
        self._sql(
            "CREATE TABLE IF NOT EXISTS usage (kind TEXT PRIMARY KEY, calls INTEGER, cached INTEGER, "
            "tokens_in INTEGER, tokens_out INTEGER, cost REAL)"
        )
        self._rejected = 0
        self._answered = self._sql("SELECT 1 FROM usage WHERE kind = ?", kind) is not None
        self._slots = asyncio.Semaphore(options.concurrency if self._answered else 1)

    def check_key(self) -> None:
        """ServerError if the server is one that needs a key and there is none, or if the key cannot be one."""
        if not (self._key.isascii() and self._key.isprintable()):
            raise ServerError(f"the key in {self.options.key_env} holds characters that no key has: set it again")
        if not self._key and "api.openai.com" in self.options.base_url:
            raise ServerError(
                f"{self.options.base_url} needs a key: set the environment variable {self.options.key_env}, "
                "or name another server in the recipe (base_url)"
            )

    async def close(self) -> None:
        """Close the connections and the cache."""
        await self._client.close()
        self._cache.close()

    def usage(self) -> Usage:
        """Calls and tokens of all clients that ever shared this cache."""
        row = self._sql("SELECT SUM(calls), SUM(cached), SUM(tokens_in), SUM(tokens_out), SUM(cost) FROM usage")
        return Usage(*(value or 0 for value in row))

    async def complete(self, messages: list[dict[str, Any]], **parameters: Any) -> Reply:
        """The reply to `messages` (OpenAI chat form), from the cache if it was asked before."""
        asked = json.dumps([self.options.model, messages, parameters], sort_keys=True, ensure_ascii=False)
        key = hashlib.sha256(asked.encode("utf-8", "surrogatepass")).hexdigest()
        row = self._sql("SELECT text, problem FROM replies WHERE key = ?", key)
        if row:
            with self._transaction() as cache:
                self._count(cache, Usage(cached=1))
            self._has_answered()
            return Reply(*row)
        self.check_key()
        async with self._slots:
            reply, used = await self._ask(messages, parameters)
        if reply.problem == REJECTED:
            return reply
        with self._transaction() as cache:
            cache.execute("INSERT OR REPLACE INTO replies VALUES (?, ?, ?)", (key, reply.text, reply.problem))
            self._count(cache, used)
        self._has_answered()
        return reply

    def _has_answered(self) -> None:
        """From the first answer on, also one from the cache, requests are sent together."""
        if not self._answered:
            self._answered = True
            for _ in range(self.options.concurrency - 1):
                self._slots.release()

    def _sql(self, statement: str, *values: Any) -> Any:
        """The first row that a statement gives, None if none; its changes are committed."""
        with self._transaction() as cache:
            return cache.execute(statement, values).fetchone()

    def _count(self, cache: sqlite3.Connection, used: Usage) -> None:
        cache.execute(
            "INSERT INTO usage VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (kind) DO UPDATE SET calls = calls + excluded.calls, "
            "cached = cached + excluded.cached, tokens_in = tokens_in + excluded.tokens_in, "
            "tokens_out = tokens_out + excluded.tokens_out, cost = cost + excluded.cost",
            (self.kind, *astuple(used)),
        )

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """The cache; changes are committed together at the end."""
        try:
            with self._cache:
                yield self._cache
        except sqlite3.Error as error:
            raise TPOError(
                f"the cache of replies {self._cache_path} cannot be used: {error}. Free some space or, if the file is damaged, "
                "delete it; then run the same command again to continue."
            ) from None

    async def _ask(self, messages: list[dict[str, Any]], parameters: dict[str, Any]) -> tuple[Reply, Usage]:
        import openai

        for attempt in range(self.options.retries + 1):
            try:
                answer: Any = await self._client.chat.completions.create(
                    model=self.options.model,
                    messages=messages,  # type: ignore[arg-type]
                    **parameters,
                )
                return self._read(answer)
            except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
                logger.warning("the server rejects a request: %s", self._safe(error))
                self._rejected += 1
                if not self._answered and self._rejected >= MOST_REJECTED:
                    raise self._error(
                        "rejects every request so far",
                        error,
                        "Mend what it names, in the recipe (model, frames, tokens, sampling) or in the server's settings. ",
                    ) from None
                return Reply("", REJECTED), Usage()
            except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
                raise self._error(f"refuses the key in {self.options.key_env}", error) from None
            except openai.NotFoundError as error:
                raise self._error(f"has no model {self.options.model!r} or no chat completions", error) from None
            except openai.RateLimitError as error:
                raise self._error("keeps answering 429 (too many requests); lower `concurrency`", error) from None
            except openai.APITimeoutError as error:
                raise self._error(f"gives no answer within {self.options.timeout:g} s", error) from None
            except openai.APIConnectionError as error:
                raise self._error("cannot be reached; is it running?", error) from None
            except openai.APIStatusError as error:
                raise self._error(f"keeps answering {error.status_code}", error) from None
            except (ValueError, AttributeError, IndexError, TypeError, openai.APIError) as error:
                if attempt == self.options.retries:
                    raise self._error("does not answer in the form of chat completions", error) from None
                await asyncio.sleep(min(8.0, 0.25 * 2**attempt))
        raise AssertionError("unreachable")

    def _read(self, answer: Any) -> tuple[Reply, Usage]:
        choice, used = answer.choices[0], Usage(calls=1)
        if answer.usage is not None:
            used.tokens_in, used.tokens_out = answer.usage.prompt_tokens, answer.usage.completion_tokens
            used.cost = (used.tokens_in * self.options.price_in + used.tokens_out * self.options.price_out) / 1e6
        if getattr(choice.message, "refusal", None) or choice.finish_reason == "content_filter":
            return Reply("", "refused"), used
        text = (choice.message.content or "").strip()
        if not text:
            return Reply("", "empty_reply"), used
        return Reply(text, "cut_off" if choice.finish_reason == "length" else None), used

    def _safe(self, error: Exception) -> str:
        text = str(error)
        return (text.replace(self._key, "***") if self._key else text)[:300]

    def _error(self, what: str, error: Exception, cure: str = "") -> ServerError:
        return ServerError(
            f"the server at {self.options.base_url} {what} ({self._safe(error)}). {cure}"
            "Nothing is lost: run the same command again to continue."
        )
