"""The tiny world's held-out benchmarks, laid out as lmms-eval reads Video-MME and MLVU from local files.

FOLDER/lmms-eval/Video-MME/test.parquet     FOLDER/videomme/data/*.mp4
FOLDER/sy1998/MLVU_dev/test.parquet         FOLDER/mlvu/*.mp4
FOLDER/truth.json                           {task: {question id: {kind, form, scenes, video}}}
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from tpo_plugin.records import write_json
from tpo_plugin.tiny import questions
from tpo_plugin.tiny.questions import BY_NAME, LETTERS, Question
from tpo_plugin.tiny.world import Scene, draw_scenes, duration, frames_at
from tpo_plugin.video import write_video

SIZE = 96  # pixels
FPS = 2.0
# All seven of MLVU's task types are filled, because its score is the mean over the seven and an absent one counts as 0.
# Single detail: needle, ego, plotQA; holistic: topic_reasoning, anomaly_reco; multi-detail: order, count.
VIDEOMME_TYPES = {
    "shape": "Object Recognition",
    "motion": "Action Recognition",
    "edge": "Spatial Perception",
    "next": "Temporal Reasoning",
    "previous": "Temporal Reasoning",
    "order": "Temporal Perception",
    "count": "Counting Problem",
}
MLVU_TYPES = {
    "shape": "needle",
    "motion": "ego",
    "edge": "plotQA",
    "next": "topic_reasoning",
    "previous": "anomaly_reco",
    "order": "order",
    "count": "count",
}
LOCALIZED = tuple(name for name in VIDEOMME_TYPES if BY_NAME[name].kind == "localized")
COMPREHENSIVE = tuple(name for name in VIDEOMME_TYPES if BY_NAME[name].kind == "comprehensive")


@dataclass(frozen=True)
class BenchmarkSizes:
    """Numbers of questions, in all and per video.

    Video-MME: short (1-3 scenes of 4 s), medium (6 of 8 s), long (12 of 8 s). MLVU: 12 scenes of 8 s.
    """

    short: int = 120
    medium: int = 40
    long: int = 80
    mlvu: int = 160
    per_video: int = 4


@dataclass(frozen=True)
class Film:
    """A held-out video with its questions."""

    name: str
    scenes: list[Scene]
    asked: list[Question]


def write_benchmarks(folder: str | Path, seed: int = 0, sizes: BenchmarkSizes = BenchmarkSizes()) -> dict[str, int]:
    """Write both benchmarks to `folder`; returns the number of questions of each task.

    The same seed gives the same questions and frames.
    """
    root = Path(folder)
    videomme, mlvu, truth = [], [], {"videomme": {}, "mlvu_dev": {}}  # type: ignore[var-annotated]
    groups = {"short": sizes.short, "medium": sizes.medium, "long": sizes.long, "mlvu": sizes.mlvu}
    for group, count in groups.items():
        for film in tqdm(list(films(group, count, sizes.per_video, seed)), desc=f"{group} benchmark", unit="video"):
            folder_of = "mlvu" if group == "mlvu" else "videomme/data"
            noise = np.random.default_rng([seed, *film.name.encode()])
            write_scenes(root / folder_of / f"{film.name}.mp4", film.scenes, noise)
            for number, question in enumerate(film.asked, 1):
                fact = {"kind": question.kind, "form": question.form, "scenes": len(film.scenes), "video": film.name}
                if group == "mlvu":
                    truth["mlvu_dev"][str(len(mlvu))] = fact  # MLVU has no question ids: the row's number
                    mlvu.append(_mlvu_row(film, question))
                else:
                    row = _videomme_row(group, film, number, question)
                    truth["videomme"][row["question_id"]] = fact
                    videomme.append(row)
    write_rows(root / "lmms-eval" / "Video-MME" / "test.parquet", videomme)
    write_rows(root / "sy1998" / "MLVU_dev" / "test.parquet", mlvu)
    write_json(root / "truth.json", truth)
    return {"videomme": len(videomme), "mlvu_dev": len(mlvu)}


def films(group: str, count: int, per_video: int, seed: int) -> Iterator[Film]:
    """Videos with `count` questions in all, half localized and half comprehensive where the video allows it."""
    asked = 0
    for number in range(-(-count // per_video)):
        rng = random.Random(f"film {seed} {group} {number}")
        if group == "short":
            scenes = draw_scenes(rng, 1 + number % 3, 4.0)
        else:
            scenes = draw_scenes(rng, 6 if group == "medium" else 12, 8.0)
        wanted = min(per_video, count - asked)
        film = Film(f"{group}-{number:03d}", scenes, _ask(scenes, wanted, number * per_video, rng))
        asked += len(film.asked)
        yield film


def _ask(scenes: list[Scene], count: int, start: int, rng: random.Random) -> list[Question]:
    """`count` different questions, localized and comprehensive by turns; `start` says whose turn it is."""
    comprehensive = COMPREHENSIVE if len(scenes) > 1 else ("count",)
    found: list[Question] = []
    turn = start
    while len(found) < count:
        forms = LOCALIZED if turn % 2 == 0 else comprehensive
        turn += 1
        form = BY_NAME[forms[(turn // 2) % len(forms)]]
        tries = (questions.ask(form, scenes, rng) for _ in range(20))
        fresh = (one for one in tries if one and one.has_options and one not in found)
        question = next(fresh, None)
        if question is not None:
            found.append(question)
        elif turn - start > 100:
            raise ValueError(f"{len(scenes)} scenes do not give {count} different questions; ask fewer per video")
    return found


def write_scenes(path: Path, scenes: list[Scene], noise: np.random.Generator) -> None:
    """Write the video of these scenes: FPS frames a second, SIZE pixels a side, each frame varied a little by `noise`."""
    times = [index / FPS for index in range(round(duration(scenes) * FPS))]
    write_video(path, frames_at(scenes, times, SIZE, noise), FPS)


def _videomme_row(group: str, film: Film, number: int, question: Question) -> dict[str, Any]:
    return {
        "video_id": film.name,
        "duration": group,
        "domain": "Life Record",
        "sub_category": "Daily Life",
        "url": "",
        "videoID": film.name,
        "question_id": f"{film.name}-{number}",
        "task_type": VIDEOMME_TYPES[question.form],
        "question": question.text,
        "options": [f"{letter}. {option}" for letter, option in zip(LETTERS, question.choices)],
        "answer": LETTERS[question.choices.index(question.answer)],
    }


def _mlvu_row(film: Film, question: Question) -> dict[str, Any]:
    return {
        "video_name": f"{film.name}.mp4",
        "question": questions.mlvu_question(question.text, question.choices),
        "answer": LETTERS[question.choices.index(question.answer)],
        "task_type": MLVU_TYPES[question.form],
    }


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """The rows as a parquet file."""
    import pyarrow
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
