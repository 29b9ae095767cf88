"""A small curation whose captioner, query writer, judge and responder are all the tiny world's server."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tpo_plugin.curation.pipeline import curate
from tpo_plugin.options import CurateRecipe
from tpo_plugin.recipe import parse
from tpo_plugin.records import PreferencePair, from_json, read_jsonl
from tpo_plugin.tiny.world import COLOURS, Scene, draw_scenes, duration, frames_at
from tpo_plugin.video import write_video

Plain = dict[str, Any]


def plain_recipe(output: Path, source: Path, base_url: str, timeout: float = 20.0) -> Plain:
    """The recipe as YAML would give it."""
    server = {"base_url": base_url, "model": "tiny-world", "retries": 0, "timeout": timeout}
    generator = {"type": "server", "server": server}
    return {
        "output": str(output),
        "videos": {"source": str(source)},
        "frames": {"fps": 1, "max": 32, "max_side": 64},
        "segments": {"min_seconds": 3, "max_seconds": 5},
        "captions": {"frames_per_call": 8, "generator": generator},
        "queries": {"per_video": 6},
        "responses": generator,
        "llm": server,
        "videos_in_flight": 2,
    }


@pytest.fixture
def recipe_for(tmp_path: Path, tiny_videos: Path, tiny_server: str) -> Callable[..., CurateRecipe]:
    """Makes a recipe; keyword arguments replace whole sections or, as dictionaries, values in them."""

    def make(
        output: str = "out",
        base_url: str = tiny_server,
        source: Path = tiny_videos,
        timeout: float = 20.0,
        **changes: Any,
    ) -> CurateRecipe:
        plain = plain_recipe(tmp_path / output, source, base_url, timeout)
        plain["videos_in_flight"] = 1  # each costs a process; the data is the same
        for key, value in changes.items():
            plain[key] = {**plain.get(key, {}), **value} if isinstance(value, dict) else value
        return parse(CurateRecipe, plain)

    return make


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, tiny_videos: Path, tiny_server: str) -> Path:
    """The output of one run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed") / "out"
    return curate(parse(CurateRecipe, plain_recipe(folder, tiny_videos, tiny_server)))


@pytest.fixture(scope="session")
def yaml_recipe() -> Callable[[Path, Path, str], str]:
    """The same recipe as the text of a file."""
    return lambda output, source, base_url: json.dumps(plain_recipe(output, source, base_url))


@pytest.fixture(scope="session")
def same_data() -> Callable[[Path, Path], None]:
    """Asserts that two outputs hold the same: data byte for byte, statistics but for time and calls."""

    def statistics(folder: Path) -> Plain:
        found = json.loads((folder / "statistics.json").read_text())
        return {key: value for key, value in found.items() if key not in ("seconds", "llm")}

    def check(one: Path, other: Path) -> None:
        for name in ("pairs.json", "candidates.jsonl"):
            assert (one / name).read_bytes() == (other / name).read_bytes(), name
        assert statistics(one) == statistics(other)

    return check


@pytest.fixture(scope="session")
def finished() -> Callable[[Path], Counter[str]]:
    """How many units of each stage an output's journal holds; asserts that none is there twice."""

    def count(output: Path) -> Counter[str]:
        lines = [json.loads(line) for line in (output / "journal.jsonl").read_text().splitlines()]
        assert max(Counter((line["stage"], line["id"]) for line in lines).values(), default=1) == 1
        return Counter(line["stage"] for line in lines)

    return count


@pytest.fixture(scope="session")
def funnel() -> Callable[[Path], dict[str, Plain]]:
    """The rows of an output's funnel by stage."""
    return lambda output: {row["stage"]: row for row in json.loads((output / "statistics.json").read_text())["funnel"]}


@pytest.fixture(scope="session")
def candidates() -> Callable[[Path], list[PreferencePair]]:
    """All candidates of an output, kept or dropped."""
    return lambda output: [from_json(PreferencePair, row) for row in read_jsonl(output / "candidates.jsonl")]


