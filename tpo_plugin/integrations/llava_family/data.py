"""What `--tpo` puts in place of the script's own data set and collator. Line numbers: train_dpo.py of LLaVA-NeXT df17966."""

from __future__ import annotations

import copy
import logging
import os
import random
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import distributed

from tpo_plugin.errors import TPOError, VideoError
from tpo_plugin.integrations.llava_family import video_check
from tpo_plugin.integrations.llava_family.frames import Clip, Sampling, read_clip
from tpo_plugin.integrations.llava_family.rows import (
    contents,
    difficulty,
    load_curated,
    medium,
    paths,
    shown_files,
    wanted_rows,
)
from tpo_plugin.training.policies.llava import collate_trees
from tpo_plugin.training.reference_table import Key, row_keys
from tpo_plugin.video import time_instruction

logger = logging.getLogger(__name__)

PROBED, FAILED = "tpo_videos.json", "tpo_failed_rows.tsv"  # in the output folder
CHAT_TOKENS = ("<|im_start|>", "<|im_end|>")
T = TypeVar("T")


def make_data_module(namespace: dict[str, Any], options: Any) -> Callable[..., Any]:
    """The replacement for `make_dpo_data_module(tokenizer, data_args)` of the script with these globals.

    `options` are the script's parsed training arguments. The data set that it makes raises TPOError for rows that make no sense
    and for too many broken files; see `TemporalDPODataset`.
    """
    base, reader, device = namespace["DPODataset"], namespace["VideoReader"], namespace["cpu"](0)

    def open_video(path: str) -> Any:
        return reader(path, ctx=device)

    class TemporalDPODataset(base):  # type: ignore[misc, valid-type]
        """The script's data set with checked rows, working sampling at low frame rates and `--tpo_*` options.

        A row whose file is missing or fails a probe is left out from the start; the list that remains is the same on every
        rank and after a resume. A file that passes and still cannot be decoded when its row is due is tried twice. Then the
        next row stands in for it, so that this one is seen twice: the length of a map-style data set is fixed. Both are logged
        with the row's name and counted together; above the share `tpo_max_broken` the run stops. Out of reach: a decoder that
        hangs or crashes in training, and damaged frames that decord silently replaces by their neighbours.
        """

        def __init__(self, data_path: str, tokenizer: Any, data_args: Any) -> None:
            if os.path.isdir(data_path):
                torch.utils.data.Dataset.__init__(self)
                self.tokenizer, self.data_args = tokenizer, data_args
                self.list_data_dict = load_curated(data_path, data_args)
            else:
                with _same_random(options.seed):
                    super().__init__(data_path=data_path, tokenizer=tokenizer, data_args=data_args)
            rows = wanted_rows(self.list_data_dict, data_args, options)
            self.sampling = Sampling(data_args.video_fps, data_args.frames_upbound or 0, options.tpo_force_sample)
            if self.sampling.most <= 0 and any(medium(row) == "video" for row in rows) and _rank() == 0:
                logger.warning(
                    "--frames_upbound is 0: every video is shown at %g frames a second, however long", self.sampling.fps
                )
            self.list_data_dict, self.failed = drop_broken(
                rows, data_args, Path(options.output_dir), options.tpo_max_broken
            )
            self.without_reference: set[int] = (
                set()
            )  # places of rows that could not be read when their reference was due

        def __getitem__(self, i: int) -> dict[str, Any]:
            if not 0 <= i < len(self):
                raise IndexError(i)
            for place in range(i, i + len(self)):
                item = self._read(place % len(self))
                if item is not None:
                    return item
            raise TPOError(f"no row of {self.data_args.data_path} can be read; the warnings above name the reasons")

        def _read(self, place: int) -> dict[str, Any] | None:
            """The item, or None if its file cannot be read in two tries; TPOError if that happened to too many rows."""
            if place in self.without_reference:
                return None
            row, failure = self.list_data_dict[place], None
            for then in ("one more try", "the next row stands in for it"):
                try:
                    return self._get_item(place) | {"row": place}
                except VideoError as error:
                    failure = error
                    logger.warning("%s; %s", video_check.describe(row, str(error)), then)
            self.failed.add(place, row, str(failure))
            return None

        def _get_item(self, i: int) -> dict[str, Any]:
            """The row as upstream's collator takes it; VideoError if its file cannot be read."""
            row = self.list_data_dict[i]
            shown = medium(row)
            if shown == "image":
                try:
                    return super()._get_item(i)
                except (OSError, SyntaxError) as error:  # SyntaxError: a broken PNG
                    raise VideoError("corrupt", f"a picture cannot be read ({error})") from None
            item = copy.deepcopy(row) | {"has_image": shown == "video"}
            prompt = row["prompt"].replace("<image>", "").strip()
            if shown == "video":
                clip = read_clip(paths(row, self.data_args)[0], open_video, self.sampling)
                item["prompt"] = video_prompt(prompt, clip if options.tpo_time_instruction else None)
                pixels = self.data_args.image_processor.preprocess(clip.frames, return_tensors="pt")["pixel_values"]
                item["image"] = [(pixels, clip.frames[0].size, "video")]
            else:
                item["prompt"] = prompt
                if self.data_args.is_multimodal:
                    size = self.data_args.image_processor.crop_size
                    height, width = size["height"], size["width"]
                    item["image"] = [(torch.zeros(1, 3, height, width), (width, height), "text")]
            return item

        def shown(self) -> list[Hashable]:
            """What each row shows, equal for rows that show the same files; a row of text alone is like no other."""
            rows = enumerate(self.list_data_dict)
            return [tuple(paths(row, self.data_args)) or ("row", place) for place, row in rows]

        def levels(self) -> list[float] | None:
            """A number for each row, the lower the earlier it comes with `--tpo_order`; None without."""
            if options.tpo_order is None:
                return None
            sign = -1 if options.tpo_order == "easy_to_hard" else 1  # a large r is easy
            return [sign * (difficulty(row) or 0) for row in self.list_data_dict]

        def keys(self) -> list[Key]:
            """What each row's reference log-probabilities belong to."""
            return row_keys([contents(row, self.data_args) for row in self.list_data_dict])

        def fingerprint(self) -> dict[str, str]:
            """What the model's numbers depend on beside the rows: how they are sampled and put into words."""
            frames = f"{self.sampling.most or 'all'}{' always' if self.sampling.always else ''}, {self.sampling.fps:g} a second"
            return {"frames": frames, "time instruction": "yes" if options.tpo_time_instruction else "no"}

    def make_dpo_data_module(tokenizer: Any, data_args: Any) -> TemporalDPODataset:
        return TemporalDPODataset(data_path=data_args.data_path, tokenizer=tokenizer, data_args=data_args)

    return make_dpo_data_module


