"""Preference pairs as training batches: the video is decoded and encoded when its batch is due."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from operator import attrgetter
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tpo_plugin.dataset.pairs import Row, load_pairs, missing_videos
from tpo_plugin.dataset.selection import at_levels, difficulty_of, select
from tpo_plugin.errors import TPOError, VideoError
from tpo_plugin.generators.base import Prompt, with_times
from tpo_plugin.integrations.huggingface import prompt_text
from tpo_plugin.options import FrameOptions, TrainRecipe
from tpo_plugin.training.policies.hf import EncodedPair, collate, encode_pair, encode_prompts, response_ids
from tpo_plugin.training.policies.hf_tree import collate_trees
from tpo_plugin.training.trainer import needs_reference
from tpo_plugin.video import VideoInfo, probe, read_frames, sample_times

logger = logging.getLogger(__name__)


class TrainingPairs:
    """The rows to train on with their videos, all of which are there and show a picture (TPOError otherwise)."""

    def __init__(
        self, rows: Sequence[Row], root: Path, frames: FrameOptions, videos: dict[str, VideoInfo] | None = None
    ) -> None:
        self.rows, self.root, self.frames = list(rows), root, frames
        self.videos = self._probe() if videos is None else videos

    @classmethod
    def of_recipe(cls, recipe: TrainRecipe) -> TrainingPairs:
        """The recipe's pairs, of the levels, as many and in the ratio that it asks for; TPOError for one that lacks a response it needs."""
        return cls(*rows_of(recipe), recipe.frames)

    def at_level(self, level: float) -> TrainingPairs:
        """The pairs of this difficulty."""
        rows = [row for row in self.rows if difficulty_of(row) == level]
        return TrainingPairs(rows, self.root, self.frames, self.videos)

    def __len__(self) -> int:
        return len(self.rows)

    def prompt(self, index: int) -> Prompt:
        """The whole video's frames and the query of a row; TPOError names the row whose video cannot be decoded."""
        row = self.rows[index]
        info = self.videos[row.video]
        times = sample_times([(0.0, info.seconds)], self.frames)
        try:
            frames = read_frames(self.root / row.video, times, self.frames.max_side, self.frames.max_pixels)
        except VideoError as error:
            raise TPOError(f"row {row.id}: {error}; {_cure(row)}") from None
        return Prompt(frames, times, info.seconds, self.text(row), max_pixels=self.frames.max_pixels)

    def text(self, row: Row) -> str:
        """What is said to the model beside the video: the query, with `time_instruction` after the frame times."""
        seconds = self.videos[row.video].seconds
        return with_times(row.prompt, seconds, sample_times([(0.0, seconds)], self.frames), self.frames)

    def _probe(self) -> dict[str, VideoInfo]:
        """Length and size of every video; TPOError if one is missing or no video."""
        check_videos(self.rows, self.root)
        first = {row.video: row for row in reversed(self.rows)}
        with ThreadPoolExecutor(4) as pool:
            found = pool.map(self._probe_one, first.values())
            infos = list(tqdm(found, desc="probe videos", total=len(first), unit="video", disable=len(first) < 100))
        return dict(zip(first, infos))

    def _probe_one(self, row: Row) -> VideoInfo:
        try:
            return probe(self.root / row.video)
        except VideoError as error:
            raise TPOError(f"row {row.id}: {error}; {_cure(row)}") from None

    def check_lengths(self, processor: Any, max_length: int, with_rejected: bool = True) -> None:
        """TPOError, before any training, for a row whose longer sequence has more than `max_length` tokens.

        The video's share is measured once for each number and size of frames; its placeholder is one token in the text.
        """
        tokens = processor.tokenizer
        video_tokens: dict[tuple[Any, ...], int] = {}
        for index, row in enumerate(self.rows):
            info = self.videos[row.video]
            shape = (len(sample_times([(0.0, info.seconds)], self.frames)), info.height, info.width)
            text = len(tokens(prompt_text(processor, self.text(row)), add_special_tokens=False)["input_ids"])
            sides = (row.chosen, row.rejected) if with_rejected else (row.chosen,)
            responses = [response_ids(processor, response) for response in sides]
            longest = max(map(len, responses))
            if shape not in video_tokens:
                video_tokens[shape] = encode_pair(processor, self.prompt(index), [row.chosen]).length
                video_tokens[shape] -= text + len(responses[0])
            check_length(row, text + video_tokens[shape] + longest, longest, max_length)


