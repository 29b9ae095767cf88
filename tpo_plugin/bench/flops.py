"""Floating-point operations of a step, counted by torch's FlopCounterMode.

A product of (a, b) and (b, c) matrices is 2abc; nothing else counts. Attention is two such products in the forward pass and four in the
backward pass, whatever kernel runs: torch (2.13) counts none for SDPA on the CPU, and five in the backward pass of the CUDA kernels, which
compute the scores again. Both get a formula here, so that a step counts the same on the CPU, on CUDA and on the meta device.

The count is of the (query, key) pairs that a causal kernel needs, on every path: half of a causal square. A square mask is a causal one with
padding: half as well, although torch's kernels then compute all pairs. `every` also counts the pairs above the diagonal, as torch's own
formulas do. What the mask of a tree's branch hides is counted in both: it is little.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

aten = torch.ops.aten


@dataclass(frozen=True)
class Flops:
    """`needed`: causal attention counted in half; `every`: in full."""

    needed: float
    every: float


def count(run: Callable[[], Any]) -> Flops:
    """The operations of all that `run` does, its backward passes included."""
    hidden = _Hidden()
    with FlopCounterMode(display=False, custom_mapping=_formulas()) as counter, hidden:
        run()
    every = counter.get_total_flops()
    return Flops(every - hidden.flops, every)


class _Hidden(TorchFunctionMode):
    """Adds up what a causal kernel spares of attention, forward and backward."""

    flops = 0

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is F.scaled_dot_product_attention:
            self.flops += self._spared(*args, **kwargs)
        return function(*args, **kwargs)

    def _spared(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        **_: Any,
    ) -> int:
        batch, heads, length, width = query.shape
        if not (is_causal or (attn_mask is not None and length == key.shape[2])):
            return 0
        above = length * (length - 1) // 2
        passes = 3 if torch.is_grad_enabled() and query.requires_grad else 1
        return passes * 2 * batch * heads * above * (width + value.shape[-1])


def _attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """Two products: scores and output. Arguments are shapes (B, H, L, D)."""
    batch, heads, length, width = query
    return 2 * batch * heads * length * key[2] * (width + value[3])


def _attention_backward(gradient: Any, query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    return 2 * _attention(query, key, value)


def _formulas() -> dict[Any, Any]:
    kernels = ("flash_attention_for_cpu", "flash_attention", "efficient_attention", "cudnn_attention")
    mapping: dict[Any, Any] = {}
    for kernel in kernels:
        mapping[getattr(aten, f"_scaled_dot_product_{kernel}")] = _attention
        mapping[getattr(aten, f"_scaled_dot_product_{kernel}_backward")] = _attention_backward
    return mapping
