"""What one of two gloo processes does in the tests: `table FOLDER FAILING`, or `train RECIPE`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tpo_plugin.integrations.torchvision import repair


def table(folder: Path, failing: str) -> None:
    """Fill the table in `folder` together with the other rank; leave the lists scored and the outcome in rank<N>.json."""
    from torch import distributed

    from tpo_plugin.errors import TPOError
    from tpo_plugin.training.reference import Key, complete

    distributed.init_process_group("gloo")
    calls = []

    def score(units):
        for unit in units:
            calls.append(list(unit))
            if failing in map(str, unit):
                raise TPOError(f"row {failing} is broken")
            yield [(-float(index), -2.0 * index) for index in unit]

    keys = [Key(f"pair{index}", f"content{index}") for index in range(7)]
    try:
        outcome = complete(folder / "reference.jsonl", {"weights": "abc"}, keys, [0, 1, 2, 0, 1, 2, 0], score).tolist()
    except TPOError as error:
        outcome = str(error)
    (folder / f"rank{distributed.get_rank()}.json").write_text(json.dumps([calls, outcome]))
    distributed.destroy_process_group()


def train(recipe: str) -> None:
    """`tpo train`."""
    repair()
    from tpo_plugin.options import TrainRecipe
    from tpo_plugin.recipe import load
    from tpo_plugin.training.run import train

    train(load(TrainRecipe, recipe))


if __name__ == "__main__":
    if sys.argv[1] == "table":
        table(Path(sys.argv[2]), sys.argv[3])
    else:
        train(sys.argv[2])
