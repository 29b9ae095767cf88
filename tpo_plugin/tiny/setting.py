"""The files of a tiny world: videos to curate, and the held-out benchmarks."""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path

import numpy as np
from tqdm import tqdm

from tpo_plugin.errors import TPOError
from tpo_plugin.folders import locked
from tpo_plugin.records import write_json
from tpo_plugin.tiny.benchmarks import BenchmarkSizes, write_benchmarks, write_scenes
from tpo_plugin.tiny.world import draw_scenes


@dataclass(frozen=True)
class WorldSizes:
    """How much of a world is written: `videos` to curate, each of `scenes` scenes (a list: in turn) of `scene_seconds`, and the benchmarks."""

    videos: int = 300
    scenes: int | list[int] = 12
    scene_seconds: float = 8.0
    benchmarks: BenchmarkSizes = field(default_factory=BenchmarkSizes)


SHIPPED = {"llava_onevision": "base", "qwen2_vl": "base_qwen2_vl"}


def base_checkpoint(family: str = "llava_onevision") -> str:
    """The folder of the shipped tiny model of a family: `llava_onevision` or `qwen2_vl`."""
    return str(files("tpo_plugin.tiny") / SHIPPED[family])


def write_world(folder: Path, seed: int, sizes: WorldSizes = WorldSizes()) -> None:
    """Long videos to curate (`videos/`, their scenes in `scenes.json`) and the held-out benchmarks (`benchmarks/`).

    A finished world of the same seed and sizes is kept; TPOError for another one in the same folder.
    """
    with locked(folder):
        _write_world(folder, seed, sizes)


def _write_world(folder: Path, seed: int, sizes: WorldSizes) -> None:
    done, made = folder / "world.json", {"seed": seed, **asdict(sizes)}
    if done.is_file():
        if json.loads(done.read_text(encoding="utf-8")) != made:
            raise TPOError(f"{folder} holds a world of another seed or size; remove it or choose another output")
        return
    scenes = {}
    counts = sizes.scenes if isinstance(sizes.scenes, list) else [sizes.scenes]
    for index in tqdm(range(sizes.videos), desc="world", unit="video"):
        drawn = draw_scenes(random.Random(f"train {seed} {index}"), counts[index % len(counts)], sizes.scene_seconds)
        name = f"video_{index:03d}.mp4"
        write_scenes(folder / "videos" / name, drawn, np.random.default_rng([seed, index]))
        scenes[name] = [asdict(scene) for scene in drawn]
    write_json(folder / "scenes.json", scenes)
    write_benchmarks(folder / "benchmarks", seed, sizes.benchmarks)
    write_json(done, made)
