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


def ask(world: Any, data: Path, out: Path, tasks: list[str], **arguments: str) -> tuple[str, dict[str, list[Any]]]:
    """What plain lmms-eval prints and logs of each task's samples, with the tiny checkpoint on the benchmarks in `data`."""
    given = {"pretrained": world.model, "upstream": world.checkout.path, "max_frames_num": 2, **arguments}
    done = world.run(
        *("-c", LMMS_EVAL, "--model", MODELS[world.checkout.package]),
        *("--model_args", ",".join(f"{name}={value}" for name, value in given.items()) + ",device=cpu,dtype=float32"),
        *("--tasks", ",".join(tasks), "--batch_size", "4", "--output_path", out, "--log_samples"),
        cwd=data,
    )
    written = {file.stem.partition("_samples_")[2]: file for file in out.rglob("*_samples_*.jsonl")}
    return done.stdout, {task: [json.loads(line) for line in file.open()] for task, file in written.items()}


@pytest.fixture
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder, known to lmms-eval."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("LMMS_EVAL_DATASETS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "data"


def test_temples_benchmarks_are_answered(world: Any, benchmark_files: Any, caches: Path, judge: str) -> None:
    """TempCompass, whose judge is a local server, and Vinoground's 2,000 questions."""
    from tpo_plugin.tiny.benchmarks import BenchmarkSizes, write_benchmarks

    write_benchmarks(caches, 5, BenchmarkSizes(short=1, medium=0, long=0, mlvu=0, per_video=1))
    known = benchmark_files.write(caches, caches / "videomme" / "data" / "short-000.mp4")
    tasks = [task for task in known if task.startswith(("tempcompass", "vinoground"))]
    output, samples = ask(world, caches, caches.parent / "out", tasks, max_pixels="1024")
    assert {task: len(found) for task, found in samples.items()} == {task: len(known[task]) for task in tasks}, output
    verdicts = [one["avg_accuracy"] for task, found in samples.items() if task != "vinoground" for one in found]
    assert {one["rating"] for one in verdicts} <= {0, 1}
    assert all(one["match_success"] or one["chatgpt_response"] for one in verdicts if "match_success" in one)
    assert json.loads(output.partition("tpo wrapper: ")[2].partition("\n")[0])["max_pixels"] == 1024


def test_lmms_eval_knows_model_and_tasks_without_a_flag(
    world: Any, benchmark_files: Any, caches: Path, tmp_path: Path
) -> None:
    from tpo_plugin.tiny.benchmarks import BenchmarkSizes, write_benchmarks

    data = caches
    write_benchmarks(data, 5, BenchmarkSizes(short=3, medium=0, long=2, mlvu=3, per_video=3))
    known = benchmark_files.write(data, data / "videomme" / "data" / "short-000.mp4")
    benchmark_files.write_subtitles(data, "short-000")
    counts = {task: len(known[task]) for task in ("longvideobench_val_v", "egoschema_subset", "perceptiontest_val_mc")}
    counts |= {"videomme": 5, "videomme_w_subtitle": 5, "videomme_prompt_llava_vid": 5, "mlvu_dev": 3}
    tasks = sorted({*counts, "mlvu"} - {"mlvu_dev"})
    output, samples = ask(world, data, tmp_path / "out", tasks)
    assert {task: len(found) for task, found in samples.items()} == counts, output
    announced = json.loads(output.partition("tpo wrapper: ")[2].partition("\n")[0])
    assert announced["model"] == MODELS[world.checkout.package]
    assert (announced["max_frames_num"], announced["batch_size"]) == (2, 4)
