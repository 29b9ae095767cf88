"""Which run an output folder holds, so that the script resumes that one and no other: it resumes whatever checkpoint it finds there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tpo_plugin.errors import TPOError
from tpo_plugin.folders import checkpoint_digest, differences
from tpo_plugin.records import stable_id, write_json

FILE = "tpo_run.json"
MODEL = ("model_name_or_path", "version", "mm_tunable_parts")
DATA = ("frames_upbound", "video_fps")
OBJECTIVE = ("beta", "dpo_alpha", "gamma")
SCHEDULE = ("learning_rate", "lr_scheduler_type", "warmup_ratio", "warmup_steps", "weight_decay")
ACCUMULATED = "gradient_accumulation_steps"
LENGTH = ("num_train_epochs", "max_steps", "per_device_train_batch_size", ACCUMULATED, "seed")
LORA = ("lora_enable", "lora_r", "lora_alpha")
INPUT = ("model_max_length", "tpo_time_instruction", "tpo_force_sample", "tpo_pairs_per_video", "tpo_order")
REFERENCE = ("tpo_reference_model",)
CHECKPOINTS = ("model_name_or_path", "tpo_reference_model")
TRAINING = (*OBJECTIVE, *SCHEDULE, *LENGTH, *LORA, *INPUT, *REFERENCE)


def claim(model_args: Any, data_args: Any, training_args: Any, rows: list[dict[str, Any]]) -> None:
    """Note in the output folder what run it holds; TPOError where it holds checkpoints of another one.

    Whatever decides the losses counts: flags, rows, the content of the checkpoints wherever they lie, and the whole batch. The number of
    processes may change with --gradient_accumulation_steps, so that the batch stays as large.
    """
    output = Path(training_args.output_dir)
    values: dict[str, Any] = {"rows": stable_id(rows)}
    for holder, names in ((model_args, MODEL), (data_args, DATA), (training_args, TRAINING)):
        values |= {name: _plain(getattr(holder, name)) for name in names}
    values["batch"] = training_args.world_size * values["per_device_train_batch_size"] * values[ACCUMULATED]
    values["digests"] = {name: checkpoint_digest(values[name]) for name in CHECKPOINTS if values[name] is not None}
    record = output / FILE
    if record.is_file() and any(output.glob("checkpoint-*")):
        before = json.loads(record.read_text(encoding="utf-8"))
        changed = _changes(before, values)
        if changed:
            raise TPOError(
                f"{output} holds checkpoints of another run ({'; '.join(changed)}): choose another --output_dir, or remove them"
            )
    if training_args.process_index == 0:
        write_json(record, values | {"pairs": len(rows)})


def _changes(before: dict[str, Any], values: dict[str, Any]) -> list[str]:
    """What differs and counts; earlier releases noted neither the batch nor digests."""
    apart = {"pairs"}  # the rows are compared
    apart |= {ACCUMULATED} if "batch" in before else {"batch"}
    if "digests" in before:
        known, found = before["digests"], values["digests"]
        apart |= {name for name in CHECKPOINTS if known.get(name) == found.get(name)}
    else:
        apart.add("digests")
    old, new = ({name: one[name] for name in one if name not in apart} for one in (before, values))
    return differences(old, new)


def _plain(value: Any) -> Any:
    """As JSON gives it back; enumerations by their value."""
    return getattr(value, "value", value)
