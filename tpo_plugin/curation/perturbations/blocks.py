"""Blocks of neighbouring places, which shuffle and reverse move as wholes."""

from __future__ import annotations


def blocks(count: int, difficulty: int) -> list[range]:
    """The places 0 .. `count` - 1 in blocks of max(1, floor(count / difficulty)); the last one may be shorter.

    The paper's text says 'ceil(N/r) groups', which contradicts its own levels: at r = 16 and N = 16 that is one group,
    and nothing moves at the level that it calls most drastic. Blocks of that *size*, as in the released code, agree
    with everything else: r = 16 moves single shots, r = 2 swaps halves.
    """
    size = max(1, count // difficulty)
    return [range(start, min(start + size, count)) for start in range(0, count, size)]
