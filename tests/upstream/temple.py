"""Run in a process of its own: what the script's trainer does with `--tpo_order`. Prints one JSON object.

Called with the checkout and the script's flags.
"""

from __future__ import annotations

import json
import sys

from parity import built, trainer

if __name__ == "__main__":
    _, _, ours, arguments = built(sys.argv[1], sys.argv[2:])
    made = trainer(ours, arguments)
    rows = made.train_dataset.list_data_dict
    orders = []
    for epoch in range(2):
        sampler = made._get_train_sampler()
        sampler.set_epoch(epoch)
        orders.append([rows[place]["id"] for place in sampler])
    print(
        json.dumps({"orders": orders, "levels": {row["id"]: row["tpo"]["perturbation"]["difficulty"] for row in rows}})
    )
