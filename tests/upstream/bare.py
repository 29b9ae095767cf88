"""Run in a process of its own: a train_dpo.py as it is, with the least that lets it start on a CPU (transformers 4.40 - 4.45).

Nothing of this package is used, so that a run shows what the script does by itself. Called with the script and its flags.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import torch


def main(script: str, flags: list[str]) -> None:
    reader = ModuleType("data_processing.utils")
    reader.load_json = lambda path: json.loads(Path(path).read_text())  # type: ignore[attr-defined]
    reader.load_jsonl = lambda path: [json.loads(line) for line in Path(path).read_text().splitlines()]  # type: ignore[attr-defined]
    sys.modules |= {"data_processing": ModuleType("data_processing"), "data_processing.utils": reader}
    sys.argv = [script, *flags]
    spec = importlib.util.spec_from_file_location("train_dpo_under_test", script)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["train_dpo_under_test"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    original = module.get_model

    def get_model(model_args, training_args, rest):
        training_args.deepspeed = ""
        models = original(model_args, training_args, rest)
        training_args.deepspeed = None
        return models

    module.get_model = get_model
    torch.cuda.synchronize = lambda device=None: None
    module.train()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
