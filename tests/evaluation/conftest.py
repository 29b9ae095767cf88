"""A small benchmark and a random checkpoint of the tiny world."""

from __future__ import annotations

from pathlib import Path

import pytest

from tpo_plugin.tiny.benchmarks import BenchmarkSizes, write_benchmarks

SIZES = BenchmarkSizes(short=3, medium=0, long=2, mlvu=3, per_video=3)


@pytest.fixture(scope="session")
def benchmark_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("benchmarks")
    write_benchmarks(folder, 5, SIZES)
    return folder


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
