"""The options of `tpo ablate`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class AblateRecipe:
    """`tpo ablate`: curate once, train many, evaluate, one table; all of it for each of the `seeds`.

    An entry of `curate`, `train`, `evaluate` and `needle` has a name and is `{recipe: NAME OR PATH, key.sub: value, ...}`: a recipe of that
    command with values replaced. An entry of `train` may be a list of such steps, each of which starts from the result of the one
    before, or name a recipe with `steps` of its own (replaced by `steps.NAME.key.sub`). `models` are checkpoints that are only evaluated;
    training starts from the first one, with which all are compared, or where it says `model: "{NAME}"`. An entry of `evaluate` and `needle`
    may list its `models` by name (default: all). Each command's `output` and `seed` are set here. A finished stage runs again if what it is
    made of has changed: recipe, models, `prepare`, releases of packages, commits of checkouts; the folder of such a training is kept as
    `NAME.old-1`.

    In values, `{NAME}` stands for the folder of a curation, the checkpoint of a model or of a training before, `{seed}`, `{output}` (the
    seed's folder), and what `prepare` names: `package.module:function`, called as a context around each seed with the seed's folder, the
    seed and `prepare_with`, which yields a mapping of names to values. `workers` trainings run at once. `threads` is the number of CPU
    threads of a process (None: the machine's choice).
    """

    output: str
    models: dict[str, str]
    seeds: list[int] = field(default_factory=lambda: [0])
    prepare: str | None = None
    prepare_with: dict[str, Any] = field(default_factory=dict)
    curate: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    evaluate: dict[str, Any] = field(default_factory=dict)
    needle: dict[str, Any] = field(default_factory=dict)
    workers: int = 1
    threads: int | None = None
