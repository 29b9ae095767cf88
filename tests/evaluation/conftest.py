"""A small benchmark and a random checkpoint of the tiny world, and all benchmarks of the papers with a model that knows the answers."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tpo_plugin.options import EvaluateRecipe, FrameOptions
from tpo_plugin.tiny.benchmarks import BenchmarkSizes, write_benchmarks

SIZES = BenchmarkSizes(short=3, medium=0, long=2, mlvu=3, per_video=3)
PLUGINS = Path(__file__).parents[1] / "plugins"


@pytest.fixture(scope="session")
def benchmark_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("benchmarks")
    write_benchmarks(folder, 5, SIZES)
    return folder


@pytest.fixture(scope="session")
def papers_folder(tmp_path_factory: pytest.TempPathFactory, benchmark_files: ModuleType) -> Path:
    """All benchmarks, MLVU with each of its seven task types (its score counts an absent one as 0)."""
    folder = tmp_path_factory.mktemp("papers")
    write_benchmarks(folder, 5, BenchmarkSizes(short=3, medium=0, long=2, mlvu=14, per_video=7))
    benchmark_files.write(folder, folder / "videomme" / "data" / "short-000.mp4")
    for name in ("short-000", "long-000"):
        benchmark_files.write_subtitles(folder, name)
    return folder


@pytest.fixture(scope="session")
def make_recipe() -> Callable[..., EvaluateRecipe]:
    """A function that gives the recipe of a checkpoint on a benchmark folder, with changes."""

    def make(data: Path, checkpoint: Path | str, output: Path, **changes: Any) -> EvaluateRecipe:
        values: dict[str, Any] = {
            "models": {"base": str(checkpoint)},
            "output": str(output),
            "data": str(data),
            "frames": FrameOptions(fps=0.5, max=96),
            "batch_size": 4,
        }
        return EvaluateRecipe(**{**values, **changes})

    return make


@pytest.fixture
def with_knowing(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Lets lmms-eval find the plug-in with the model that knows the answers; a function that gives the recipe's values for it."""
    monkeypatch.setenv("PYTHONPATH", str(PLUGINS))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def values(**arguments: Any) -> dict[str, Any]:
        return {"wrapper": "knowing", "wrapper_args": arguments}

    return values


@pytest.fixture
def papers(papers_folder: Path, tmp_path: Path) -> Path:
    """A copy of all benchmarks, to break."""
    shutil.copytree(papers_folder, tmp_path / "papers")
    return tmp_path / "papers"


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    import torch

    from tpo_plugin.tiny.model import build_model, build_processor

    folder = tmp_path_factory.mktemp("checkpoint")
    processor = build_processor()
    torch.manual_seed(0)
    build_model(processor).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
