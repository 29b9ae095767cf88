"""The Hugging Face export, read back by `datasets` and `huggingface_hub`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tpo_plugin.dataset.card import card
from tpo_plugin.dataset.export import export
from tpo_plugin.dataset.pairs import Row
from tpo_plugin.errors import TPOError

datasets = pytest.importorskip("datasets")


def check(loaded, example_rows: list[Row]) -> None:
    for example, row in zip(loaded, example_rows, strict=True):
        assert (example["id"], example["video"], example["prompt"]) == (row.id, row.video, row.prompt)
        assert (example["chosen"], example["rejected"]) == (row.chosen, row.rejected)
        assert (example["kind"], example["task"]) == (row.tpo["kind"], row.tpo["task"])
        assert example["seconds"] == row.tpo["seconds"]
        assert json.loads(example["tpo"]) == row.tpo


def test_load_dataset_and_load_from_disk_read_the_folder(curated: Path, tmp_path: Path, example_rows: list[Row]):
    folder = export(curated, "hf", tmp_path / "hf").output
    check(datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache")), example_rows)
    check(datasets.load_from_disk(str(folder))["train"], example_rows)


def test_the_card_tells_of_the_curation(curated: Path, tmp_path: Path):
    shots = {"videos": 40, "after_shots": 10, "after_groups": 1}
    (curated / "statistics.json").write_text(json.dumps({"shots": shots}))
    folder = export(curated, "hf", tmp_path / "hf").output
    assert "left by the rules on groups       1    2.5   2195      4.7" in (folder / "README.md").read_text("utf-8")


def test_an_earlier_export_is_replaced_and_nothing_else(curated: Path, tmp_path: Path):
    folder = export(curated, "hf", tmp_path / "hf").output
    pairs = json.loads((curated / "pairs.json").read_text("utf-8"))
    (curated / "pairs.json").write_text(json.dumps(pairs[:1]), encoding="utf-8")
    export(curated, "hf", folder)
    assert len(datasets.load_from_disk(str(folder))["train"]) == 1
    assert not folder.with_name("hf.partial").exists()
    with pytest.raises(TPOError, match="not an earlier export"):
        export(curated, "hf", curated)
    assert (curated / "pairs.json").is_file()
    (tmp_path / "empty").mkdir()
    assert len(datasets.load_from_disk(str(export(curated, "hf", tmp_path / "empty").output))["train"]) == 1


def test_the_card_has_a_valid_header_without_a_licence(curated: Path, tmp_path: Path):
    hub = pytest.importorskip("huggingface_hub")
    folder = export(curated, "hf", tmp_path / "hf").output
    header = hub.DatasetCard.load(folder / "README.md").data.to_dict()
    assert "license" not in header
    assert header["task_categories"] == ["video-text-to-text"]
    assert header["configs"][0]["data_files"] == [{"split": "train", "path": "data/train-*.parquet"}]
    text = (folder / "README.md").read_text("utf-8")
    assert "# license:" in text
    assert "3 preference pairs about 2 videos" in text
    assert "`cut_segment`, `drop`" in text
    assert "Answers by: `tiny`" in text


def test_the_card_says_only_what_is_known():
    foreign = Row("1", "a.mp4", "What?", "yes", "no")
    imported = Row("2", "a.mp4", "What?", "yes", "no", {"imported": {"file": "pairs.csv", "line": 2}})
    assert "without provenance" in card([foreign])
    assert "Answers by" not in card([foreign])
    assert "Imported from `pairs.csv`" in card([imported])
    assert "without provenance" not in card([imported])
