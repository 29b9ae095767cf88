"""Probing and decoding in processes of their own: a decoder that hangs or crashes costs one video, not the run."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import TimeoutError as DecodeTimeout
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from pebble import ProcessExpired, ProcessPool

from tpo_plugin.errors import VideoError
from tpo_plugin.video.container import REASONS
from tpo_plugin.video.decode import read_frames
from tpo_plugin.video.probe import VideoInfo, probe


class IsolatedDecoder:
    """`workers` decoder processes; each call may take `timeout` seconds."""

    def __init__(self, workers: int, timeout: float) -> None:
        self.timeout = timeout
        self._pool = ProcessPool(max_workers=workers, context=multiprocessing.get_context("spawn"))

    def __enter__(self) -> IsolatedDecoder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.stop()
        self._pool.join()

    async def probe(self, path: Path) -> VideoInfo:
        """As `video.probe`; also raises VideoError decoder_timeout, decoder_crash."""
        info: VideoInfo = await self.call(probe, path)
        return info

    async def read_frames(
        self, path: Path, times: Sequence[float], max_side: int, max_pixels: int | None = None
    ) -> np.ndarray:
        """As `video.read_frames`; also raises VideoError decoder_timeout, decoder_crash."""
        frames: np.ndarray = await self.call(read_frames, path, times, max_side, max_pixels)
        return frames

    async def call(self, function: Callable[..., Any], path: Path, *args: Any) -> Any:
        """`function(path, *args)`, which another process can import; also raises VideoError decoder_timeout, decoder_crash."""
        future = self._pool.schedule(function, args=(path, *args), timeout=self.timeout)
        try:
            return await asyncio.wrap_future(future)
        except DecodeTimeout:
            text = f"{path}: {REASONS['decoder_timeout']} ({self.timeout:g} s; raise videos.decode_timeout)"
            raise VideoError("decoder_timeout", text) from None
        except ProcessExpired as error:
            raise VideoError("decoder_crash", f"{path}: {REASONS['decoder_crash']} (exit {error.exitcode})") from None
        except MemoryError:
            raise VideoError("decoder_crash", f"{path}: {REASONS['decoder_crash']} (out of memory)") from None