@pytest.fixture
def qa_without_llm() -> Plain:
    """Changes to the recipe: comprehensive queries from a QA set, no judge, and an LLM that nobody has a key for."""
    return {
        "queries": {"source": "qa", "ratio": {"localized": 0, "comprehensive": 1}},
        "filters": {"use": ["identical", "length"]},
        "llm": {"base_url": "https://api.openai.com/v1", "key_env": "NO_SUCH_KEY"},
    }


@pytest.fixture(scope="session")
def qa_rows() -> Callable[[str, int], list[Plain]]:
    """Makes rows as in LLaVA-Video-178K: the first turn holds the placeholder, all turns share one row."""

    def make(video: str, count: int) -> list[dict[str, Any]]:
        shapes = ("star", "ring", "cross", "circle", "square", "triangle")[:count]
        turns = [
            turn
            for index, shape in enumerate(shapes)
            for turn in (
                {"from": "human", "value": ("<image>\n" if index == 0 else "") + f"How many times is a {shape} shown?"},
                {"from": "gpt", "value": "two"},
            )
        ]
        return [{"id": video, "data_source": "0_30_s", "video": video, "conversations": turns}]

    return make


@pytest.fixture(scope="session")
def siglip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A SigLIP of random weights: alike pictures have alike features, and that is all it knows."""
    import torch
    from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel

    folder = tmp_path_factory.mktemp("siglip")
    torch.manual_seed(0)
    widths = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    tower = {**widths, "image_size": 32, "patch_size": 8}
    SiglipModel(SiglipConfig(text_config={**widths, "vocab_size": 64}, vision_config=tower)).save_pretrained(folder)
    SiglipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A film for each fate that TEMPLE's rules know; the kept ones have 8, 5 and 5 shots."""
    folder = tmp_path_factory.mktemp("films")
    names = list(COLOURS)
    eight, five = draw_scenes(random.Random(0), 8, 1.5), draw_scenes(random.Random(1), 5, 1.0)
    again = [Scene(colour, "square", "left", 1.0) for colour in ("red", "blue", "red", "white", "red")]
    many = [Scene(names[index % 12], "square", "left", 0.5) for index in range(40)]
    for name, scenes in (("eight", eight), ("five", five), ("again", again), ("many", many), ("still", eight[:1])):
        times = [index / 8 for index in range(round(duration(scenes) * 8))]
        write_video(folder / f"{name}.mp4", frames_at(scenes, times, 64), 8)
    write_video(folder / "black.mp4", np.zeros((48, 64, 64, 3), np.uint8), 8)
    (folder / "broken.mp4").write_bytes((folder / "eight.mp4").read_bytes()[:300])
    write_uneven(folder / "uneven.mp4", five)
    return folder


def write_uneven(path: Path, scenes: list[Scene]) -> None:
    """At 8 frames a second, but 24 in every other second."""
    ticks = [24 * second + tick for second in range(5) for tick in range(0, 24, 1 if second % 2 else 3)]
    pictures = frames_at(scenes, [tick / 24 for tick in ticks], 64)
    with av.open(f"file:{path}", "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width = stream.height = 64
        stream.pix_fmt, stream.codec_context.time_base = "yuv420p", Fraction(1, 24)
        for tick, picture in zip(ticks, pictures):
            frame = av.VideoFrame.from_ndarray(picture)
            frame.pts, frame.time_base = tick, Fraction(1, 24)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.fixture(scope="session")
def temple_plain(siglip: str) -> Callable[[Path, Path, str], Plain]:
    """Makes a recipe of `method: temple` as YAML would give it, everything in words by the tiny world's server."""

    def make(output: Path, source: Path, base_url: str) -> Plain:
        server = {"base_url": base_url, "model": "tiny-world", "retries": 0, "timeout": 20.0}
        generator = {"type": "server", "server": server}
        return {
            "output": str(output),
            "method": "temple",
            "videos": {"source": str(source)},
            "frames": {"max_side": 64},
            "shots": {"encoder": siglip, "similarity": 0.99, "device": "cpu"},
            "captions": {"generator": generator},
            "responses": generator,
            "filters": {"use": ["identical", "length", "drop_length", "order_length", "contained"]},
            "llm": {"base_url": "https://api.openai.com/v1", "key_env": "NO_SUCH_KEY"},
            "videos_in_flight": 1,
        }

    return make
