"""The packages' rows: installed versions beside what setup.cfg asks for, and whether they import."""

from __future__ import annotations

import configparser
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

from tpo_plugin import __version__
from tpo_plugin.integrations.doctor.probe import Answer
from tpo_plugin.integrations.doctor.report import Row
from tpo_plugin.integrations.llava_family.repairs import NEWEST, OLDEST

SHOWN = (
    *("torch", "torchvision", "transformers", "tokenizers", "accelerate", "peft", "deepspeed", "datasets", "tyro"),
    *("decord", "av", "trl", "flash-attn", "lmms-eval"),
)
LOWER = (">=", ">", "==", "~=")


def requirements(extra: str) -> dict[str, Requirement]:
    """What this package needs with `extra` (llava or hf), by name: from setup.cfg in a source tree, else as installed."""
    source = Path(__file__).parents[3] / "setup.cfg"
    if source.is_file():
        config = configparser.ConfigParser()
        config.read(source, encoding="utf-8")
        lines = config["options"]["install_requires"] + "\n" + config["options.extras_require"][extra]
        found = [Requirement(line) for line in lines.splitlines() if line.strip()]
    else:
        found = [Requirement(line) for line in requires("tpo-plugin") or ()]
    return {item.name: item for item in found if item.marker is None or item.marker.evaluate({"extra": extra})}


def items(needed: Mapping[str, Requirement], llava: bool) -> list[str]:
    """What the child process is to try (see `probe.ask`): where upstream's packages are, then what is needed and fits."""
    asked = ["find llava", "find longva", "find trl"] if llava else []
    asked += ["torchvision"] * bool(installed("torchvision"))
    tried = [name for name in SHOWN if name in needed and not _misfit(needed[name])]
    if {"torch", "transformers"} - set(tried):
        tried = [name for name in tried if name == "torch"]  # the others' errors would only follow from that
    if llava and installed("flash-attn"):
        tried.append("flash-attn")
    asked += [f"import {module(name)}" for name in tried if name not in asked]
    return [*asked, "gpu", "av", *(["decord"] if llava else [])]


def rows(needed: Mapping[str, Requirement], llava: bool, found: Mapping[str, Answer]) -> list[Row]:
    """A row a package."""
    packages = [_row(name, needed.get(name), llava, found) for name in SHOWN]
    return [*packages, Row("tpo-plugin", __version__)]


def installed(name: str) -> str | None:
    """The version of an installed distribution."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def module(name: str) -> str:
    """The name to import for a distribution."""
    return name.replace("-", "_")


def _row(name: str, need: Requirement | None, llava: bool, found: Mapping[str, Answer]) -> Row:
    here = installed(name)
    answer = found.get(name if name == "torchvision" else f"import {module(name)}", Answer())
    if need is not None and _misfit(need):
        return _misfit_row(need, here, llava)
    if here is None:
        return Row(name, "-", verdict="not needed")
    if answer.error and name != "flash-attn":  # that one has its row under Machine
        cure = f"pip install --force-reinstall --no-deps '{need or name}'"
        if name == "torchvision":
            cure = f"install the torchvision that belongs to torch {installed('torch')}"
        elif answer.error == found.get("torchvision", Answer()).error:
            cure = "mend torchvision first"
        return Row(name, here, "error", f"{name} {here} does not import: {answer.error}", cure, "broken")
    if name == "torchvision" and answer.value:
        return Row(name, here, "note", verdict="repaired: its operators do not load beside this torch")
    return Row(name, here, verdict="" if need is not None or name == "tokenizers" else "not needed")


def _misfit_row(need: Requirement, here: str | None, llava: bool) -> Row:
    name = need.name
    supported = ".".join(map(str, OLDEST)) + " - " + ".".join(map(str, NEWEST))
    asked = f"supported are {supported}" if llava and name == "transformers" else f"needed is {need}"
    problem = f"{name} {here}: {asked}" if here else f"{name} is not installed"
    cure = f"pip install '{need}'"
    if name == "transformers" and here:
        cure += ", best in an environment of its own"
        cure += "" if llava else "; or name the checkout to train with: tpo doctor PATH"
    return Row(name, here or "-", "error", problem, cure, _misfit(need))


def _misfit(need: Requirement) -> str:
    """`missing`, `too old`, `too new`, or empty for an installed version that fits."""
    here = installed(need.name)
    if here is None:
        return "missing"
    if need.specifier.contains(here, prereleases=True):
        return ""
    below = any(part.operator in LOWER and Version(here) < Version(part.version) for part in need.specifier)
    return "too old" if below else "too new"