def video_prompt(prompt: str, clip: Clip | None) -> str:
    """The prompt after the video's placeholder and, given a clip, the sentence about its times, as upstream's SFT has it
    (train.py:1201-1203). A prompt without a video gets no placeholder, which upstream gives it (train_dpo.py:1162) and then reads as plain text."""
    return f"<image>\n{time_instruction(clip.seconds, clip.times) if clip else ''}{prompt}"


def drop_broken(
    rows: Sequence[dict[str, Any]], data_args: Any, output: Path, most: float
) -> tuple[list[dict[str, Any]], video_check.FailedRows]:
    """The rows whose files can be read, as rank 0 finds them, and the count of the others, which are logged; TPOError for too many."""
    videos, images = (shown_files(rows, data_args, key) for key in ("video", "image"))

    def find() -> dict[str, str]:
        output.mkdir(parents=True, exist_ok=True)
        (output / FAILED).unlink(missing_ok=True)
        return video_check.broken_videos(videos, output / PROBED) | video_check.missing_images(images)

    kept, dropped = video_check.sort_out(rows, data_args, _from_first_rank(find))
    if dropped and _rank() == 0:
        for line in dropped:
            logger.warning("left out: %s", line)
        logger.warning("left out %d of %d rows", len(dropped), len(rows))
    failed = video_check.FailedRows(output / FAILED, dropped, len(rows), most)
    failed.check()
    if not kept:
        raise TPOError(f"no row is left of {data_args.data_path}: none of their files can be read")
    return kept, failed


def temporal_collator(base: type) -> type:
    """A subclass of the script's collator whose batches also say their rows' `ids` and `kinds` ("" where a row has none)."""

    class TemporalDPODataCollator(base):
        """The script's collator; the batch names its rows, for errors and for metrics of each kind."""

        def __call__(self, features: Sequence[dict[str, Any]]) -> dict[str, Any]:
            batch: dict[str, Any] = super().__call__(features)
            batch["ids"] = [str(feature.get("id", "")) for feature in features]
            batch["kinds"] = [str((feature.get("tpo") or {}).get("kind") or "") for feature in features]
            return batch

    return TemporalDPODataCollator


def tree_collator(base: type, with_rejected: bool = True) -> type:
    """A subclass of `temporal_collator(base)` whose batches are token trees."""

    class TreeDPODataCollator(temporal_collator(base)):  # type: ignore[misc]
        """The script's collator; see `collate_trees` for what its batches have."""

        def __call__(self, features: Sequence[dict[str, Any]]) -> dict[str, Any]:
            return collate_trees(super().__call__(features), features, with_rejected)

    return TreeDPODataCollator


class _ChatTokenizer:
    """A tokenizer that has no additional special tokens but the two of the chat template."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.additional_special_tokens_ids = tokenizer.convert_tokens_to_ids(list(CHAT_TOKENS))
        if {None, tokenizer.unk_token_id} & set(self.additional_special_tokens_ids):
            raise TPOError(
                f"the tokenizer lacks {' or '.join(CHAT_TOKENS)}: --version must name its model's own chat template"
            )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._tokenizer(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


def two_special_tokens(preprocess_qwen: Callable[..., Any]) -> Callable[..., Any]:
    """The script's `preprocess_qwen` for tokenizers with more than two additional special tokens (570: Qwen2.5 has 13)."""

    def preprocess(sources: Any, tokenizer: Any, *args: Any, **kwargs: Any) -> Any:
        return preprocess_qwen(sources, _ChatTokenizer(tokenizer), *args, **kwargs)

    return preprocess


def _rank() -> int:
    return distributed.get_rank() if distributed.is_available() and distributed.is_initialized() else 0


def _from_first_rank(work: Callable[[], T]) -> T:
    """What `work` returns on rank 0, which alone runs it; the others wait."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return work()
    held = [work() if _rank() == 0 else None]
    distributed.broadcast_object_list(held, src=0)
    return held[0]  # type: ignore[return-value]


@contextmanager
def _same_random(seed: int) -> Iterator[None]:
    """Python's random numbers start from `seed` inside, so that `random:N` of a YAML list takes the same rows on every rank and after
    a resume (upstream shuffles before anything is seeded, 962); outside they go on as if nothing had been drawn."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
