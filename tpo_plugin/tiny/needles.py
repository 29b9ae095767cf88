"""The tiny world's needle in a haystack: single frames whose background colour occurs nowhere else.

FOLDER/needles/needles.json and pictures     FOLDER/haystack.mp4     FOLDER/needle.json (what lmms-eval's task `needle` reads)
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
from PIL import Image

from tpo_plugin.records import write_json
from tpo_plugin.tiny.benchmarks import SIZE, write_scenes
from tpo_plugin.tiny.questions import BY_NAME
from tpo_plugin.tiny.world import COLOURS, MOTIONS, SHAPES, Scene, frames_at

HAYSTACK_COLOURS = 6  # the other colours are the needles'
SCENE_SECONDS = 16.0
SHAPES_A_COLOUR = 2  # needles of one colour
FRAMES = (8, 16, 32, 64, 96)  # at one frame a second, the haystack's length


def write_needles(folder: str | Path, seed: int) -> None:
    """Write `needles/` (for each colour that the haystack leaves free two pictures of different shapes) and `haystack.mp4` (96 s).

    The same seed gives the same pictures. What is finished is kept.
    """
    root = Path(folder)
    if (root / "needle.json").is_file():  # written last
        return
    rng, noise = random.Random(f"needles {seed}"), np.random.default_rng([seed, 7])
    colours = rng.sample(list(COLOURS), len(COLOURS))
    scenes = [
        Scene(colour, rng.choice(SHAPES), rng.choice(list(MOTIONS)), SCENE_SECONDS)
        for colour in colours[:HAYSTACK_COLOURS]
    ]
    write_scenes(root / "haystack.mp4", scenes, noise)
    needles = []
    (root / "needles").mkdir(parents=True, exist_ok=True)
    for colour in colours[HAYSTACK_COLOURS:]:
        for shape in rng.sample(SHAPES, SHAPES_A_COLOUR):
            scene = Scene(colour, shape, rng.choice(list(MOTIONS)), SCENE_SECONDS)
            picture = frames_at([scene], [rng.uniform(0.2, 0.8) * SCENE_SECONDS], SIZE, noise)[0]
            Image.fromarray(picture).save(root / "needles" / f"{colour}-{shape}.png")
            question = BY_NAME["shape"].template.format(subject=colour)
            needles.append({"image": f"{colour}-{shape}.png", "question": question, "answer": shape})
    write_json(root / "needles" / "needles.json", needles)
    write_json(
        root / "needle.json",
        {"needles": "needles", "haystack": "haystack.mp4", "frames": list(FRAMES), "max_side": SIZE},
    )
