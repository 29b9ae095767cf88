"""What the tiny models are taught about short clips: conversations whose answers the scenes give."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np

from tpo_plugin.curation.templates import instructions, template
from tpo_plugin.tiny import questions, vinoground
from tpo_plugin.tiny.captions import describe
from tpo_plugin.tiny.model import IMAGE_SIZE
from tpo_plugin.tiny.questions import Question
from tpo_plugin.tiny.world import Scene, draw_scenes, duration, frames_at

Turns = list[tuple[str, str]]
# A conversation about a clip: its frames, uint8 (T, 32, 32, 3), and questions with their answers.
Lesson = tuple[np.ndarray, Turns]

SCAN = "Describe every background in any order."
MAX_SCENES = 4
MAX_FRAMES = 8

# Shares of conversations that are a scan, a list, open questions; the rest are questions with options.
MIXES = {"recall": (0.5, 0.0, 0.5), "all": (0.1, 0.1, 0.45), "order": (0.05, 0.2, 0.4)}
# The same of the family that also describes and tells films of another order apart. Captions are learned in `all` already; orders are guessed
# until almost half of the conversations are about them.
DESCRIBING: dict[str, dict[str, float]] = {
    "recall": {"scan": 0.35, "recall": 0.5, "shot": 0.15},
    "all": {
        "scan": 0.05, "list": 0.05, "open": 0.25, "options": 0.2, "caption": 0.2, "shot": 0.1, "vinoground": 0.15,
    },
    "order": {
        "scan": 0.02, "list": 0.03, "ordered": 0.22, "options": 0.18, "caption": 0.08, "shot": 0.02, "vinoground": 0.45,
    },
}  # fmt: skip


def question_lesson(rng: random.Random, noise: np.random.Generator, mix: str) -> Lesson:
    """Questions about a clip of 1-4 scenes in 2-8 frames: a scan of its scenes, a list, open questions, or some with options.

    In `recall` only scans and localized questions occur: with them the model learns to find a scene by its colour. A scan tells the
    scenes in random order, so after each colour the rest must be looked up; without it that skill does not come. `order` asks
    mostly comprehensive questions.
    """
    scenes, frames = draw_clip(rng, noise)
    kind = rng.random()
    scans, lists, opens = MIXES[mix]
    if kind < scans:
        return frames, _scan(scenes, rng)
    if mix == "recall":
        return frames, _recall(scenes, rng)
    if kind < scans + lists:
        return frames, _list(scenes, rng)
    if kind < scans + lists + opens:
        return frames, _open(scenes, rng) if mix == "all" else _ordered(scenes, rng)
    return frames, _options(scenes, rng, more_order=mix == "order")


def describing_lesson(rng: random.Random, noise: np.random.Generator, mix: str) -> Lesson:
    """As `question_lesson`, and captions of whole clips and of single shots, and Vinoground's questions."""
    shares = DESCRIBING[mix]
    kind = rng.choices(list(shares), list(shares.values()))[0]
    if kind == "shot":
        return _shot(rng, noise)
    scenes, frames = draw_clip_in_pairs(rng, noise, at_least=2 if kind in ("ordered", "vinoground") else 1)
    ask: dict[str, Callable[[list[Scene], random.Random], Turns]] = {
        "scan": _scan, "recall": _recall, "list": _list, "open": _open, "ordered": _ordered, "caption": _caption,
        "vinoground": _vinoground,
    }  # fmt: skip
    return frames, _options(scenes, rng, more_order=mix == "order") if kind == "options" else ask[kind](scenes, rng)


def draw_clip(rng: random.Random, noise: np.random.Generator) -> tuple[list[Scene], np.ndarray]:
    """Scenes of a short clip and its frames, uint8 (T, 32, 32, 3) with 2 <= T <= 8."""
    scenes = _scenes(rng, rng.randint(1, MAX_SCENES))
    return scenes, _spread(scenes, rng.randint(2 * len(scenes), MAX_FRAMES), rng, noise)


