"""Folders as the stages leave them: real tiny videos, plausible pairs, histories and answers."""

from __future__ import annotations

import math
import random
from collections import Counter
from pathlib import Path

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


def write_evaluation(folder: Path, right: dict[str, float], questions_a_task: int = 200, seed: int = 0) -> Path:
    """An evaluation output folder: `right` maps each model to its chance of a right answer; four questions share a video."""
    rng = random.Random(seed)
    asked = []
    for task in ("videomme", "mlvu_dev"):
        for number in range(questions_a_task):
            form = questions.FORMS[rng.randrange(len(questions.FORMS) - 1)]
            asked.append(
                {
                    "task": task,
                    "id": f"{number:03d}",
                    "category": form.name,
                    "kind": form.kind,
                    "duration": ("short", "medium", "long")[number // 4 % 3] if task == "videomme" else None,
                    "question": form.template,
                    "answer": "A",
                    "video": f"{number // 4:03d}.mp4",
                }
            )
    luck = [rng.random() for _ in asked]  # shared: a question hard for one model is hard for the others
    models = {}
    for label, share in right.items():
        answers = [
            item | {"response": "A", "correct": int(0.7 * chance + 0.3 * rng.random() < share)}
            for item, chance in zip(asked, luck)
        ]
        write_jsonl(folder / label / "answers.jsonl", answers)
        scores = {
            task: {
                "score": 100 * sum(row["correct"] for row in answers if row["task"] == task) / questions_a_task,
                "n": questions_a_task,
                "metric": metric,
            }
            for task, metric in (("videomme", "videomme_perception_score"), ("mlvu_dev", "mlvu_percetion_score"))
        }
        models[label] = {"checkpoint": f"runs/{label}/model", "tasks": scores}
    results = {
        "models": models,
        "frames": {"fps": 1.0, "max": 48},
        "data": str(folder / "benchmarks"),
        "seed": 0,
        "versions": {"lmms_eval": "0.7.3", "torch": "2.13.0", "transformers": "5.23.0"},
    }
    write_json(folder / "results.json", results)
    recipe = {"models": {label: f"runs/{label}/model" for label in right}, "tasks": ["videomme", "mlvu_dev"]}
    write_text(folder / "recipe.yaml", yaml.safe_dump(recipe, sort_keys=False))
    return folder


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
