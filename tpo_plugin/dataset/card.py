"""The data card of a Hugging Face export."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tpo_plugin.dataset.pairs import Row
from tpo_plugin.dataset.statistics import (
    level_table,
    paper_mix,
    response_table,
    share_table,
    shot_table,
    statistics,
    task_table,
)

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
| kind | localized: asked about one segment; comprehensive: about the whole video; caption: asked to describe it |
| task | task type of the question |
| seconds | length of the video |
| tpo | provenance, JSON text |

{shots}## Tasks, % of the pairs{beside}

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
LISTED = """\
With tpo-plugin, by the method of TEMPLE (arXiv 2503.16929): each video was cut into shots, a video LMM described each shot from keyframes of
it and of the shot before, and summed the descriptions up. The chosen text is the summary of the true list, the rejected one that of a
perturbed list; the larger the difficulty (`perturbation.difficulty` in `tpo`), the more was changed and the easier the pair. All pairs of a
video share prompt and chosen text.

Summaries by: {generators}. Perturbations of the list: {perturbations}. Seeds: {seeds}."""
IMPORTED = "Imported from {files} with tpo-plugin; how these pairs were made is for their authors to say."
FOREIGN = "The rows came without provenance: say here how they were made."
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))


def card(rows: Sequence[Row], curation: dict[str, Any] | None = None) -> str:
    """README.md with a YAML header (the licence is left to the user), the statistics and how the rows were made.

    `curation` is the `statistics.json` of the curation that they come from, if it is known.
    """
    counts = statistics(rows)
    size = next((name for limit, name in SIZES if len(rows) < limit), "n>1M")
    return HEADER.format(size=size) + BODY.format(
        rows=counts["rows"],
        videos=counts["videos"],
        origin=_origin(rows, counts),
        shots=_shots(counts, curation or {}),
        beside=", beside the TPO paper's" if paper_mix(counts["tasks"]) else "",
        tasks=task_table(counts["tasks"]),
        kinds=share_table(counts["kinds"]),
        lengths=share_table(counts["lengths"]),
        responses=response_table(counts["responses"]),
    )


def _origin(rows: Sequence[Row], counts: dict[str, Any]) -> str:
    """One paragraph for each way in which rows of this set were made."""
    parts = []
    made = [row.tpo for row in rows if row.tpo.get("perturbation")]
    listed = [tpo for tpo in made if tpo.get("kind") == "caption"]
    curated = [tpo for tpo in made if tpo.get("kind") != "caption"]
    for text, group in ((CURATED, curated), (LISTED, listed)):
        if group:
            parts.append(
                text.format(
                    generators=_listed(tpo.get("generator") for tpo in group),
                    perturbations=_listed(tpo["perturbation"].get("name") for tpo in group),
                    seeds=_listed(tpo.get("seed") for tpo in group),
                )
            )
    imported = [row.tpo["imported"] for row in rows if row.tpo.get("imported")]
    if imported:
        parts.append(IMPORTED.format(files=_listed(entry.get("file") for entry in imported)))
    if len(made) + len(imported) < len(rows):
        parts.append(FOREIGN)
    return "\n\n".join(parts)


def _shots(counts: dict[str, Any], curation: dict[str, Any]) -> str:
    """The tables that only TEMPLE's pairs have."""
    parts = []
    if curation.get("shots"):
        parts.append(f"## Videos, % of those read, beside TEMPLE's\n\n```\n{shot_table(curation['shots'])}\n```\n\n")
    if "difficulties" in counts:
        parts.append(f"## Pairs by perturbation and difficulty\n\n```\n{level_table(counts['difficulties'])}\n```\n\n")
    return "".join(parts)


def _listed(values: Any) -> str:
    return ", ".join(sorted({f"`{value}`" for value in values if value not in (None, "")})) or "not recorded"
