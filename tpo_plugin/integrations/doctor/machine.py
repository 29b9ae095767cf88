"""Rows about GPUs, attention, video decoders and the hub."""

from __future__ import annotations

import os
from collections.abc import Mapping

from tpo_plugin.integrations.doctor.packages import installed
from tpo_plugin.integrations.doctor.probe import Answer
from tpo_plugin.integrations.doctor.report import Row


def device_rows(found: Mapping[str, Answer], llava: bool) -> list[Row]:
    """A row a GPU, and with a checkout that of flash-attn."""
    answer = found["gpu"]
    if answer.error:
        rows = [Row("GPU", "unknown", "note", verdict=answer.error)]
    elif not answer.value:
        rows = [_no_gpu(llava)]
    else:
        rows = [_gpu(index, gpu) for index, gpu in enumerate(answer.value)]
    return [*rows, _flash_attention(found)] if llava else rows


def video_rows(found: Mapping[str, Answer], llava: bool) -> list[Row]:
    """Whether each decoder reads a video that PyAV wrote."""
    rows = [_decoder("av", found["av"], "pip install --force-reinstall av")]
    if llava:
        rows.append(_decoder("decord", found["decord"], "pip install --force-reinstall decord"))
    return rows


def _gpu(index: int, gpu: Mapping) -> Row:
    name, size = f"GPU {index}", f"{gpu['name']}, {gpu['gib']:.0f} GiB"
    if gpu["bf16"]:
        return Row(name, f"{size}, bf16")
    return Row(name, size, "warning", f"GPU {index} ({gpu['name']}) has no bf16", "train with --bf16 False", "no bf16")


def _no_gpu(llava: bool) -> Row:
    if not llava:
        return Row("GPU", "none", "note", verdict="a CPU trains tiny models alone")
    cure = "on the CPU give --use_cpu True --attn_implementation sdpa"
    return Row("GPU", "none", "warning", "there is no GPU; the script expects one", cure)


def _flash_attention(found: Mapping[str, Answer]) -> Row:
    here, error = installed("flash-attn"), found.get("import flash_attn", Answer()).error
    if here and not error:
        return Row("flash-attn", here)
    state = f"flash-attn {here} does not import: {error}" if here else "flash-attn is not installed"
    problem = f"{state}; the script's default is --attn_implementation flash_attention_2"
    return Row("flash-attn", here or "-", "warning", problem, "give --attn_implementation sdpa")


def hub_row() -> Row:
    """LLaVA-NeXT's conversation.py:394-396 asks the hub for a tokenizer at import and goes on without it: no HF_TOKEN is needed."""
    offline = os.environ.get("HF_HUB_OFFLINE", "")
    hint = (
        "" if offline else "note: importing LLaVA-NeXT asks the hub; export HF_HUB_OFFLINE=1 where there is no network"
    )
    return Row("HF_HUB_OFFLINE", offline or "not set", "ok" if offline else "note", verdict=hint)


def _decoder(name: str, answer: Answer, cure: str) -> Row:
    here = installed(name)
    if answer.error is None:
        return Row(name, f"{here} reads H.264 in mp4")
    if here is None:
        return Row(name, "-", "note", verdict="missing")  # its row under Environment is the error
    return Row(name, here, "error", f"{name} {here} cannot read a video: {answer.error}", cure, "broken")
