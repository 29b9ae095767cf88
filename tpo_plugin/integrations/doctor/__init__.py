"""`tpo doctor [PATH]`: would a run start here, and if not, what to do.

With a checkout of LLaVA-NeXT or LongVA it looks at what their script with `--tpo` needs, without one at `tpo train RECIPE`. Packages
are imported in a child process alone (`probe`), so one that breaks or crashes is a row of the table.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tpo_plugin.errors import TPOError
from tpo_plugin.integrations.checkout import Checkout, find_checkout
from tpo_plugin.integrations.doctor import machine, packages, upstream
from tpo_plugin.integrations.doctor.probe import ask
from tpo_plugin.integrations.doctor.report import Report, Row, Section


def doctor(
    path: str | Path | None = None, model: str | None = None, tower: str | None = None, data: str | None = None
) -> Report:
    """What is found here, for the checkout at `path` (None: the Hugging Face road); `Report.fails` tells whether a run would fail.

    `model` and `tower` are what `--model_name_or_path` and `--vision_tower` would be given, `data` what `--data_path` would.
    """
    checkout, problem = _checkout(path)
    llava = path is not None
    needed = packages.requirements("llava" if llava else "hf")
    with tempfile.TemporaryDirectory() as folder:
        found = ask(packages.items(needed, llava), checkout.root if checkout else None, Path(folder))
    sections = [Section("Environment", [_python(), *packages.rows(needed, llava, found)])]
    if problem is not None:
        sections.append(Section("Checkout", [problem]))
    if checkout is not None:
        sections += [
            Section("Checkout", upstream.checkout_rows(checkout, found)),
            Section("Repairs that --tpo applies here", upstream.repair_rows(checkout.package)),
        ]
    device_rows = machine.device_rows(found, llava)
    if checkout is not None and checkout.package == "llava":
        device_rows.append(machine.hub_row())
    sections += [Section("Machine", device_rows), Section("Videos", machine.video_rows(found, llava))]
    if model is not None or tower is not None:
        sections.append(Section("Model", upstream.model_rows(model, tower, checkout.package if checkout else None)))
    if data is not None:
        sections.append(Section("Data", [upstream.data_row(data)]))
    where = (
        f"{checkout.title} at {checkout.path}" if checkout else str(path or "Hugging Face models (tpo train RECIPE)")
    )
    return Report(f"tpo doctor: {where}", [section for section in sections if section.rows])


def _checkout(path: str | Path | None) -> tuple[Checkout | None, Row | None]:
    if path is None:
        return None, None
    try:
        return find_checkout(path), None
    except TPOError as error:
        return None, Row(
            "checkout", str(path), "error", str(error), "give the root folder of a clone of one of the two"
        )


def _python() -> Row:
    return Row("python", ".".join(map(str, sys.version_info[:3])))