class PairCollator:
    """Turns row numbers into a batch of encoded pairs, or of their chosen sides alone (`with_rejected` false).

    `trees`: the batch is one of token trees (see `collate_trees`), one for each video, which is read once for all its pairs; `rows` are then the
    rows' numbers in the trees' order.
    """

    def __init__(
        self,
        pairs: TrainingPairs,
        processor: Any,
        with_rejected: bool,
        max_length: int | None = None,
        trees: bool = False,
    ) -> None:
        self.pairs, self.processor, self.trees = pairs, processor, trees
        self.with_rejected, self.max_length = with_rejected, max_length

    def __call__(self, features: Sequence[dict[str, int]]) -> dict[str, Any]:
        rows = [feature["row"] for feature in features]
        if not self.trees:
            return collate([self.encode(row) for row in rows], self.processor.tokenizer.pad_token_id)
        groups: dict[str, list[int]] = {}
        for row in rows:
            groups.setdefault(self.pairs.rows[row].video, []).append(row)
        encoded = [pair for group in groups.values() for pair in self.encode_group(group)]
        ordered = [row for group in groups.values() for row in group]
        batch = collate_trees(encoded, [self.pairs.rows[row].video for row in ordered])
        return {**batch, "rows": ordered}

    def encode(self, index: int) -> EncodedPair:
        """The row as the model takes it; TPOError if it has an empty response or does not fit into `max_length`."""
        return self.encode_group([index])[0]

    def encode_group(self, group: Sequence[int]) -> list[EncodedPair]:
        """As `encode` for rows of one video, of whose prompts the first alone brings it."""
        rows = [self.pairs.rows[index] for index in group]
        prompts = encode_prompts(self.processor, self.pairs.prompt(group[0]), [self.pairs.text(row) for row in rows])
        return [self._pair(row, prompt) for row, prompt in zip(rows, prompts)]

    def _pair(self, row: Row, prompt: dict[str, Any]) -> EncodedPair:
        texts = (row.chosen, row.rejected) if self.with_rejected else (row.chosen,)
        responses = tuple(response_ids(self.processor, text) for text in texts)
        pair = EncodedPair(prompt, responses, kind_of(row))
        if not all(len(response) for response in responses):
            raise TPOError(f"row {row.id}: a response has no tokens; take the row out of the data")
        if self.max_length:
            check_length(row, pair.length, max(map(len, responses)), self.max_length)
        return pair


def rows_of(recipe: TrainRecipe) -> tuple[list[Row], Path]:
    """The rows that the recipe trains on, and the root of their videos, which are not looked at. TPOError as `TrainingPairs.of_recipe`, and for
    a stage without rows."""
    found, root = load_pairs(recipe.data, recipe.video_root)
    levels = recipe.curriculum.levels if recipe.curriculum else recipe.difficulty
    if levels is not None:
        found = at_levels(found, levels)
    rows = select(found, attrgetter("id"), kind_of, recipe.max_pairs, recipe.ratio, recipe.seed)
    if recipe.curriculum and recipe.curriculum.order == "staged":
        there = set(map(difficulty_of, rows))
        empty = [f"{level:g}" for level in recipe.curriculum.levels if level not in there]
        if empty:
            raise TPOError(
                f"`max_pairs` or `ratio` leaves no pair of difficulty {' or '.join(empty)} for its stage: raise it, or take it out"
            )
    if needs_reference(recipe.objective):
        check_rejected(rows)
    return rows, root


def check_videos(rows: Sequence[Row], root: Path) -> None:
    """TPOError if a row's video is not there; none is opened."""
    missing = missing_videos(rows, root)
    if missing:
        raise TPOError(
            f"{len(missing)} of the pairs' videos are not under {root}: {', '.join(missing[:3])}"
            f"{', ...' if len(missing) > 3 else ''}; set `video_root` to the folder that their paths start from"
        )


def kind_of(row: Row) -> str:
    """The pair's kind, "" where it does not say."""
    return row.tpo.get("kind") or ""


def check_rejected(rows: Sequence[Row]) -> None:
    """TPOError for a row that has no rejected response."""
    lacking = [row.id for row in rows if not row.rejected]
    if lacking:
        raise TPOError(
            f"{len(lacking)} of {len(rows)} rows have no rejected response (the first is {lacking[0]}): set `objective.dpo_alpha` to 0 "
            "to fine-tune on the chosen ones, or name other data"
        )


def check_length(row: Row, length: int, response: int, max_length: int) -> None:
    """TPOError if a sequence of `length` tokens, `response` of them the answer's, would be cut."""
    if length > max_length:
        raise TPOError(
            f"row {row.id}: video, query and response have {length} tokens (the response {response}), `max_length` is "
            f"{max_length}; a cut response would be another response: raise `max_length`, or lower `frames.max`"
        )


def _cure(row: Row) -> str:
    return f"mend the file, or take the rows with the video {row.video} out of the data"
