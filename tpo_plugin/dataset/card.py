"""The data card of a Hugging Face export."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tpo_plugin.dataset.pairs import Row
from tpo_plugin.dataset.statistics import response_table, share_table, statistics, task_table

HEADER = """\
---
# license: (yours to fill in: the videos' terms and the models' licences decide what you may publish)
pretty_name: Temporal preference pairs
task_categories:
- video-text-to-text
tags:
- preference
- dpo
- temporal-preference-optimization
- video
size_categories:
- {size}
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*.parquet
---
"""
BODY = """\
# Temporal preference pairs

{rows} preference pairs about {videos} videos, for preference training (DPO) of video LMMs. `prompt` is a question about `video`
(a path relative to the folder of the videos, which are not part of this data set), `chosen` the preferred answer and `rejected` the
other one; a model is trained on the whole video for both.

## How it was made

{origin}

For every pair the column `tpo` (JSON text) says how it came about: kind, task, segment, what was left of the video for the rejected
answer, filter verdicts, generator and seed, as far as they are known.

## Columns

| column | content |
| --- | --- |
| id | stable id of the pair |
| video | relative path |
| prompt, chosen, rejected | the question and both answers |
| kind | localized: asked about one segment; comprehensive: about the whole video |
| task | task type of the question |
| seconds | length of the video |
| tpo | provenance, JSON text |

## Tasks, % of the pairs, beside the TPO paper's

```
{tasks}
```

## Kinds, % of the pairs

```
{kinds}
```

## Video length in minutes, % of the videos

```
{lengths}
```

## Words a response

```
{responses}
```
"""
CURATED = """\
With tpo-plugin, by the method of Temporal Preference Optimization (arXiv 2501.13919): a video LMM answered each question twice. The
chosen answer saw the frames that the question is about; the rejected one saw the video without them (localized) or with parts of it
dropped (comprehensive). Filters then judged the pairs.

Answers by: {generators}. Perturbations of the rejected side: {perturbations}. Seeds: {seeds}."""
IMPORTED = "Imported from {files} with tpo-plugin; how these pairs were made is for their authors to say."
FOREIGN = "The rows came without provenance: say here how they were made."
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def card(rows: Sequence[Row]) -> str:
    """README.md with a YAML header (the licence is left to the user), the statistics and how the rows were made."""
    counts = statistics(rows)
    size = next((name for limit, name in SIZES if len(rows) < limit), "n>1M")
    return HEADER.format(size=size) + BODY.format(
        rows=counts["rows"],
        videos=counts["videos"],
        origin=_origin(rows, counts),
        tasks=task_table(counts["tasks"]),
        kinds=share_table(counts["kinds"]),
        lengths=share_table(counts["lengths"]),
        responses=response_table(counts["responses"]),
    )


def _origin(rows: Sequence[Row], counts: dict[str, Any]) -> str:
    """One paragraph for each way in which rows of this set were made."""
    parts = []
    curated = [row.tpo for row in rows if row.tpo.get("perturbation")]
    if curated:
        parts.append(
            CURATED.format(
                generators=_listed(tpo.get("generator") for tpo in curated),
                perturbations=_listed(tpo["perturbation"].get("name") for tpo in curated),
                seeds=_listed(tpo.get("seed") for tpo in curated),
            )
        )
    imported = [row.tpo["imported"] for row in rows if row.tpo.get("imported")]
    if imported:
        parts.append(IMPORTED.format(files=_listed(entry.get("file") for entry in imported)))
    if len(curated) + len(imported) < len(rows):
        parts.append(FOREIGN)
    return "\n\n".join(parts)


def _listed(values: Any) -> str:
    return ", ".join(sorted({f"`{value}`" for value in values if value not in (None, "")})) or "not recorded"
