"""What an ablation in the tiny world needs around it: its files and its LLM."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tpo_plugin.tiny.benchmarks import BenchmarkSizes
from tpo_plugin.tiny.needles import write_needles
from tpo_plugin.tiny.server import TinyServer
from tpo_plugin.tiny.setting import WorldSizes, base_checkpoint, write_world


@contextmanager
def prepare(folder: Path, seed: int, **sizes: Any) -> Iterator[dict[str, str]]:
    """A seed's world below `folder` and a running server. `sizes` are WorldSizes', `benchmarks` a mapping of BenchmarkSizes'.

    Names `videos`, `benchmarks`, `needles` (folders), `server` (an address) and `shipped` (the base model).
    """
    world, needles = folder / "world", folder / "needles"
    benchmarks = BenchmarkSizes(**sizes.pop("benchmarks", {}))
    write_world(world, seed, WorldSizes(benchmarks=benchmarks, **sizes))
    write_needles(needles, seed)
    with TinyServer() as server:
        yield {
            "videos": str(world / "videos"),
            "benchmarks": str(world / "benchmarks"),
            "needles": str(needles),
            "server": server.base_url,
            "shipped": base_checkpoint(),
        }
