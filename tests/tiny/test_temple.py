"""What `tpo ablate tiny/temple` is prepared with."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from tpo_plugin.curation.shot_groups import cosines
from tpo_plugin.dataset.pairs import load_pairs
from tpo_plugin.integrations.vision_encoder import load_encoder
from tpo_plugin.options import FrameOptions, ShotOptions
from tpo_plugin.recipe import read
from tpo_plugin.tiny.captions import describe
from tpo_plugin.tiny.encoder import write_encoder
from tpo_plugin.tiny.instruct import FILE, write_instructions
from tpo_plugin.tiny.questions import LETTERS, true_answer
from tpo_plugin.tiny.vision import read_scenes
from tpo_plugin.tiny.world import draw_scenes, frames_at
from tpo_plugin.training.data import TrainingPairs
from tpo_plugin.video import probe, read_frames, sample_times


def test_the_encoder_tells_scenes_apart(tmp_path: Path) -> None:
    write_encoder(tmp_path)
    encode = load_encoder(ShotOptions(encoder=str(tmp_path), device="cpu"))
    alike, other = [], []
    for seed in range(10):
        scenes = draw_scenes(random.Random(seed), 12, 4.0)
        middles = encode(frames_at(scenes, [4 * place + 2 for place in range(12)], 96, np.random.default_rng(seed)))
        again = encode(frames_at(scenes, [4 * place + 2 for place in range(12)], 96, np.random.default_rng(seed + 100)))
        similar = cosines(np.concatenate([middles, again]))
        alike += np.diag(similar[:12, 12:]).tolist()
        other += similar[:12, :12][~np.eye(12, dtype=bool)].tolist()
    assert np.percentile(alike, 5) > 0.8, "the same moment of a scene, drawn with other noise"
    assert np.percentile(other, 95) < 0.7
    assert np.mean(np.array(other) > 0.9) < 0.005, "the recipe's threshold"


def test_instructions_are_true(tmp_path: Path) -> None:
    write_instructions(tmp_path, 0, 8)
    rows = json.loads((tmp_path / FILE).read_text())
    lengths = []
    for row in rows:
        film = tmp_path / row["video"]
        scenes = read_scenes(read_frames(film, sample_times([(0.0, probe(film).seconds)], FrameOptions(fps=1)), 96))
        lengths.append(len(scenes))
        said = [turn["value"].removeprefix("<image>\n") for turn in row["conversations"]]
        for text, answer in zip(said[::2], said[1::2]):
            if "\n" in text:  # with options: the question is a line of its own
                true = next(found for line in text.splitlines() if (found := true_answer(line, scenes)))
                assert answer[:-2] == true
                assert answer[-1] in LETTERS
            else:
                assert answer in (true_answer(text, scenes), describe(scenes))
    assert lengths == [3, 4, 6, 8, 3, 4, 6, 8]
    pairs, root = load_pairs(tmp_path / FILE)
    assert len(TrainingPairs(pairs, root, FrameOptions(fps=0.5))) == 32


def test_the_ablation_in_small(tmp_path: Path) -> None:
    """Shots, 12 pairs a film, two stages, SFT, lmms-eval: a part of the shipped recipe, through the command line."""
    recipe = read("tiny/temple")
    dpo = {**recipe["train"]["dpo"], "curriculum.levels": [12, 2], "arguments.per_device_train_batch_size": 3}
    recipe |= {
        "output": str(tmp_path / "out"),
        "seeds": [1],
        "prepare_with": {"videos": 3, "instructed": 4, "per_film": 30, "short": 1, "medium": 0, "long": 0, "mlvu": 0},
        "curate": {"lists": recipe["curate"]["lists"]},
        "train": {"dpo": dpo, "dpo_sft": recipe["train"]["dpo_sft"]},
    }
    recipe["evaluate"]["benchmarks"] |= {"tasks": ["vinoground"], "models": ["dpo_sft"]}
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(recipe))
    subprocess.run([sys.executable, "-m", "tpo_plugin", "ablate", tmp_path / "small.yaml"], check=True, timeout=280)
    seed = tmp_path / "out" / "seed-1"
    pairs = json.loads((seed / "curate" / "lists" / "pairs.json").read_text())
    assert len({(row["video"], row["prompt"], row["chosen"]) for row in pairs}) == 3, "one chosen description a film"
    assert 30 <= len(pairs) <= 36
    history = json.loads((seed / "train" / "dpo" / "history.json").read_text())
    assert list(dict.fromkeys(entry["stage"] for entry in history)) == ["stage-1-r12", "stage-2-r2"]
    tuned = json.loads((seed / "train" / "dpo_sft" / "history.json").read_text())
    assert all("grad_norm" in entry for entry in tuned if "loss" in entry)
    rows = json.loads((tmp_path / "out" / "summary.json").read_text())
    scores = {(row["name"], row["category"]): row for row in rows}
    assert scores["dpo_sft", "text"]["n"] == 500
    assert scores["dpo_sft", "all"]["score"] == pytest.approx(scores["dpo_sft", "text"]["score"])
