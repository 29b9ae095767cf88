"""The families of tiny models, and what pre-training needs of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor, nn

from tpo_plugin.tiny import model, qwen2_vl


class Family(Protocol):
    """A module that builds a model and its processor, and runs its parts."""

    FRAMES: int
    BEFORE_VIDEO: str
    AFTER_VIDEO: str

    def build_processor(self) -> Any: ...

    def build_model(self, processor: Any) -> Any: ...

    def tower_parts(self, model: Any) -> list[nn.Module]: ...

    def video_features(self, model: Any, pixels: Sequence[Tensor]) -> list[Tensor]: ...

    def video_tokens(self, frames: int) -> int: ...

    def positions(self, model: Any, batch: dict[str, Any], frames: Sequence[int]) -> Tensor | None: ...


FAMILIES: dict[str, Family] = {"llava_onevision": model, "qwen2_vl": qwen2_vl}
