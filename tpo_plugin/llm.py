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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tpo_plugin.errors import ServerError, TPOError
from tpo_plugin.options import ServerOptions

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reply:
    """What the server said; `problem` names why its text is missing (empty_reply, refused, rejected_request)
    or not complete (cut_off)."""

    text: str
    problem: str | None = None


@dataclass
class Usage:
    """Calls and tokens of one run; `cost` is an estimate from the recipe's prices."""

    calls: int = 0
    cached: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0


class ChatClient:
    """One server and model. Replies are kept in `cache` (sqlite) under model, messages and parameters.

    Raises ServerError where going on is pointless: no connection, key refused, no such model, no chat completions.
    """

    def __init__(self, options: ServerOptions, cache: Path, usage: Usage | None = None) -> None:
        from openai import AsyncOpenAI

        self.options = options
        self.usage = usage if usage is not None else Usage()
        self._key = os.environ.get(options.key_env, "").strip()
        self._client = AsyncOpenAI(
            api_key=self._key or "not-needed",
            base_url=options.base_url,
            timeout=options.timeout,
            max_retries=options.retries,
        )
        self._slots = asyncio.Semaphore(options.concurrency)
        cache.parent.mkdir(parents=True, exist_ok=True)
        self._cache_path, self._cache = cache, sqlite3.connect(cache)
        self._sql("PRAGMA journal_mode=WAL")
        self._sql("PRAGMA synchronous=NORMAL")
        self._sql("CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, text TEXT, problem TEXT)")

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

    async def complete(self, messages: list[dict[str, Any]], **parameters: Any) -> Reply:
        """The reply to `messages` (OpenAI chat form), from the cache if it was asked before."""
        asked = json.dumps([self.options.model, messages, parameters], sort_keys=True, ensure_ascii=False)
        key = hashlib.sha256(asked.encode("utf-8", "surrogatepass")).hexdigest()
        row = self._sql("SELECT text, problem FROM replies WHERE key = ?", key)
        if row:
            self.usage.cached += 1
            return Reply(*row)
        self.check_key()
        async with self._slots:
            reply = await self._ask(messages, parameters)
        self._sql("INSERT OR REPLACE INTO replies VALUES (?, ?, ?)", key, reply.text, reply.problem)
        return reply

    def _sql(self, statement: str, *values: Any) -> Any:
        """The first row that a statement gives, None if none; its changes are committed."""
        try:
            with self._cache:
                return self._cache.execute(statement, values).fetchone()
        except sqlite3.Error as error:
            raise TPOError(
                f"the cache of replies {self._cache_path} cannot be used: {error}. Free some space or, if the file is damaged, "
                "delete it; then run the same command again to continue."
            ) from None

    async def _ask(self, messages: list[dict[str, Any]], parameters: dict[str, Any]) -> Reply:
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
                return Reply("", "rejected_request")
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

    def _read(self, answer: Any) -> Reply:
        choice = answer.choices[0]
        self.usage.calls += 1
        if answer.usage is not None:
            self.usage.tokens_in += answer.usage.prompt_tokens
            self.usage.tokens_out += answer.usage.completion_tokens
            self.usage.cost += (
                answer.usage.prompt_tokens * self.options.price_in
                + answer.usage.completion_tokens * self.options.price_out
            ) / 1e6
        if getattr(choice.message, "refusal", None) or choice.finish_reason == "content_filter":
            return Reply("", "refused")
        text = (choice.message.content or "").strip()
        if not text:
            return Reply("", "empty_reply")
        return Reply(text, "cut_off" if choice.finish_reason == "length" else None)

    def _safe(self, error: Exception) -> str:
        text = str(error)
        return (text.replace(self._key, "***") if self._key else text)[:300]

    def _error(self, what: str, error: Exception) -> ServerError:
        return ServerError(
            f"the server at {self.options.base_url} {what} ({self._safe(error)}). "
            "Nothing is lost: run the same command again to continue."
        )
