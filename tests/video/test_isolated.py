"""A decoder that hangs or crashes costs its call, not the process that asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tpo_plugin.errors import VideoError
from tpo_plugin.video.isolated import IsolatedDecoder

BAD_DECODERS = """
import os
import time


def hang(path):
    time.sleep(60)


def crash(path):
    os._exit(139)


def exhaust(path):
    raise MemoryError
"""


def test_hang_and_crash(write: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bad_decoders.py").write_text(BAD_DECODERS)
    monkeypatch.syspath_prepend(tmp_path)
    import bad_decoders

    good = write("a.mp4", 20)

    async def reason(decoder: IsolatedDecoder, function: Callable[..., Any]) -> str:
        with pytest.raises(VideoError) as caught:
            await decoder.call(function, Path("x.mp4"))
        return caught.value.reason

    async def run() -> None:
        # A worker's start counts towards no call, so the limit can be short.
        with IsolatedDecoder(workers=1, timeout=1.0) as decoder:
            assert await asyncio.gather(
                reason(decoder, bad_decoders.hang),
                reason(decoder, bad_decoders.crash),
                reason(decoder, bad_decoders.exhaust),
            ) == ["decoder_timeout", "decoder_crash", "decoder_crash"]
            assert (await decoder.probe(good)).seconds == pytest.approx(2)
            frames = await decoder.read_frames(good, [0.5, 1.5], 32)
            assert frames.shape == (2, 32, 32, 3)
            assert frames.dtype == np.uint8
            with pytest.raises(VideoError) as caught:
                await decoder.probe(tmp_path / "nothing.mp4")
            assert caught.value.reason == "missing_file"

    asyncio.run(run())


def test_leaving_stops_work_in_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow_decoder.py").write_text("import time\n\n\ndef sleep(path):\n    time.sleep(60)\n")
    monkeypatch.syspath_prepend(tmp_path)
    import slow_decoder

    async def run() -> float:
        with IsolatedDecoder(workers=1, timeout=100.0) as decoder:
            task = asyncio.create_task(decoder.call(slow_decoder.sleep, Path("x")))
            await asyncio.sleep(0.5)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            started = time.monotonic()
        return time.monotonic() - started

    assert asyncio.run(run()) < 10
