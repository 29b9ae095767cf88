"""The language model of the tiny world: it captions frames, writes queries and answers, judges and scores by this world's rules.

It knows what its prompt says and nothing else: captions come from measuring the frames that it is sent, queries, answers, verdicts and
scores from the captions in the prompt.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

import numpy as np

from tpo_plugin.curation.templates import task_texts, template
from tpo_plugin.records import stable_id
from tpo_plugin.tiny.captions import describe
from tpo_plugin.tiny.questions import BY_NAME, ask, same_answer, true_answer
from tpo_plugin.tiny.vision import read_scenes
from tpo_plugin.tiny.world import Scene

SENTENCE = re.compile(r"On a (\w+) background a (\w+)(?: moves (\w+))?\.")
QUESTION = re.compile(r"^Question: (.*)(?:\nAnswer: (.*))?$", re.MULTILINE)
SHOT = re.compile(r"^Shot \d+: (.*)$", re.MULTILINE)
# Which forms of question serve a task type. Nothing has a cause in this world, so `causal` gets none.
FORMS = {
    "localized": {
        "object": ["shape"],
        "action": ["motion"],
        "spatial": ["edge"],
        "descriptive": ["scene"],
        "temporal_reasoning": ["next", "previous"],
        "information_extraction": ["shape", "motion"],
    },
    "comprehensive": {
        "object": ["next", "previous"],
        "temporal_reasoning": ["next", "previous", "order"],
        "information_extraction": ["count"],
        "summarization": ["list"],
        "descriptive": ["list"],
    },
}


def answer(text: str, frames: Sequence[np.ndarray]) -> str:
    """The reply to a prompt of the curation templates; frames are uint8 (H, W, 3)."""
    if len(frames):
        return look(text, frames)
    if "Answer 1:" in text:
        return judge(text)
    if text.startswith(template("summary").partition("\n")[0]):
        return summarise(text)
    asked = QUESTION.search(text)
    if asked is None:
        return write_query(text)
    question, given = asked.groups()
    true = true_answer(question, scenes_of(text))
    return (true or "None") if given is None else str(score(given, true))


def look(text: str, frames: Sequence[np.ndarray]) -> str:
    """An answer to a question about the frames, or their caption for any other text. What they don't show, it guesses."""
    asked = last_frames(text)
    if asked is not None:
        return caption(frames[-asked:])
    scenes = read_scenes(frames)
    for form in BY_NAME.values():
        subject = form.parse(text)
        if subject is not None:
            guess = random.Random(stable_id(text, caption(frames))).choice(form.choices(subject) or ("I cannot tell",))
            return true_answer(text, scenes) or guess
    return caption(frames)


def caption(frames: Sequence[np.ndarray]) -> str:
    """What the frames show, a sentence a scene."""
    scenes = read_scenes(frames)
    return " ".join(
        f"On a {scene.colour} background a {scene.shape}{f' moves {scene.motion}' if scene.motion else ''}."
        for scene in scenes
    )


def last_frames(text: str) -> int | None:
    """How many of the frames, the last ones, the template `caption_shot` asks about; None for another text."""
    parts = re.split(r"\{\w+\}", template("caption_shot"))
    found = re.fullmatch(r"(\d+)".join(map(re.escape, parts)), text.strip())
    return found and int(found[2])


def summarise(text: str) -> str:
    """One description of all shots in the order of their lines, in the tiny models' words; any other caption as it is."""
    shots = [describe(scenes_of(said)) or said.strip().rstrip(".") for said in SHOT.findall(text)]
    return ", ".join(shots) or "None"


def scenes_of(captions: str) -> list[Scene]:
    """The scenes that captions tell of; sentences about one scene that follow each other are put together."""
    scenes: list[Scene] = []
    for colour, shape, motion in SENTENCE.findall(captions):
        if scenes and scenes[-1].colour == colour:
            scenes[-1] = Scene(colour, shape, scenes[-1].motion or motion)
        else:
            scenes.append(Scene(colour, shape, motion))
    return scenes


def write_query(text: str) -> str:
    """A question and answer in the form that the templates ask for, or None."""
    kind = "localized" if "one part of a longer video" in text else "comprehensive"
    task = next((name for name, said in task_texts().items() if f"focuses on {said}." in text), "")
    rng = random.Random(stable_id(text))
    names = FORMS[kind].get(task, [])
    scenes = scenes_of(text)
    question = ask(BY_NAME[rng.choice(names)], scenes, rng) if names and scenes else None
    return f"Q: {question.text}\nA: {question.answer}" if question else "None"


def score(given: str, true: str | None) -> int:
    """5 for a right answer, 1 where the captions leave it open; else 1 to 4 by the share of words that are right and in their place."""
    if true is None:
        return 1
    if same_answer(given, true):
        return 5
    said, wanted = (re.findall(r"\w+", text.casefold()) for text in (given, true))
    right = sum(one == other for one, other in zip(said, wanted))
    return 1 + int(3 * right / max(len(said), len(wanted)))


def judge(text: str) -> str:
    """The three verdicts: is answer 1 better, is something ambiguous or contradictory, is answer 1 correct."""
    parts = re.search(r"Question: (.*)\nAnswer 1: (.*)\nAnswer 2: (.*)\n", text)
    if parts is None:
        return "I see no question with two answers."
    question, chosen, rejected = parts.groups()
    true = true_answer(question, scenes_of(text))
    if true is None:
        return "1: Equally\n2: Yes\n3: No"
    right, other = same_answer(chosen, true), same_answer(rejected, true)
    better = "Equally" if right == other else "Yes" if right else "No"
    return f"1: {better}\n2: {'No' if right else 'Yes'}\n3: {'Yes' if right else 'No'}"
