"""A Hugging Face `datasets` folder: `load_dataset` reads its parquet, `load_from_disk` its Arrow copy, people the README.md.

Both copies are needed: `load_dataset` looks for parquet and refuses a plain `save_to_disk` folder. Flat text columns
(`kind` and `task` are there to filter by), so TRL takes the set as its standard preference format too; `tpo` is JSON text.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tpo_plugin.dataset.card import card
from tpo_plugin.dataset.formats import provenance
from tpo_plugin.dataset.pairs import Row
from tpo_plugin.errors import TPOError
from tpo_plugin.records import write_text

MARKER = "dataset_dict.json"  # what `DatasetDict.save_to_disk` leaves in a folder


def write(rows: Sequence[Row], output: Path, curation: dict[str, Any] | None = None) -> None:
    """Write the folder, with one split `train`; an earlier export is replaced, any other folder with files in it refused.

    `curation` is the `statistics.json` of the curation that the rows come from, if it is known.
    """
    try:
        from datasets import Dataset, DatasetDict, Features, Value
    except ImportError:
        raise TPOError("the format `hf` needs the package datasets: pip install 'tpo-plugin[data]'") from None
    if output.exists() and not (output / MARKER).is_file() and not (output.is_dir() and not any(output.iterdir())):
        raise TPOError(f"{output} exists and is not an earlier export; name a new folder")
    partial = output.with_name(output.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    texts = ("id", "video", "prompt", "chosen", "rejected", "kind", "task", "tpo")
    features = Features({**{name: Value("string") for name in texts}, "seconds": Value("float64")})
    split = Dataset.from_list([to_hf(row) for row in rows], features=features)
    DatasetDict(train=split).save_to_disk(partial)
    (partial / "data").mkdir()
    split.to_parquet(partial / "data" / "train-00000-of-00001.parquet")
    write_text(partial / "README.md", card(rows, curation))
    old = output.with_name(output.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if output.exists():
        output.rename(old)
    partial.rename(output)
    shutil.rmtree(old, ignore_errors=True)


def to_hf(row: Row) -> dict[str, Any]:
    """The row as flat columns; what is not known (task, kind, seconds of an imported row) is null."""
    known = {"kind": row.tpo.get("kind"), "task": row.tpo.get("task"), "seconds": row.tpo.get("seconds")}
    texts = {"id": row.id, "video": row.video, "prompt": row.prompt, "chosen": row.chosen, "rejected": row.rejected}
    return {**texts, **known, "tpo": provenance(row)}
