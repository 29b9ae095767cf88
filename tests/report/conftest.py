"""Folders as the stages leave them: real tiny videos, plausible pairs, histories and answers."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tpo_plugin.records import (
    Perturbation,
    PreferencePair,
    Query,
    Segment,
    Video,
    to_json,
    write_json,
    write_jsonl,
    write_text,
)
from tpo_plugin.tiny import questions
from tpo_plugin.tiny.world import draw_scenes, duration, frames_at
from tpo_plugin.video import spread, write_video

FPS = 4.0


def write_curation(folder: Path, videos: int = 4, pairs_per_video: int = 8, seed: int = 0) -> Path:
    """A curation output folder whose pairs are about real mp4 files; every fourth candidate is dropped."""
    rng = random.Random(seed)
    candidates = []
    for number in range(videos):
        scenes = draw_scenes(rng, 6)
        seconds = duration(scenes)
        times = [(at + 0.5) / FPS for at in range(int(seconds * FPS))]
        write_video(folder / "videos" / f"clip {number}.mp4", frames_at(scenes, times, 64), FPS)
        video = Video(f"v{number}", f"clip {number}.mp4", seconds, FPS, 64, 64)
        while len(candidates) < (number + 1) * pairs_per_video:
            asked = questions.ask(rng.choice(questions.FORMS), scenes, rng)
            if asked:
                candidates.append(_pair(len(candidates), video, asked, rng))
    kept = [pair for pair in candidates if pair.drop is None]
    dropped = Counter(pair.drop for pair in candidates if pair.drop)
    funnel = [
        {"stage": "probe", "unit": "videos", "in": videos + 1, "out": videos, "dropped": {"empty_file": 1}},
        {"stage": "filter", "unit": "pairs", "in": len(candidates), "out": len(kept), "dropped": dict(dropped)},
    ]
    statistics = {
        "funnel": funnel,
        "tasks": Counter(pair.query.task for pair in kept),
        "kinds": Counter(pair.query.kind for pair in kept),
        "lengths": {"<1": len(kept), "1-3": 0, "3-10": 0, ">10": 0},
        "llm": {"calls": 1234, "cached": 56, "tokens_in": 789_000, "tokens_out": 12_300, "cost": 0.0},
        "seconds": 143.2,
    }
    write_jsonl(folder / "candidates.jsonl", [to_json(pair) for pair in candidates])
    write_json(folder / "statistics.json", statistics)
    write_json(folder / "dataset.json", {"video_root": "videos", "pairs": "pairs.json"})
    recipe = {
        "output": "runs/pairs",
        "videos": {"source": "runs/videos"},
        "seed": 0,
        "frames": {"fps": 1.0, "max": 24},
        "queries": {"ratio": {"localized": 5, "comprehensive": 5}},
        "responses": {"type": "hf", "model": "runs/base"},
        "perturbations": {"localized": "cut_segment", "comprehensive": "drop"},
        "filters": {"use": ["identical", "length", "judge"]},
        "llm": {
            "model": "tiny-world",
            "base_url": "http://user:hunter2@127.0.0.1:8000/v1",
            "key_env": "OPENAI_API_KEY",
        },
    }
    write_text(folder / "recipe.yaml", yaml.safe_dump(recipe, sort_keys=False))
    return folder


def _pair(number: int, video: Video, asked: questions.Question, rng: random.Random) -> PreferencePair:
    start = 4.0 * rng.randrange(6)
    segment = Segment(f"s{number}", start, start + 4.0) if asked.kind == "localized" else None
    if segment:
        kept = tuple(span for span in ((0.0, start), (start + 4.0, video.seconds)) if span[1] > span[0])
        made = Perturbation("cut_segment", kept)
    else:
        made = Perturbation("drop", tuple((6.0 * at, 6.0 * at + 3.0) for at in range(4)))
    drop = ("judge_not_better", "identical", "judge_chosen_wrong")[number // 4 % 3] if number % 4 == 3 else None
    whole = ((0.0, video.seconds),)
    return PreferencePair(
        f"{number:016x}",
        video,
        Query(f"q{number}", asked.kind, asked.task, asked.text, asked.answer, segment),  # type: ignore[arg-type]
        made,
        asked.answer,
        asked.answer if drop == "identical" else rng.choice(asked.choices or ("a star on red",)),
        spread((segment.span,) if segment else whole, 4 if segment else 24),
        spread(made.kept, 20 if segment else 12),
        "A circle moves left.\nA star moves up.",
        "hf:runs/base",
        0,
        {"identical": "different", "judge": "Yes / No / Yes" if drop is None else "No / No / Yes"},
        drop,
    )


def write_training(folder: Path, steps: int = 100, preference: bool = True, seed: int = 0) -> Path:
    """A finished training output folder; without `preference` its history has the loss alone, as SFT's."""
    rng = random.Random(seed)
    history = []
    for step in range(1, steps + 1):
        done = 1 - math.exp(-step / 40)
        loss = 1.1 - 0.5 * done + rng.gauss(0, 0.06)
        entry = {"step": step, "learning_rate": 1e-4, "loss": loss, "loss/sft": loss / 2}
        if preference:
            margin = 1.6 * done + rng.gauss(0, 0.15)
            entry |= {
                "rewards/chosen": -0.2 * done,
                "rewards/rejected": -0.2 * done - margin,
                "rewards/margins": margin,
                "rewards/margins/localized": margin + 0.2,
                "rewards/margins/comprehensive": margin - 0.2,
                "rewards/accuracies": min(1.0, max(0.0, 0.5 + 0.4 * done + rng.gauss(0, 0.08))),
                "logps/chosen": -4 + 1.5 * done + rng.gauss(0, 0.3),
                "logps/rejected": -6 - 3 * done + rng.gauss(0, 0.4),
            }
        history.append(entry)
    history.append({"step": steps, "train_runtime": 99.0, "train_loss": 0.7})
    write_json(folder / "history.json", history)
    recipe = {
        "model": "runs/base",
        "data": "runs/pairs",
        "seed": 0,
        "objective": {"beta": 0.3, "dpo_alpha": 1.0 if preference else 0.0, "gamma": 0.5 if preference else 1.0},
        "frames": {"fps": 1.0, "max": 24},
        "trainable": ["projector", "language_model"],
        "arguments": {"learning_rate": 1e-4, "num_train_epochs": 1, "per_device_train_batch_size": 4},
    }
    write_text(folder / "recipe.yaml", yaml.safe_dump(recipe, sort_keys=False))
    write_json(folder / "done.json", {"steps": steps})
    return folder


