"""What can be asked in the tiny world, and the true answer to it.

Every question is one of a few *forms*. A form belongs to one of the paper's task types, is localized (it names one place in
the video) or comprehensive (it needs the whole of it), and can be asked, parsed back and answered from the scenes.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tpo_plugin.tiny.world import MOTIONS, SHAPES, Scene

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
EDGES = {"left": "left side", "right": "right side", "up": "top", "down": "bottom"}
LETTERS = "ABCD"


@dataclass(frozen=True)
class Question:
    """A question about some scenes with its true answer.

    `choices` are the four answers that it could have, in a fixed order (none where any text may be one): a model of this size
    does not learn to look a letter up in a shuffled list.
    """

    form: str
    task: str
    kind: str
    text: str
    answer: str
    choices: tuple[str, ...] = ()

    @property
    def has_options(self) -> bool:
        """Whether it can be asked with four options, the true answer among them."""
        return self.answer in self.choices


@dataclass(frozen=True)
class Form:
    """`subjects` lists what can be filled into `template`; `answer` is None where the scenes leave it open."""

    name: str
    task: str
    kind: str
    template: str
    subjects: Callable[[Sequence[Scene]], list[str]]
    answer: Callable[[Sequence[Scene], str], str | None]
    choices: Callable[[str], tuple[str, ...]] = lambda subject: ()

    def parse(self, text: str) -> str | None:
        """The subject of `text` if it is a question of this form."""
        pattern = re.escape(self.template).replace(r"\{subject\}", "(.+)")
        match = re.fullmatch(pattern, text.strip())
        return match and match.group(1)


def _place(scenes: Sequence[Scene], colour: str) -> int | None:
    places = [index for index, scene in enumerate(scenes) if scene.colour == colour]
    return places[0] if len(places) == 1 else None


def _at(scenes: Sequence[Scene], colour: str, shift: int = 0) -> Scene | None:
    place = _place(scenes, colour)
    if place is None or not 0 <= place + shift < len(scenes):
        return None
    return scenes[place + shift]


def _shape(scenes: Sequence[Scene], colour: str, shift: int = 0) -> str | None:
    scene = _at(scenes, colour, shift)
    return scene.shape if scene else None


def _motion(scenes: Sequence[Scene], colour: str) -> str | None:
    scene = _at(scenes, colour)
    return (scene.motion or None) if scene else None


def _described(scenes: Sequence[Scene], colour: str) -> str | None:
    scene = _at(scenes, colour)
    return f"a {scene.shape} moves {scene.motion}" if scene and scene.motion else None


def _earlier(scenes: Sequence[Scene], subject: str) -> str | None:
    one, _, other = subject.partition(" or ")
    first, second = _place(scenes, one), _place(scenes, other)
    if first is None or second is None:
        return None
    return one if first < second else other


def _count(scenes: Sequence[Scene], shape: str) -> str:
    return NUMBERS[sum(scene.shape == shape for scene in scenes)]


def _colours(scenes: Sequence[Scene]) -> list[str]:
    return [scene.colour for scene in scenes]


def _colour_pairs(scenes: Sequence[Scene]) -> list[str]:
    colours = _colours(scenes)
    return [f"{one} or {other}" for one in colours for other in colours if one != other]


def _shapes(scenes: Sequence[Scene]) -> list[str]:
    return sorted({scene.shape for scene in scenes})


def _listing(scenes: Sequence[Scene]) -> str:
    return ", ".join(f"{scene.colour} {scene.shape}" for scene in scenes)


WHEN = "when the background is {subject}"
FORMS = (
    Form("shape", "object", "localized", f"What shape is shown {WHEN}?", _colours, _shape, lambda _: SHAPES),
    Form("motion", "action", "localized", f"Which way does the shape move {WHEN}?", _colours, _motion, lambda _: tuple(MOTIONS)),
    Form(
        "edge", "spatial", "localized", f"Where does the shape end up {WHEN}?", _colours,
        lambda scenes, colour: EDGES.get(_motion(scenes, colour) or ""), lambda _: tuple(EDGES.values()),
    ),
    Form("scene", "descriptive", "localized", f"Describe what happens {WHEN}.", _colours, _described),
    Form(
        "next", "temporal_reasoning", "comprehensive", "What shape is shown right after the {subject} background?",
        lambda scenes: _colours(scenes)[:-1], lambda scenes, colour: _shape(scenes, colour, 1), lambda _: SHAPES,
    ),
    Form(
        "previous", "temporal_reasoning", "comprehensive", "What shape is shown right before the {subject} background?",
        lambda scenes: _colours(scenes)[1:], lambda scenes, colour: _shape(scenes, colour, -1), lambda _: SHAPES,
    ),
    Form(
        "order", "temporal_reasoning", "comprehensive", "Which background comes first, {subject}?",
        _colour_pairs, _earlier, lambda subject: (*subject.split(" or "), "both at once", "neither"),
    ),
    Form(
        "count", "information_extraction", "comprehensive", "How many times is a {subject} shown?",
        _shapes, _count, lambda _: NUMBERS[1:5],
    ),
    Form(
        "list", "summarization", "comprehensive", "List the {subject} in order.",
        lambda scenes: ["shapes"], lambda scenes, subject: _listing(scenes),
    ),
)  # fmt: skip
BY_NAME = {form.name: form for form in FORMS}


def ask(form: Form, scenes: Sequence[Scene], rng: random.Random) -> Question | None:
    """A random question of this form about `scenes`; None if they give no subject for one."""
    subjects = form.subjects(scenes)
    if not subjects:
        return None
    subject = rng.choice(subjects)
    answer = form.answer(scenes, subject)
    if answer is None:
        return None
    return Question(
        form.name, form.task, form.kind, form.template.format(subject=subject), answer, form.choices(subject)
    )


def true_answer(text: str, scenes: Sequence[Scene]) -> str | None:
    """The true answer to a question in one of the forms; None for any other text, or where the scenes leave it open."""
    for form in FORMS:
        subject = form.parse(text)
        if subject is not None:
            return form.answer(scenes, subject)
    return None


def same_answer(given: str, true: str) -> bool:
    """Whether an answer says the same, but for case, spaces and a closing full stop."""
    return given.strip().rstrip(".").casefold() == true.casefold()


def with_options(question: str, options: Sequence[str], style: str) -> str:
    """The question as lmms-eval's `videomme` or `mlvu_dev` task words it (their default prompts)."""
    if style == "videomme":
        lines = "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options))
        return (
            "Select the best answer to the following multiple-choice question based on the video and the subtitles. "
            f"Respond with only the letter (A, B, C, or D) of the correct option.\n{question}\n{lines}\n"
            "\nAnswer with the option's letter from the given choices directly."
        )
    return f"{mlvu_question(question, options)}\nOnly give the best option.\nBest option: ("


def mlvu_question(question: str, options: Sequence[str]) -> str:
    """Question and options in one text, as MLVU's `question` column has them."""
    return question + "\n" + "\n".join(f"({letter}) {option}" for letter, option in zip(LETTERS, options))


def letter_answer(options: Sequence[str], answer: str) -> str:
    """How the tiny model answers a multiple-choice question: the answer, then its letter."""
    return f"{answer} {LETTERS[list(options).index(answer)]}"
