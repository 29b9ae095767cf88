"""lmms-eval's own command line under a launcher: two processes share the questions and give the answers of one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tpo_plugin.errors import TPOError
from tpo_plugin.evaluation.wrappers.base import place_of
from tpo_plugin.evaluation.wrappers.hf import TemporalHF
from tpo_plugin.records import read_jsonl
from tpo_plugin.tiny import model as tiny

BASE = Path(tiny.__file__).with_name("base")
# lmms-eval's entry point after the one repair that this environment may need.
LMMS_EVAL = """
from tpo_plugin.integrations.torchvision import repair

repair()
from lmms_eval.cli.dispatch import main

main()
"""


def launch(data: Path, folder: Path, arguments: str) -> subprocess.CompletedProcess[str]:
    """lmms-eval in two processes on the CPU, offline with the data in place; its output goes to `folder`."""
    (folder / "lmms_eval_here.py").write_text(LMMS_EVAL)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "HF_HOME": str(data),
        "LMMS_EVAL_DATASETS_CACHE": str(folder / "cache"),
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    launcher = ("torch.distributed.run", "--nproc_per_node=2", f"--master_port={port}")
    written = ("--output_path", folder / "out", "--log_samples")
    return subprocess.run(
        [sys.executable, "-m", *launcher, folder / "lmms_eval_here.py", *arguments.split(), *written],
        cwd=data, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=200, check=False,
    )  # fmt: skip


def test_two_processes_give_the_answers_of_one(benchmark_folder, tmp_path, ask):
    arguments = f"--model tpo_hf --model_args pretrained={BASE},fps=0.5,max_frames_num=24 --tasks videomme,mlvu"
    done = launch(benchmark_folder, tmp_path, arguments)
    assert done.stdout.count("tpo wrapper: ") == 1, done.stdout
    samples = {
        task: sorted(read_jsonl(file), key=lambda sample: sample["doc_id"])
        for task in ("videomme", "mlvu_dev")
        for file in (tmp_path / "out").rglob(f"*_samples_{task}.jsonl")
    }
    assert {task: [sample["doc_id"] for sample in found] for task, found in samples.items()} == {
        "videomme": list(range(5)),
        "mlvu_dev": list(range(3)),
    }
    alone = TemporalHF(str(BASE), fps=0.5, max_frames_num=24)
    short, long = (benchmark_folder / "videomme" / "data" / f"{name}-000.mp4" for name in ("short", "long"))
    videos = [short] * 3 + [long] * 2 + [benchmark_folder / "mlvu" / "mlvu-000.mp4"] * 3
    both = [sample for found in samples.values() for sample in found]
    asked = list(zip(videos, (sample["input"] for sample in both)))
    expected = alone.generate_until(ask(alone, asked, {"max_new_tokens": 16, "do_sample": False}))
    assert [sample["filtered_resps"] for sample in both] == expected
    assert {answer[-1] for answer in expected} <= set("ABCD"), "the trained model names an option"


def test_an_error_in_one_process_ends_it_with_a_status(checkpoint, tmp_path, ask, capfd):
    """lmms-eval catches every exception and ends with 0; a launcher ends the other processes for another status alone."""
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    model = TemporalHF(str(checkpoint))
    model._world_size = 2
    with pytest.raises(SystemExit, match=r"^tpo: .*bad\.mp4: not a video that FFmpeg can read"):
        model.generate_until(ask(model, [(tmp_path / "bad.mp4", "Which?")]))
    assert "VideoError" in capfd.readouterr().err


def test_each_process_takes_its_own_gpu(monkeypatch):
    """As on a machine with two GPUs; nothing is put on them."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    for name in ("LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert str(place_of("auto")) == "cuda"
    for name, value in (("LOCAL_RANK", "1"), ("WORLD_SIZE", "4"), ("LOCAL_WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    assert str(place_of("auto")) == "cuda:1"
    assert str(place_of("cpu")) == "cpu"
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    with pytest.raises(TPOError, match="3 processes were started on this machine, which has 2 GPUs"):
        place_of("auto")
