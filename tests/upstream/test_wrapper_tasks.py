"""Plain lmms-eval with `llava_video_tpo` and `longva_tpo` on its own tasks, offline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lmms_eval", reason="lmms-eval is not installed here: pip install 'tpo-plugin[llava,lmms]'")

MODELS = {"llava": "llava_video_tpo", "longva": "longva_tpo"}
LMMS_EVAL = (
    "from tpo_plugin.integrations.torchvision import repair; repair(); from lmms_eval.cli.dispatch import main; main()"
)


def test_lmms_eval_knows_model_and_tasks_without_a_flag(
    world: Any, benchmark_files: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tpo_plugin.tiny.benchmarks import BenchmarkSizes, write_benchmarks

    data = tmp_path / "data"
    write_benchmarks(data, 5, BenchmarkSizes(short=3, medium=0, long=2, mlvu=3, per_video=3))
    known = benchmark_files.write(data, data / "videomme" / "data" / "short-000.mp4")
    benchmark_files.write_subtitles(data, "short-000")
    counts = {task: len(known[task]) for task in ("longvideobench_val_v", "egoschema_subset", "perceptiontest_val_mc")}
    counts |= {"videomme": 5, "videomme_w_subtitle": 5, "videomme_prompt_llava_vid": 5, "mlvu_dev": 3}
    tasks = sorted({*counts, "mlvu"} - {"mlvu_dev"})
    arguments = f"pretrained={world.model},upstream={world.checkout.path},max_frames_num=2,device=cpu,dtype=float32"
    monkeypatch.setenv("HF_HOME", str(data))
    monkeypatch.setenv("LMMS_EVAL_DATASETS_CACHE", str(tmp_path / "cache"))
    done = world.run(
        *("-c", LMMS_EVAL, "--model", MODELS[world.checkout.package], "--model_args", arguments),
        *("--tasks", ",".join(tasks), "--batch_size", "4", "--output_path", tmp_path / "out", "--log_samples"),
        cwd=data,
    )
    written = {file.stem.partition("_samples_")[2]: file for file in (tmp_path / "out").rglob("*_samples_*.jsonl")}
    assert {task: len(file.read_text().splitlines()) for task, file in written.items()} == counts, done.stdout
    announced = json.loads(done.stdout.partition("tpo wrapper: ")[2].partition("\n")[0])
    assert announced["model"] == MODELS[world.checkout.package]
    assert (announced["max_frames_num"], announced["batch_size"]) == (2, 4)
