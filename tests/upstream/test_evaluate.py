"""`tpo evaluate` on the two code bases, with our wrappers and lmms-eval's own: unmodified tasks on files in their own schemas."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("lmms_eval", reason="lmms-eval is not installed here: pip install 'tpo-plugin[llava,lmms]'")

RECIPES = {"llava_next": "llava_video/evaluate", "longva": "longva/evaluate"}
OURS = {"llava_next": "benchmarks/llava_video_tpo_128", "longva": "benchmarks/longva_tpo_128"}
COUNTS = {"videomme": 5, "videomme_w_subtitle": 5, "mlvu_dev": 3, "longvideobench_val_v": 4} | {
    **{"egoschema_subset": 5, "perceptiontest_val_mc": 3}
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, benchmark_files: ModuleType) -> Path:
    from tpo_plugin.tiny.benchmarks import BenchmarkSizes, write_benchmarks

    folder = tmp_path_factory.mktemp("data")
    write_benchmarks(folder, 5, BenchmarkSizes(short=3, medium=0, long=2, mlvu=3, per_video=3))
    benchmark_files.write(folder, folder / "videomme" / "data" / "short-000.mp4")
    for name in ("short-000", "long-000"):
        benchmark_files.write_subtitles(folder, name)
    return folder


def test_our_wrappers_answer_every_benchmark(world: Any, data: Path, tmp_path: Path) -> None:
    """With the recipes of the paper's protocol, cut to 2 and 4 frames; first the check, then the run."""
    changes = [
        *(f"models={{base: {world.model}}}", f"data={data}", f"output={tmp_path / 'out'}", "sweep=[2, 4]", "expect={}"),
        *(
            f"tasks=[{', '.join(COUNTS)}]",
            f"upstream={world.checkout.path}",
            "dtype=float32",
            "device=cpu",
            "workers=2",
        ),
    ]
    checked = world.run("-m", "tpo_plugin", "evaluate", "--check", OURS[world.checkout.name], *changes)
    assert checked.returncode == 0, checked.stdout
    assert "todo" not in checked.stdout
    done = world.run("-m", "tpo_plugin", "evaluate", OURS[world.checkout.name], *changes)
    assert done.returncode == 0, done.stdout
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["wrapper"]["upstream"]["name"] == world.checkout.title
    assert [(cell["frames"], cell["task"], cell["n"]) for cell in results["cells"]] == [
        (frames, task, count) for frames in (2, 4) for task, count in COUNTS.items()
    ]
    for cell in results["cells"]:
        facts = cell["wrapper"]
        assert facts["max_frames_num"] == cell["frames"]
        assert {"conv_template", "mm_spatial_pool_mode", "mm_newline_position", "tokens_per_frame"} <= set(facts)


@pytest.mark.parametrize("ours", [True, False])
def test_a_broken_video_fails_the_evaluation(world: Any, tmp_path: Path, ours: bool) -> None:
    from tpo_plugin.tiny.benchmarks import BenchmarkSizes, write_benchmarks

    data, output = tmp_path / "data", tmp_path / "out"
    write_benchmarks(data, 5, BenchmarkSizes(short=3, medium=0, long=2, mlvu=3, per_video=3))
    video = data / "mlvu" / "mlvu-000.mp4"
    video.write_bytes(video.read_bytes()[:2000])
    changes = [f"models={{base: {world.model}}}", f"data={data}", f"output={output}", "tasks=[mlvu_dev]", "sweep=[4]"]
    if ours:
        recipe, said = OURS[world.checkout.name], "not a video that FFmpeg can read"
        changes += ["dtype=float32", "device=cpu", "expect={}"]
    else:
        recipe, said = RECIPES[world.checkout.name], "could not read a video and went on without it"
        changes += [f"wrapper_args.{value}" for value in ("device_map=auto", "device=cpu")]
    done = world.run("-m", "tpo_plugin", "evaluate", recipe, f"upstream={world.checkout.path}", *changes)
    assert done.returncode == 1
    assert said in done.stdout
    assert "mlvu-000.mp4" in (output / "base" / "4" / "mlvu_dev" / "lmms_eval.log").read_text()
    assert not (output / "results.json").exists()