def draw_clip_in_pairs(
    rng: random.Random, noise: np.random.Generator, at_least: int = 1
) -> tuple[list[Scene], np.ndarray]:
    """As `draw_clip` with an even number of frames, the two of a pair mostly of one scene."""
    scenes = _scenes(rng, rng.randint(at_least, MAX_SCENES))
    if rng.random() < 0.3:
        return scenes, _spread(scenes, 2 * rng.randint(len(scenes), MAX_FRAMES // 2), rng, noise)
    each = rng.choice([2, 4]) if 4 * len(scenes) <= MAX_FRAMES else 2
    return scenes, _of_each(scenes, [(number + 0.5) / each for number in range(each)], rng, noise)


def _scenes(rng: random.Random, count: int) -> list[Scene]:
    return [Scene(scene.colour, scene.shape, scene.motion, rng.uniform(3.5, 4.5)) for scene in draw_scenes(rng, count)]


def _spread(scenes: list[Scene], frames: int, rng: random.Random, noise: np.random.Generator) -> np.ndarray:
    """`frames` at even distances, cuts or no cuts."""
    start, end = rng.uniform(0, 1.0), duration(scenes) - rng.uniform(0, 1.0)
    step = (end - start) / frames
    return frames_at(scenes, [start + (i + 0.5) * step for i in range(frames)], IMAGE_SIZE, noise)


def _of_each(scenes: list[Scene], places: list[float], rng: random.Random, noise: np.random.Generator) -> np.ndarray:
    """Frames at about these places, in [0, 1], of each scene."""
    times, start = [], 0.0
    for scene in scenes:
        times += [start + scene.seconds * (place + rng.uniform(-0.1, 0.1)) for place in places]
        start += scene.seconds
    return frames_at(scenes, times, IMAGE_SIZE, noise)


def _scan(scenes: list[Scene], rng: random.Random) -> Turns:
    told = [f"{scene.colour} {scene.shape} {scene.motion}" for scene in scenes]
    rng.shuffle(told)
    return [(SCAN, ", ".join(told))]


def _askable(scenes: list[Scene], rng: random.Random) -> list[Question]:
    return [question for form in questions.FORMS if (question := questions.ask(form, scenes, rng))]


def _comprehensive(askable: list[Question]) -> list[Question]:
    return [question for question in askable if question.kind == "comprehensive" and question.form != "list"]


def _turns(picked: list[Question]) -> Turns:
    return [(question.text, question.answer) for question in picked]


def _recall(scenes: list[Scene], rng: random.Random) -> Turns:
    localized = [question for question in _askable(scenes, rng) if question.form in ("shape", "motion")]
    return _turns(rng.choices(localized, k=4))


def _list(scenes: list[Scene], rng: random.Random) -> Turns:
    return _turns([question for question in _askable(scenes, rng) if question.form == "list"])


def _open(scenes: list[Scene], rng: random.Random) -> Turns:
    return _turns(rng.choices(_askable(scenes, rng), k=4))


def _ordered(scenes: list[Scene], rng: random.Random) -> Turns:
    askable = _askable(scenes, rng)
    return _turns(rng.choices(askable, k=1) + rng.choices(_comprehensive(askable), k=3))


def _options(scenes: list[Scene], rng: random.Random, more_order: bool) -> Turns:
    """One question in Video-MME's long wording, or two in MLVU's short one."""
    askable = _askable(scenes, rng)
    offered = [question for question in askable if question.has_options]
    offered += _comprehensive(askable) if more_order else []
    style = rng.choice(["videomme", "mlvu", "mlvu"])
    return [
        (
            questions.with_options(question.text, question.choices, style),
            questions.letter_answer(question.choices, question.answer),
        )
        for question in rng.choices(offered, k=1 if style == "videomme" else 2)
    ]


def _caption(scenes: list[Scene], rng: random.Random) -> Turns:
    return [(rng.choice(instructions()), describe(scenes))]


def _vinoground(scenes: list[Scene], rng: random.Random) -> Turns:
    """Two questions, which of two captions is right, and an open one about order, from which that is learned more easily."""
    turns = []
    for _ in range(2):
        first, second = rng.sample(scenes, 2)
        right = "A" if scenes.index(first) < scenes.index(second) else "B"
        turns.append((vinoground.question(first, second) + vinoground.CLOSING, right))
    asked = questions.ask(questions.BY_NAME["order"], scenes, rng)
    return turns + _turns([asked] if asked else [])


def _shot(rng: random.Random, noise: np.random.Generator) -> Lesson:
    """A shot by two keyframes, mostly after two of the shot before."""
    scenes = _scenes(rng, 1 if rng.random() < 0.25 else 2)
    text = template("caption") if len(scenes) == 1 else template("caption_shot").format(before=2, count=2)
    return _of_each(scenes, [1 / 3, 2 / 3], rng, noise), [(text, describe(scenes[-1:]))]
