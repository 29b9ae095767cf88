"""What was logged, kept beside the checkpoints: at each of them, so that a run can be reported before it ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerState

from tpo_plugin.records import write_json


def save_history(output: Path, state: TrainerState) -> None:
    """Write `history.json`: the logged values of each step that has a loss."""
    write_json(output / "history.json", [entry for entry in state.log_history if "loss" in entry])


class KeepHistory(TrainerCallback):
    """Writes the history whenever a checkpoint is saved."""

    def on_save(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        if state.is_world_process_zero:
            save_history(Path(args.output_dir), state)
