"""lmms-eval's models `llava_video_tpo` and `longva_tpo`: LLaVA-Video and LongVA with upstream's own model classes.

They run on transformers 4.40 - 4.57. Upstream's code comes from the argument `upstream` (the path of a checkout of LLaVA-NeXT or LongVA), else
from the environment variable TPO_LLAVA_NEXT or TPO_LONGVA, else from an installed package `llava` or `longva`.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import transformers

from tpo_plugin.errors import TPOError
from tpo_plugin.evaluation.wrappers.base import TemporalModel, adapter_and_base, place_of
from tpo_plugin.evaluation.wrappers.messages import Asked
from tpo_plugin.generators.base import Prompt
from tpo_plugin.generators.in_process import in_batches
from tpo_plugin.integrations.checkout import Checkout, find_checkout, upstreams
from tpo_plugin.integrations.llava_family.frames import Sampling, read_clip
from tpo_plugin.integrations.llava_family.model import load
from tpo_plugin.integrations.llava_family.repairs import check_transformers
from tpo_plugin.integrations.llava_family.writing import encode, write
from tpo_plugin.options import FrameOptions

NEWLINES = ("grid", "frame", "one_token", "no_token")  # llava_arch.py, prepare_inputs_labels_for_multimodal


class TemporalLlava(TemporalModel):
    """What the two models share. Batches may mix numbers and sizes of frames; those of like length go together, since the others are padded.

    `sampler` says which frames are shown: `shared`, as curation and `tpo train` sample them, reduced to `max_side` and `max_pixels`; or
    `upstream`, as the DPO scripts do (every n-th frame at `fps`, or `max_frames_num` from first to last if these are more, or always with
    `force_sample`), in full size and read with decord. `mm_spatial_pool_mode` and `mm_newline_position` replace the checkpoint's where
    given. `peft` is a folder with an adapter for `pretrained`; `pretrained` may also be such a folder. Raises TPOError for a checkpoint or
    an argument that does not fit.
    """

    new_tokens = 1024
    package: ClassVar[str]
    variable: ClassVar[str]  # of the environment, with the checkout's path
    poolings: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        pretrained: str,
        peft: str | None = None,
        base: str | None = None,
        upstream: str | None = None,
        max_frames_num: int = 32,
        fps: float = 1.0,
        max_side: int | None = None,
        max_pixels: int | None = None,
        time_instruction: bool = False,
        sampler: str = "shared",
        force_sample: bool = False,
        conv_template: str = "qwen_1_5",
        mm_spatial_pool_mode: str | None = None,
        mm_newline_position: str | None = None,
        dtype: str = "auto",
        device: str = "auto",
        attn_implementation: str = "sdpa",
        batch_size: int | str = 1,
        unreadable: str = "error",
    ) -> None:
        pixels = None if max_pixels is None else int(max_pixels)
        frames = FrameOptions(float(fps), int(max_frames_num), int(max_side or 768), bool(time_instruction), pixels)
        super().__init__(frames, batch_size, unreadable)
        check_transformers()
        if sampler not in ("shared", "upstream"):
            raise TPOError(f"sampler={sampler} is not known: shared or upstream")
        if sampler == "upstream" and (max_side is not None or max_pixels is not None):
            raise TPOError("max_side and max_pixels have no effect with sampler=upstream, which shows whole frames")
        if sampler == "shared" and force_sample:
            raise TPOError("force_sample has no effect with sampler=shared")
        self.sampling = Sampling(frames.fps, frames.max, bool(force_sample)) if sampler == "upstream" else None
        self.checkout = find_upstream(self.package, self.variable, upstream)
        self.conv_template = conv_template
        self.adapter, self.base = adapter_and_base(str(pretrained).strip('"'), peft, base)
        given = {"mm_spatial_pool_mode": mm_spatial_pool_mode, "mm_newline_position": mm_newline_position}
        changes = {name: value for name, value in given.items() if value is not None}
        self._check_changes(changes)
        self.loaded = load(
            self.adapter or self.base,
            self.checkout,
            dtype,
            str(place_of(device)),
            attn_implementation,
            base=self.base,
            changes=changes,
        )
        _check_newline(self.loaded.model.config)
        self.announce()

    @property
    def device(self) -> torch.device:
        place: torch.device = self.loaded.model.device
        return place

    def write(self, prompts: Sequence[Prompt], arguments: Mapping[str, Any]) -> list[str]:
        return [text for text, _ in write(self.loaded, prompts, self.conv_template, arguments)]

    def batches(self, asked: Sequence[Asked]) -> list[list[int]]:
        order = sorted(range(len(asked)), key=lambda index: len(asked[index].times))
        batches = in_batches([asked[index].sampling for index in order], self.batch_size)
        return [[order[place] for place in batch] for batch in batches]

    def read_video(self, video: str, one: Asked) -> Prompt:
        if self.sampling is None:
            return super().read_video(video, one)
        clip = read_clip(video, _open, self.sampling)
        return Prompt(clip.frames, tuple(clip.times), clip.seconds, "")

    def details(self) -> dict[str, Any]:
        model = self.loaded.model
        config = model.config
        return {
            "checkpoint": self.base,
            "peft": self.adapter,
            "upstream": {"name": self.checkout.title, "commit": self.checkout.commit},
            "sampler": "shared" if self.sampling is None else "upstream",
            "force_sample": self.sampling is not None and self.sampling.always,
            "max_side": self.frames.max_side if self.sampling is None else None,
            "conv_template": self.conv_template,
            "mm_patch_merge_type": config.mm_patch_merge_type,
            "mm_spatial_pool_mode": config.mm_spatial_pool_mode,
            "mm_spatial_pool_stride": 2 if self.package == "llava" else config.mm_spatial_pool_stride,
            "mm_newline_position": _newline(config),
            "tokens_per_frame": self._tokens_per_frame(),
            "dtype": str(model.dtype).removeprefix("torch."),
            "device": self.device.type,
            "attn_implementation": config._attn_implementation,
            "transformers": transformers.__version__,
        }

    def _tokens_per_frame(self) -> int:
        """Tokens that each further frame brings, as upstream's own code makes them of blank ones."""
        lengths = []
        for count in (1, 2):
            prompt = Prompt(np.zeros((count, 64, 64, 3), np.uint8), tuple(map(float, range(count))), float(count), "?")
            with torch.inference_mode():
                lengths.append(encode(self.loaded, [prompt], self.conv_template)["inputs_embeds"].shape[1])
        return lengths[1] - lengths[0]

    def _check_changes(self, changes: Mapping[str, str]) -> None:
        pooling, newline = changes.get("mm_spatial_pool_mode"), changes.get("mm_newline_position")
        if pooling is not None and pooling not in self.poolings:
            raise TPOError(f"mm_spatial_pool_mode={pooling}: {self.checkout.title} knows {', '.join(self.poolings)}")
        if newline is not None and self.package == "longva":
            raise TPOError("mm_newline_position has no effect: LongVA puts nothing between a video's frames")
        if newline is not None and newline not in NEWLINES:
            raise TPOError(f"mm_newline_position={newline}: {self.checkout.title} knows {', '.join(NEWLINES)}")


