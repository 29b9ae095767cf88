"""Videos whose frames tell their own number."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

BITS = 12
SIDE = 64  # pixels; one bit is a block of 16 x 16


def numbered(count: int) -> Iterator[np.ndarray]:
    """Frames that show their number in binary: a white block is a one."""
    for number in range(count):
        picture = np.zeros((SIDE, SIDE, 3), np.uint8)
        for bit in range(BITS):
            if number >> bit & 1:
                picture[bit // 4 * 16 : bit // 4 * 16 + 16, bit % 4 * 16 : bit % 4 * 16 + 16] = 255
        yield picture


@pytest.fixture
def number_of() -> Callable[[np.ndarray], int]:
    """Reads the number of a frame."""
    return lambda picture: sum(
        1 << bit for bit in range(BITS) if picture[bit // 4 * 16 + 8, bit % 4 * 16 + 8].mean() > 128
    )


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Writes numbered frames with any codec, and at any times (`ticks` of 1/100 s)."""
    import av

    def write(
        name: str,
        count: int,
        rate: float = 10,
        codec: str = "libx264",
        ticks: Iterable[int] | None = None,
        **options: str,
    ) -> Path:
        path = tmp_path / name
        with av.open(f"file:{path}", "w") as container:
            stream = container.add_stream(codec, rate=Fraction(rate).limit_denominator(1001))
            stream.width = stream.height = SIDE
            stream.pix_fmt = "yuv420p"
            stream.bit_rate = 2_000_000
            stream.options = options
            if ticks is not None:
                stream.codec_context.time_base = Fraction(1, 100)
            moments = iter(ticks or ())
            for picture in numbered(count):
                frame = av.VideoFrame.from_ndarray(picture)
                if ticks is not None:
                    frame.pts, frame.time_base = next(moments), Fraction(1, 100)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    return write