TASKS = {"videomme": "videomme_perception_score", "mlvu_dev": "mlvu_percetion_score"}


def write_evaluation(
    folder: Path, right: dict[str, float], questions_a_task: int = 200, seed: int = 0, sweep: Sequence[int] = ()
) -> Path:
    """An evaluation output folder: `right` maps each model to its chance of a right answer; four questions share a video.

    With a `sweep` each model is 5 points better for each doubling of its frames up to 48.
    """
    rng = random.Random(seed)
    asked = {task: [_asked(task, number, rng) for number in range(questions_a_task)] for task in TASKS}
    # Luck is shared: a question hard for one model is hard for the others.
    luck = {task: [rng.random() for _ in rows] for task, rows in asked.items()}
    cells = []
    for label, chance in right.items():
        for task, rows in asked.items():
            for frames in sorted({*sweep, 48}):
                share = chance - 0.05 * math.log2(48 / frames)
                correct = [int(0.7 * lucky + 0.3 * rng.random() < share) for lucky in luck[task]]
                cells.append(write_cell(folder, label, frames, rows, correct, TASKS[task]))
    results = {
        "cells": cells,
        "models": {label: {"checkpoint": f"runs/{label}/model", "digest": f"{label:0>16}"} for label in right},
        "tasks": list(TASKS),
        "frames": {"fps": 1.0, "max": 48, "max_side": 96, "time_instruction": False},
        "sweep": list(sweep),
        "data": str(folder / "benchmarks"),
        "data_digest": dict.fromkeys(TASKS, "0123456789abcdef"),
        "dtype": "float32",
        "wrapper": {"model": "tpo_hf", "class": "tpo_plugin.evaluation.wrappers.hf.TemporalHF"},
        "seed": 0,
        "versions": {"lmms_eval": "0.7.3", "torch": "2.13.0", "transformers": "5.23.0"},
    }
    write_json(folder / "results.json", results)
    recipe = {"models": {label: f"runs/{label}/model" for label in right}, "tasks": list(TASKS)}
    write_text(folder / "recipe.yaml", yaml.safe_dump(recipe, sort_keys=False))
    return folder


