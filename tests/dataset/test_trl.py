"""The TRL export in TRL's own hands: its data functions and its unmodified DPOTrainer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tpo_plugin.dataset.export import export
from tpo_plugin.dataset.pairs import Row

datasets = pytest.importorskip("datasets")
pytest.importorskip("trl")


@pytest.fixture
def exported(curated: Path, tmp_path: Path):
    file = export(curated, "trl", tmp_path / "trl.jsonl").output
    return datasets.load_dataset("json", data_files=str(file), split="train", cache_dir=str(tmp_path / "cache"))


def test_it_is_trls_conversational_preference_format(exported, example_rows: list[Row]):
    from trl.data_utils import is_conversational, maybe_extract_prompt

    for example, row in zip(exported, example_rows, strict=True):
        assert is_conversational(example)
        assert maybe_extract_prompt(example) == example
        assert example["prompt"] == [{"role": "user", "content": row.prompt}]
        assert example["chosen"][0]["content"] == row.chosen
        assert example["rejected"][0]["content"] == row.rejected
        assert example["videos"] == [row.video]
        assert json.loads(example["tpo"]) == row.tpo


def test_trls_own_trainer_takes_it_and_trains_on_the_text_alone(exported, tmp_path: Path):
    import torch
    from trl import DPOConfig, DPOTrainer

    from tpo_plugin.tiny.model import build_model, build_processor

    torch.manual_seed(0)
    processor = build_processor()
    model = build_model(processor)
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    trainer = DPOTrainer(
        str(tmp_path / "model"),
        args=DPOConfig(
            output_dir=str(tmp_path / "run"), max_steps=2, per_device_train_batch_size=2, learning_rate=1e-2,
            report_to="none", use_cpu=True, bf16=False, save_strategy="no", logging_steps=1, gradient_checkpointing=False,
        ),
        train_dataset=exported,
    )  # fmt: skip
    prompt = processor.tokenizer.decode(trainer.train_dataset[1]["prompt_ids"])
    assert prompt == "<|im_start|>user\nWhere?<|im_end|>\n<|im_start|>assistant\n"
    assert not any("pixel" in key for key in trainer.data_collator([trainer.train_dataset[0]]))
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert losses[0] == pytest.approx(0.6931, abs=1e-3)
    assert losses[1] != pytest.approx(losses[0], abs=1e-3)