class LlavaVideo(TemporalLlava):
    """LLaVA-Video, LLaVA-OneVision and other checkpoints of LLaVA-NeXT's Qwen2 class."""

    model_id = "llava_video_tpo"
    package = "llava"
    variable = "TPO_LLAVA_NEXT"
    poolings = ("average", "max", "bilinear")


class LongVA(TemporalLlava):
    """LongVA checkpoints."""

    model_id = "longva_tpo"
    package = "longva"
    variable = "TPO_LONGVA"
    poolings = ("average", "max")


def find_upstream(package: str, variable: str, upstream: str | None) -> Checkout:
    """Where upstream's `package` comes from: `upstream`, else the environment's `variable`, else an installed package. TPOError says what to set."""
    title = next(known["title"] for known in upstreams().values() if known["package"] == package)
    given = upstream or os.environ.get(variable)
    if given:
        checkout = find_checkout(given)
        if checkout.package != package:
            raise TPOError(f"{given} is a checkout of {checkout.title}; this model needs one of {title}")
        return checkout
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise TPOError(
            f"no {title} here: give the path of its checkout as `upstream` or in the environment variable {variable}, or install it"
        )
    return _installed(Path(found.origin).parent, package)


def _installed(folder: Path, package: str) -> Checkout:
    """The checkout that an installed package is linked to or, of one that was copied, the package alone."""
    try:
        return find_checkout(folder.parent)
    except TPOError:
        name, known = next((name, known) for name, known in upstreams().items() if known["package"] == package)
        script = folder / "train" / "train_dpo.py"
        return Checkout(folder.parent, name, known["title"], package, folder.parent, script, None, False)


def _newline(config: Any) -> str:
    """Where newline tokens stand in a video. What llava_arch.py takes where the config does not say: one, at the end."""
    if not config.mm_patch_merge_type.startswith("spatial"):
        return "no_token"
    position = getattr(config, "mm_newline_position", "one_token")
    return "no_token" if position == "one_token" and "unpad" not in config.mm_patch_merge_type else str(position)


def _check_newline(config: Any) -> None:
    if _newline(config) in ("grid", "frame") and "unpad" not in config.mm_patch_merge_type:
        raise TPOError(
            f"mm_newline_position={_newline(config)} needs a newline's embedding, which a checkpoint with "
            f"mm_patch_merge_type={config.mm_patch_merge_type} does not have: one_token or no_token"
        )


def _open(path: str) -> Any:
    from decord import VideoReader, cpu

    return VideoReader(path, ctx=cpu(0))
