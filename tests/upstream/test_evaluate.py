"""`tpo evaluate` with lmms-eval's own wrappers of the two code bases: a video that they cannot read is no score of 0."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lmms_eval", reason="lmms-eval is not installed here: pip install 'tpo-plugin[llava,lmms]'")

RECIPES = {"llava_next": "llava_video/evaluate", "longva": "longva/evaluate"}


def test_a_broken_video_fails_the_evaluation(world: Any, tmp_path: Path) -> None:
    from tpo_plugin.tiny.benchmarks import BenchmarkSizes, write_benchmarks

    data, output = tmp_path / "data", tmp_path / "out"
    write_benchmarks(data, 5, BenchmarkSizes(short=3, medium=0, long=2, mlvu=3, per_video=3))
    video = data / "mlvu" / "mlvu-000.mp4"
    video.write_bytes(video.read_bytes()[:2000])
    changes = [f"models={{base: {world.model}}}", f"data={data}", f"output={output}", "tasks=[mlvu_dev]"]
    wrapper = [f"wrapper_args.{value}" for value in ("max_frames_num=4", "device_map=auto", "device=cpu")]
    command = ["-m", "tpo_plugin", "evaluate", RECIPES[world.checkout.name], f"upstream={world.checkout.path}"]
    done = world.run(*command, *changes, *wrapper)
    assert done.returncode == 1
    assert "could not read a video and went on without it" in done.stdout
    assert "mlvu-000.mp4" in (output / "base" / "lmms_eval.log").read_text()
    assert not (output / "results.json").exists()
