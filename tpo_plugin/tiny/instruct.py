"""Instructions about films of short to medium length to fine-tune on, in the form of LLaVA-Video-178K (`video`, `conversations`)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from tpo_plugin.curation.templates import instructions
from tpo_plugin.records import write_json
from tpo_plugin.tiny import questions
from tpo_plugin.tiny.benchmarks import write_scenes
from tpo_plugin.tiny.captions import describe
from tpo_plugin.tiny.world import Scene, draw_scenes

SCENES = (3, 4, 6, 8)
SECONDS = 4.0  # a scene
FILE = "instruct.json"


def write_instructions(folder: str | Path, seed: int, videos: int) -> None:
    """Write `instruct.json` and its films below `folder`: to each a description, an open question and two with options.

    The same seed gives the same. What is finished is kept.
    """
    root = Path(folder)
    if (root / FILE).is_file():  # written last
        return
    rows = []
    for number in tqdm(range(videos), desc="instructions", unit="video"):
        rng = random.Random(f"instruct {seed} {number}")
        scenes = draw_scenes(rng, SCENES[number % len(SCENES)], SECONDS)
        name = f"videos/{number:04d}.mp4"
        write_scenes(root / name, scenes, np.random.default_rng([seed, 11, number]))
        rows.append({"id": f"{number:04d}", "data_source": "tiny", "video": name, "conversations": _talk(scenes, rng)})
    write_json(root / FILE, rows)


def _talk(scenes: Sequence[Scene], rng: random.Random) -> list[dict[str, Any]]:
    turns = [(rng.choice(instructions()), describe(scenes))]
    asked = [found for form in questions.FORMS if (found := questions.ask(form, scenes, rng))]
    turns += [(one.text, one.answer) for one in rng.sample(asked, 1)]
    for style, one in zip(("videomme", "mlvu"), rng.sample([one for one in asked if one.has_options], 2)):
        text = questions.with_options(one.text, one.choices, style)
        turns.append((text, questions.letter_answer(one.choices, one.answer)))
    rng.shuffle(turns)
    spoken = []
    for index, (text, answer) in enumerate(turns):
        spoken.append({"from": "human", "value": text if index else f"<image>\n{text}"})
        spoken.append({"from": "gpt", "value": answer})
    return spoken
