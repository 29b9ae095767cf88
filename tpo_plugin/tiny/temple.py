"""What `tpo ablate tiny/temple` needs around it: films of 12 shots, instructions, benchmarks, a vision encoder and an LLM."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tpo_plugin.integrations.torchvision import repair
from tpo_plugin.tiny.benchmarks import BenchmarkSizes
from tpo_plugin.tiny.instruct import FILE, write_instructions
from tpo_plugin.tiny.server import TinyServer
from tpo_plugin.tiny.setting import WorldSizes, base_checkpoint, write_world
from tpo_plugin.tiny.vinoground import PER_FILM, write_vinoground

SHOTS = 12  # a film
SECONDS = 4.0  # a shot
INSTRUCTED = 200  # films to fine-tune on


@contextmanager
def prepare(
    folder: Path, seed: int, videos: int, instructed: int, per_film: int = PER_FILM, **benchmarks: Any
) -> Iterator[dict[str, str]]:
    """A seed's world below `folder` and a running server: `videos` to find shots in, `instructed` films to fine-tune on.

    `per_film` is Vinoground's, `benchmarks` are BenchmarkSizes'. Names `videos`, `benchmarks` (folders), `instructions` (a JSON), `encoder` (a checkpoint), `server` (an
    address) and `shipped` (the tiny Qwen2-VL).
    """
    world = folder / "world"
    write_world(world, seed, WorldSizes(videos, SHOTS, SECONDS, BenchmarkSizes(**benchmarks)))
    complete_world(world, seed, instructed, per_film)
    with TinyServer() as server:
        yield {
            "videos": str(world / "videos"),
            "benchmarks": str(world / "benchmarks"),
            "instructions": str(world / "instructions" / FILE),
            "encoder": str(world / "encoder"),
            "server": server.base_url,
            "shipped": base_checkpoint("qwen2_vl"),
        }


def complete_world(world: Path, seed: int, instructed: int = INSTRUCTED, per_film: int = PER_FILM) -> None:
    """What TEMPLE's recipes need beside a world's videos and benchmarks: Vinoground among the latter, `instructions/` and `encoder/`."""
    write_vinoground(world / "benchmarks", seed, per_film)
    write_instructions(world / "instructions", seed, instructed)
    _write_encoder(world / "encoder")


def _write_encoder(folder: Path) -> None:
    if (folder / "preprocessor_config.json").is_file():  # written last
        return
    repair()  # `tpo ablate` itself needs no transformers
    from tpo_plugin.tiny.encoder import write_encoder

    write_encoder(folder)
