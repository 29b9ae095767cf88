"""Rows about a checkout of LLaVA-NeXT or LongVA, and about the checkpoint, tower and data for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tpo_plugin.dataset.pairs import load_pairs, read_json
from tpo_plugin.errors import TPOError
from tpo_plugin.integrations.checkout import Checkout
from tpo_plugin.integrations.doctor.probe import Answer
from tpo_plugin.integrations.doctor.report import Row
from tpo_plugin.integrations.llava_family import names
from tpo_plugin.integrations.llava_family.checkpoints import expected_class, is_port, read_config
from tpo_plugin.integrations.llava_family.repairs import REPAIRS, check_transformers
from tpo_plugin.integrations.llava_family.rows import check_rows
from tpo_plugin.integrations.llava_family.traps import Trap, traps
from tpo_plugin.integrations.patching import states
from tpo_plugin.records import read_jsonl


def checkout_rows(checkout: Checkout, found: Mapping[str, Answer]) -> list[Row]:
    """Which commit, where Python finds its packages, and what `tpo patch` left in it."""
    commit = (checkout.commit or "no git commit")[:12]
    notice = checkout.notice()
    rows = [Row(checkout.title, commit, "warning" if notice else "ok", notice or "", "", "" if notice else "tried")]
    rows += [_package_row(checkout, found[f"find {checkout.package}"]), _trl_row(checkout, found["find trl"])]
    for state in states(checkout):
        bad = state.word in ("edited", "partly", "moved")
        cure = f"tpo patch status {checkout.path}" if bad else ""
        problem = f"{state.patch.target}: the patch is {state.word}. {state.reason}" if bad else ""
        rows.append(Row(f"patch {state.patch.file}", state.word, "warning" if bad else "ok", problem, cure))
    return rows


def repair_rows(package: str) -> list[Row]:
    """The repairs that `--tpo` applies in this environment; none with a transformers that it refuses."""
    try:
        check_transformers()
    except TPOError:
        return []
    return [Row(repair.name, f"{repair.why} ({repair.upstream})", "note") for repair in _repairs(package).values()]


def model_rows(model: str | None, tower: str | None, package: str | None) -> list[Row]:
    """What the script makes of the names, and the traps in them; without a checkout, whether the checkpoint needs one."""
    if package is None:
        return _no_checkout(model)
    rows = []
    if model is not None:
        rows.append(_choice_row("trained as", model, names.training_choice(model, package)))
        rows.append(_choice_row("loaded as", names.model_name(model), names.evaluation_choice(model, package)))
        if read_config(model) is None:
            rows.append(Row("config.json", "not here: judged by the name alone", "note"))
    shown = (read_config(model) or {}).get("mm_vision_tower", tower) if model is not None else tower
    if shown is not None:
        rows.append(Row("tower", names.tower_class(shown, package) or "no class", "note"))
    repaired = _repairs(package)
    return [*rows, *(_trap_row(trap, repaired) for trap in traps(model, tower, package))]


def data_row(data: str) -> Row:
    """Whether the rows of `--data_path` have the keys that the script needs; a YAML list of files is not opened."""
    try:
        rows = _rows(Path(data))
    except TPOError as error:
        return Row(
            data, "-", "error", str(error), "mend the file; `tpo data stats` shows where a curation dropped its rows"
        )
    if rows is None:
        return Row(data, "a YAML list", "note", verdict="not opened")
    return Row(data, f"{len(rows)} rows")


def _choice_row(title: str, name: str, choice: names.Choice) -> Row:
    why = f", by '{choice.word}' in '{names.part_with(name, choice.word)}'" if choice.word else ""
    return Row(title, f"{choice.name or 'no class'}{why}", "note")


def _package_row(checkout: Checkout, answer: Answer) -> Row:
    """Whether a process started anywhere imports the package from this checkout; `tpo train` puts it first by itself."""
    name, place = checkout.package, answer.value
    path = f"export PYTHONPATH={checkout.root} (tpo train does so by itself)"
    if place is None:
        return Row(name, "-", "warning", f"Python does not find {name} by itself", path, "not installed")
    if Path(place).resolve().is_relative_to(checkout.root):
        return Row(name, place)
    problem = f"Python imports {name} from {place}, which is not this checkout"
    return Row(name, place, "error", problem, f"pip install --no-deps -e {checkout.root}, or {path}", "another one")


def _trl_row(checkout: Checkout, answer: Answer) -> Row:
    """Upstream imports `trl` from its own root; the one of a package registry lacks what it needs."""
    if not (checkout.root / "trl" / "__init__.py").is_file():
        problem = f"{checkout.root} lacks its own folder trl/, which the script imports"
        return Row("trl", "-", "error", problem, "git checkout -- trl, in the checkout", "missing")
    place = answer.value
    if place is not None and not Path(place).resolve().is_relative_to(checkout.root):
        problem = f"Python finds an installed trl ({place}) before the checkout's own"
        cure = f"pip uninstall trl, or export PYTHONPATH={checkout.root} (tpo train does so by itself)"
        return Row("trl", place, "warning", problem, cure, "another one")
    return Row("trl", "the checkout's own")


def _repairs(package: str) -> dict[str, Any]:
    return {repair.name: repair for repair in REPAIRS if repair.applies(package)}


def _trap_row(trap: Trap, repaired: Mapping[str, Any]) -> Row:
    if trap.repair in repaired:
        return Row("trap", trap.what, "note", verdict=f"repaired ({trap.repair})")
    problem = f"{trap.what} ({trap.source})"
    return Row("trap", trap.source, "error" if trap.fatal else "warning", problem, trap.cure)


def _no_checkout(model: str | None) -> list[Row]:
    config = read_config(model) if model is not None else None
    if model is None or config is None:
        return []
    said = ", ".join(config.get("architectures") or ["no architecture"])
    if not is_port(config) and said.startswith("Llava") and expected_class(config):
        problem = f"{model} is in the layout of LLaVA-NeXT or LongVA ({said}), which transformers alone cannot load"
        return [Row("model", said, "error", problem, "name a checkout: tpo doctor PATH, tpo train --upstream PATH")]
    return [Row("model", said)]


def _rows(path: Path) -> Sequence[Any] | None:
    """The rows, checked as a run with --tpo does; None for a YAML list."""
    if path.is_dir():
        return load_pairs(path)[0]
    if path.suffix in (".yaml", ".yml") and path.is_file():
        return None
    values = list(read_jsonl(path)) if path.suffix == ".jsonl" and path.is_file() else read_json(path)
    if not isinstance(values, list):
        raise TPOError(f"{path} must be a list of rows, it is {type(values).__name__}")
    return check_rows(values, SimpleNamespace(data_path=path, video_folder="", image_folder=""))