def _asked(task: str, number: int, rng: random.Random) -> dict[str, Any]:
    form = questions.FORMS[rng.randrange(len(questions.FORMS) - 1)]
    category = "Temporal Reasoning" if form.kind == "comprehensive" and task == "videomme" else form.name
    return {
        "task": task,
        "id": f"{number:03d}",
        "category": category,
        "kind": form.kind,
        "duration": ("short", "medium", "long")[number // 4 % 3] if task == "videomme" else None,
        "question": form.template,
        "answer": "A",
        "video": f"{number // 4:03d}.mp4",
        "prompt": f"{form.template}\nAnswer with the letter.",
    }


def write_answers(
    folder: Path, models: dict[str, tuple[list[dict[str, Any]], list[int]]], frames: int | None = 8, **facts: Any
) -> Path:
    """An evaluation output folder with one cell a model: its questions, and what it has right."""
    cells = [write_cell(folder, label, frames, *answered) for label, answered in models.items()]
    entries = {label: {"checkpoint": label, "digest": label} for label in models}
    write_json(folder / "results.json", {"models": entries, "cells": cells, "frames": {"max": frames}} | facts)
    return folder


def write_cell(
    folder: Path, model: str, frames: int | None, rows: list[dict[str, Any]], correct: Sequence[int], metric: str = "m"
) -> dict[str, Any]:
    """One cell's answers, and its entry in results.json."""
    task = rows[0]["task"]
    answers = [row | {"response": "A", "correct": right} for row, right in zip(rows, correct, strict=True)]
    write_jsonl(folder / model / (str(frames) if frames else "default") / task / "answers.jsonl", answers)
    return {
        "model": model,
        "frames": frames,
        "task": task,
        "score": 100 * sum(correct) / len(correct),
        "n": len(correct),
        "metric": metric,
        "accuracy": {"value": 100 * sum(correct) / len(correct), "low": 0.0, "high": 100.0, "n": len(correct)},
        "empty_responses": 0,
        "unreadable": 0,
        "prompts": "feedbeef",
        "generation": {"max_new_tokens": 16},
    }


def write_needle(folder: Path, reach: dict[str, int], frames: Sequence[int] = (8, 16, 32, 64), seed: int = 0) -> Path:
    """A needle output folder: each model of `reach` finds nearly everything up to that many frames, and ever less beyond."""
    rng = random.Random(seed)
    models = {}
    for label, end in reach.items():
        cells = []
        for count in frames:
            for depth in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0):
                chance = 0.97 if count <= end else 0.97 * end / count
                right = [sum(rng.random() < share for _ in range(5)) / 5 for share in (chance, 0.8 * chance)]
                cells.append(
                    {"frames": count, "depth": depth, "teacher_forced": right[0], "generated": right[1], "n": 5}
                )
        means = {
            f"mean_{kind}": sum(cell[kind] for cell in cells) / len(cells) for kind in ("teacher_forced", "generated")
        }
        models[label] = {"checkpoint": f"runs/{label}/model", "digest": label, "cells": cells, **means}
    write_json(folder / "results.json", {"models": models, "fps": 1.0, "needles": "needles", "dtype": "float32"})
    return folder


@pytest.fixture(name="write_answers", scope="session")
def _write_answers() -> Callable[..., Path]:
    return write_answers


@pytest.fixture(name="write_evaluation", scope="session")
def _write_evaluation() -> Callable[..., Path]:
    return write_evaluation


@pytest.fixture(name="write_needle", scope="session")
def _write_needle() -> Callable[..., Path]:
    return write_needle


@pytest.fixture(scope="session")
def needle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_needle(tmp_path_factory.mktemp("needle"), {"base": 16, "tpo": 32})


@pytest.fixture(scope="session")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models with several numbers of frames."""
    return write_evaluation(tmp_path_factory.mktemp("swept"), {"base": 0.6, "tpo": 0.7}, 100, sweep=(12, 24, 48, 96))


@pytest.fixture(scope="session")
def curation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_curation(tmp_path_factory.mktemp("curation"))


@pytest.fixture(scope="session")
def trainings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("training")
    return {
        "sft_self": write_training(folder / "sft", preference=False),
        "tpo": write_training(folder / "tpo", seed=1),
    }


@pytest.fixture(scope="session")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_evaluation(tmp_path_factory.mktemp("evaluation"), {"base": 0.6, "sft_self": 0.63, "tpo": 0.75})
