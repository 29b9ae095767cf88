"""The rows of summary.json, what they say as a table, and the sweep over frames and pairs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tpo_plugin.bench.plot import log_chart
from tpo_plugin.bench.sizes import sized

SWEEP_FRAMES, SWEEP_PAIRS = (8, 16, 32, 64, 128, 256), (1, 2, 4, 8)
Row = dict[str, Any]


def row(
    size: str,
    frames: int,
    pairs: int,
    path: str,
    found: Row | None = None,
    rejected_per_chosen: int = 1,
    answer_tokens: int | None = None,
) -> Row:
    """A row of summary.json from what was measured (rounds.py); without, operations are counted and the rest is None.

    `rejected_per_chosen` of the `pairs` share their query and chosen response.
    `flops_per_pair_uncausal` counts causal attention in full (flops.py).
    """
    found = found or {}
    needed, every = (found[key] / pairs if found.get(key) else None for key in ("flops", "flops_every"))
    if needed is None:
        needed, every = _count(size, frames, pairs, path, rejected_per_chosen, answer_tokens)
    made: Row = {
        "size": size,
        "frames": frames,
        "pairs_per_video": pairs,
        "rejected_per_chosen": rejected_per_chosen,
        "path": path,
        "flops_per_pair": needed,
        "flops_per_pair_uncausal": every,
        "seconds_per_pair": _share(found, "seconds", pairs),
        "peak_bytes": found.get("peak_bytes"),
        "loss": found.get("loss"),
        "max_grad_rel_diff": found.get("max_grad_rel_diff"),
        "pairs_per_hour": 3600 * pairs / found["seconds"] if found else None,
        "cpu_seconds_per_pair": _share(found, "cpu_seconds", pairs),
    }
    if path == "fast":
        made["reference_seconds_per_pair"] = _share(found, "reference_seconds", pairs)
        made["reference_cpu_seconds_per_pair"] = _share(found, "reference_cpu_seconds", pairs)
        if not found.get("flops"):
            from tpo_plugin.bench.meta import count_reference

            shape, queries = sized(size, answer_tokens), pairs // rejected_per_chosen
            made["reference_flops_per_pair"] = (
                count_reference(shape, frames, queries, rejected_per_chosen).needed / pairs
            )
    return made | {name: found[name] for name in ("runs", "seconds_of_runs", "ready_seconds") if found}


def _share(found: Row, name: str, pairs: int) -> float | None:
    return found[name] / pairs if found.get(name) is not None else None


def _count(
    size: str, frames: int, pairs: int, path: str, rejected_per_chosen: int = 1, answer_tokens: int | None = None
) -> tuple[float, float]:
    """A pair's operations. Only on the fast path does it matter how many pairs share a video."""
    from tpo_plugin.bench.meta import count_step

    number, rejected = (pairs, rejected_per_chosen) if path == "fast" else (1, 1)
    flops = count_step(sized(size, answer_tokens), frames, number // rejected, path, rejected)
    return flops.needed / number, flops.every / number


def tree_costs(size: str, frames: int, rejected_per_chosen: int, answer_tokens: int | None) -> Row:
    """The operations of one query's tree, with all its rejected responses, over those of one pair: of a step and of the reference pass."""
    from tpo_plugin.bench.meta import count_reference, count_step

    shape = sized(size, answer_tokens)
    whole, one = (count_step(shape, frames, 1, "fast", number).needed for number in (rejected_per_chosen, 1))
    reference, reference_of_one = (
        count_reference(shape, frames, 1, number).needed for number in (rejected_per_chosen, 1)
    )
    return {
        "size": size,
        "frames": frames,
        "rejected_per_chosen": rejected_per_chosen,
        "answer_tokens": shape.answers,
        "step": whole / one,
        "reference": reference / reference_of_one,
    }


def tree_text(costs: Sequence[Row]) -> str:
    """What `tree_costs` found, a line each."""
    lines = [
        f"{one['rejected_per_chosen']} rejected responses to one chosen ({' and '.join(map(str, one['answer_tokens']))} tokens; size "
        f"{one['size']}, {one['frames']} frames), as one tree: {one['step']:.2f} times the operations of one pair, in the reference pass "
        f"{one['reference']:.2f} times."
        for one in costs
    ]
    return "\n\n".join(lines)


def sweep(size: str, paths: Sequence[str]) -> list[Row]:
    """Operations of a pair over frames, for the fast path also over pairs a video."""
    return [
        {"size": size, "frames": frames, "pairs_per_video": pairs, "path": path,
         "flops_per_pair": _count(size, frames, pairs, path)[0]}
        for path in paths
        for pairs in (SWEEP_PAIRS if path == "fast" else (1,))
        for frames in SWEEP_FRAMES
    ]  # fmt: skip


def plot(size: str, points: Sequence[Row]) -> str:
    """The sweep as an SVG."""
    lines: dict[str, list[tuple[float, float]]] = {}
    for point in points:
        name = point["path"] + (f", {point['pairs_per_video']} pairs" if point["pairs_per_video"] > 1 else "")
        lines.setdefault(name, []).append((point["frames"], point["flops_per_pair"]))
    return log_chart(f"FLOPs of a pair, size {size}", "frames", "FLOPs", list(lines.items()))


HEAD = """\
| size | frames | pairs a video | rejected a chosen | path | TFLOPs a pair | s a pair | CPU s a pair | peak GB | pairs an hour | loss | gradient |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"""


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table; in brackets what share of upstream's that is."""
    lines = [HEAD]
    for one in rows:
        base = next((other for other in rows if other["path"] == "upstream" and _case(other) == _case(one)), one)
        cells = [
            _cell(one, base, "flops_per_pair", 1e12),
            _cell(one, base, "seconds_per_pair"),
            _cell(one, base, "cpu_seconds_per_pair"),
            _cell(one, base, "peak_bytes", 1e9),
            "" if one["pairs_per_hour"] is None else f"{one['pairs_per_hour']:.0f}",
            "" if one["loss"] is None else f"{one['loss']:.6f}",
            "" if one["max_grad_rel_diff"] is None else f"{one['max_grad_rel_diff']:.0e}",
        ]
        lines.append(f"| {' | '.join(map(str, _case(one)))} | {one['path']} | {' | '.join(cells)} |")
        if one.get("reference_seconds_per_pair"):
            lines.append(_with_reference(one, {} if base is one else base))
    return "\n".join(lines)


def _with_reference(one: Row, base: Row) -> str:
    names = ("flops_per_pair", "seconds_per_pair", "cpu_seconds_per_pair")
    both = {name: one[name] + one[f"reference_{name}"] for name in names if one.get(f"reference_{name}")}
    flops, *seconds = _cell(both, base, names[0], 1e12), *(_cell(both, base, name) for name in names[1:])
    return f"| | | | | and its reference pass | {flops} | {' | '.join(seconds)} | | | | |"


def _case(one: Row) -> tuple[str, int, int, int]:
    return one["size"], one["frames"], one["pairs_per_video"], one["rejected_per_chosen"]


def _cell(one: Row, base: Row, name: str, scale: float = 1.0) -> str:
    if one.get(name) is None:
        return ""
    share = f" (1/{base[name] / one[name]:.2f})" if one is not base and base.get(name) else ""
    return f"{one[name] / scale:.4g}{share}"
