"""What a vision tower has made of the frames that it saw, so that it sees each only once.

A tower sees frames independently of each other: LLaVA's one by one, that of Qwen2-VL and Qwen2.5-VL in pairs that it joins. So a
frame's features are the same in every cell. While a model answers, `shown` stands in for its tower; all that comes after the tower
(projector, pooling, newline, positions) is the model's own code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from tpo_plugin.evaluation.needle.grid import Key

Unit = tuple[Key, ...]  # the frames that the tower joins


class Form(Protocol):
    """How a tower's output is taken apart into its units and put together again."""

    def split(self, output: Any, units: int) -> list[Any]:
        """What the output holds of each unit."""

    def join(self, parts: Sequence[Any]) -> Any:
        """The output for these units, on the model's device."""


class TowerMemory:
    """Remembers the outputs of `tower`, which joins `frames` frames each, on the CPU; it sees `batch` units at once.

    `look` shows the model frames of these keys and so calls the tower. `units_seen` counts what the tower has processed.
    """

    def __init__(
        self, tower: torch.nn.Module, form: Form, frames: int, batch: int, look: Callable[[list[Key]], Any]
    ) -> None:
        self.tower, self.form, self.frames, self.batch, self.look = tower, form, frames, batch, look
        self.units_seen = 0
        self._parts: dict[Unit, Any] = {}

    def units(self, keys: Sequence[Key]) -> list[Unit]:
        """The keys in the tower's units; a last one that is not full repeats the last frame, as processors do."""
        filled = [*keys, *[keys[-1]] * (-len(keys) % self.frames)]
        return [tuple(filled[start : start + self.frames]) for start in range(0, len(filled), self.frames)]

    @torch.inference_mode()
    def learn(self, keys: Sequence[Key]) -> None:
        """Let the tower see the units of these frames that it has not seen yet."""
        new = [unit for unit in dict.fromkeys(self.units(keys)) if unit not in self._parts]
        for start in range(0, len(new), self.batch):
            units = new[start : start + self.batch]
            with _forward(self.tower, self._remembering(units)):
                self.look([key for unit in units for key in unit])
            self.units_seen += len(units)

    @contextmanager
    def shown(self, keys: Sequence[Key]) -> Iterator[None]:
        """Let the tower answer with its features of these frames, whatever pixels it is called with."""
        self.learn(keys)
        parts = [self._parts[unit] for unit in self.units(keys)]
        with _forward(self.tower, lambda *args, **kwargs: self.form.join(parts)):
            yield

    def _remembering(self, units: Sequence[Unit]) -> Callable[..., Any]:
        """The tower's own forward, which also keeps what it makes of these units (at once: models change the output that they get)."""
        own = self.tower.forward

        def forward(*args: Any, **kwargs: Any) -> Any:
            output = own(*args, **kwargs)
            self._parts.update(zip(units, self.form.split(output, len(units))))
            return output

        return forward


@contextmanager
def _forward(module: torch.nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Another `forward` for this module object until the end of the block."""
    before = vars(module).get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if before is None:
            del module.forward
        else:
            module.forward = before


class Rows:
    """A tower that returns a tensor with equal rows for each unit: LLaVA-NeXT's and LongVA's (units, patches, hidden)."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def split(self, output: Tensor, units: int) -> list[Tensor]:
        return list(output.cpu().chunk(units))

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(parts)).to(self.device)
