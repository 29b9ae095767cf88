"""A benchmark in Vinoground's style: films in pairs, of the same scenes in another order, and two captions that differ in order alone.

FOLDER/HanSolo9682/Vinoground/     the questions as lmms-eval reads them
FOLDER/vinoground/                 the films and Vinoground's own two lists; the one of video questions is empty
FOLDER/truth.json                  what it knows of other benchmarks is kept
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from tpo_plugin.records import write_json
from tpo_plugin.tiny.benchmarks import write_rows, write_scenes
from tpo_plugin.tiny.captions import describe
from tpo_plugin.tiny.world import Scene, draw_scenes

CLOSING = "\nPlease only output one English character."  # lmms-eval puts it after the question
# lmms-eval divides by 500 pairs of films. A pair here is a pair of questions: two films are asked about several times.
# Numbers of scenes of the films in turn, and pairs of questions.
GROUPS = {"2-4 scenes": ((2, 3, 4), 168), "6 scenes": ((6,), 166), "12 scenes": ((12,), 166)}
PER_FILM = 5
SECONDS = 4.0  # a scene
DATA = "vinoground"
LISTS = {
    "text": "vinoground_videos/vinoground_textscore.json",
    "video": "vinoground_videos_concated/vinoground_videoscore.json",
}


@dataclass(frozen=True)
class FilmPair:
    """Two films of the same scenes, and the couples of scenes whose order is asked: first to last in the film `pos`, not in `neg`."""

    name: str
    pos: list[Scene]
    neg: list[Scene]
    asked: list[tuple[Scene, Scene]]


def question(first: Scene, second: Scene) -> str:
    """A question whose caption A is right where `first` comes before `second`, and B where it comes after."""
    a, b = describe([first, second]), describe([second, first])
    return f"Which caption best describes this video?\nA. {a}\nB. {b}"


def film_pairs(counts: Sequence[int], questions: int, seed: int, per_film: int = PER_FILM) -> Iterator[FilmPair]:
    """Films of `counts` scenes in turn, with so many pairs of questions in all, at most `per_film` about one pair of films."""
    number = asked = 0
    while asked < questions:
        count = counts[number % len(counts)]
        rng = random.Random(f"order {seed} {count} {number}")
        pos = draw_scenes(rng, count, SECONDS)
        neg = list(pos)
        while neg == pos:
            rng.shuffle(neg)
        turned = [two for two in combinations(pos, 2) if neg.index(two[0]) > neg.index(two[1])]
        picked = rng.sample(turned, min(per_film, len(turned), questions - asked))
        yield FilmPair(f"{count:02d}-{number:03d}", pos, neg, picked)
        number, asked = number + 1, asked + len(picked)


def write_vinoground(folder: str | Path, seed: int, per_film: int = PER_FILM) -> int:
    """Write the benchmark to `folder`; returns the number of its questions. The same seed gives the same; a finished one is kept."""
    root = Path(folder)
    place = root / "HanSolo9682" / "Vinoground"
    card = place / "README.md"
    if card.is_file():
        return 2 * sum(pairs for _, pairs in GROUPS.values())
    rows: list[dict[str, Any]] = []
    facts: list[dict[str, Any]] = []
    listed: list[dict[str, str]] = []
    for group, (counts, pairs) in GROUPS.items():
        for films in tqdm(list(film_pairs(counts, pairs, seed, per_film)), desc=f"{DATA}, {group}", unit="pair"):
            for side, scenes in (("pos", films.pos), ("neg", films.neg)):
                noise = np.random.default_rng([seed, *f"{films.name}-{side}".encode()])
                write_scenes(root / DATA / _file(films, side), scenes, noise)
            for item in _asked(films, len(listed) // 2, random.Random(f"letters {seed} {films.name}")):
                listed.append(item)
                known = {"major": group, "minor": None, "answer": item["GT"], "duration": group}
                rows.append({"index": f"{item['idx']}_text", **known})
                facts.append({"kind": "order", "form": DATA, "scenes": len(films.pos)})
    write_json(root / DATA / LISTS["text"], listed)
    write_json(root / DATA / LISTS["video"], [])
    write_rows(place / "data" / "lmmseval-00000-of-00001.parquet", rows)
    _add_facts(root / "truth.json", facts)
    parts = [{"config_name": "default", "data_files": [{"split": "lmmseval", "path": "data/lmmseval-*.parquet"}]}]
    card.write_text(f"---\nconfigs: {json.dumps(parts)}\n---\n", encoding="utf-8")
    return len(rows)


def _file(films: FilmPair, side: str) -> str:
    return f"vinoground_videos/{films.name}-{side}.mp4"


def _asked(films: FilmPair, start: int, rng: random.Random) -> Iterator[dict[str, str]]:
    """The items of Vinoground's list about a pair of films; `start` is the number of the first."""
    for number, (first, second) in enumerate(films.asked, start):
        letters = rng.choice(["AB", "BA"])  # the right caption of the film `pos`, and of `neg`
        text = question(first, second) if letters == "AB" else question(second, first)
        for side, letter in zip(("pos", "neg"), letters):
            yield {"idx": f"{number}_{side}", "video_name": _file(films, side), "question": text, "GT": letter}


def _add_facts(file: Path, facts: Sequence[dict[str, Any]]) -> None:
    """What is known of the questions, beside what truth.json holds of other benchmarks."""
    known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    write_json(file, {**known, DATA: {str(number): fact for number, fact in enumerate(facts)}})
