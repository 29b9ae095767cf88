"""Recipes: YAML files read into the dataclasses of `options.py`, one class a command.

An unknown key is an error that names the nearest known one; `key.sub=value` on the command line overrides a file's value.
Relative paths are relative to the working directory. The resolved recipe is saved beside a run's results.
"""

from __future__ import annotations

import difflib
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import yaml
from dacite import Config, DaciteError, WrongTypeError, from_dict

from tpo_plugin.errors import RecipeError
from tpo_plugin.records import write_text

R = TypeVar("R")
NONE = ("", "null", "~")  # as YAML writes it


def load(kind: type[R], path: str | Path, overrides: tuple[str, ...] = ()) -> R:
    """Read the recipe `path` (YAML) as `kind`, with `key.sub=value` overrides applied; RecipeError says what does not fit."""
    data = read(path)
    for override in overrides:
        _override(kind, data, override)
    return parse(kind, data, str(path))


def read(path: str | Path) -> dict[str, Any]:
    """The plain values in the recipe `path`; RecipeError where it holds none."""
    file = _find(str(path))
    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecipeError(f"no recipe at {path}; those of the package go by name, such as tiny/curate") from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise RecipeError(f"{path} is not readable YAML: {error}") from None
    if not isinstance(data, dict):
        raise RecipeError(f"{path} must hold `key: value` lines, it holds {type(data).__name__}")
    return data


def shipped(name: str) -> Path:
    """The file of a recipe that comes with the package, such as `tiny/curate`."""
    installed = Path(__file__).parent / "recipes"  # a wheel carries them inside the package
    root = installed if installed.is_dir() else Path(__file__).parents[1] / "recipes"
    return root / f"{name}.yaml"


def _find(path: str) -> Path:
    """A recipe by its path or, if there is no such file, by the name of one that comes with the package."""
    return Path(path) if Path(path).exists() or not shipped(path).is_file() else shipped(path)


def parse(kind: type[R], data: dict[str, Any], where: str = "recipe") -> R:
    """The recipe of class `kind` from plain values."""
    _check_keys(kind, data, where, "")
    try:
        return from_dict(kind, _widen(kind, data), Config(strict=True))
    except WrongTypeError as error:
        raise RecipeError(
            f"{where}: `{error.field_path}` must be {_type_name(error.field_type)}, not {error.value!r}"
        ) from None
    except DaciteError as error:
        raise RecipeError(f"{where}: {error}") from None


def save(recipe: Any, folder: Path) -> None:
    """Save the resolved recipe as `recipe.yaml` beside the results."""
    write_text(folder / "recipe.yaml", yaml.safe_dump(to_plain(recipe), sort_keys=False, allow_unicode=True))


def to_plain(recipe: Any) -> dict[str, Any]:
    """The recipe as plain values (lists for tuples), the form that `parse` takes."""
    plain = _lists(asdict(recipe))
    assert isinstance(plain, dict)
    return plain


def _lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lists(item) for key, item in value.items()}
    return [_lists(item) for item in value] if isinstance(value, (list, tuple)) else value


def _override(kind: Any, data: dict[str, Any], override: str) -> None:
    """Set one value. Where the recipe has a text, the override's text is taken as it is written; elsewhere it is YAML."""
    key, equals, text = override.partition("=")
    if not equals:
        raise RecipeError(f"an override is written key=value, not {override!r}")
    *parents, last = key.split(".")
    for parent in parents:
        inner = data.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise RecipeError(f"cannot set {key}: `{parent}` is not a section")
        data = inner
    hint = _hint(kind, key.split("."))
    if hint in (str, str | None):
        data[last] = None if hint is not str and text.strip() in NONE else text
        return
    try:
        data[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"the value of the override {override!r} is not YAML: {error}") from None


def _hint(kind: Any, names: list[str]) -> Any:
    """The type of the field at a path of names from the recipe class `kind`, None if there is no such field."""
    for name in names:
        if is_dataclass(kind):
            hint = get_type_hints(kind).get(name)
        else:
            hint = get_args(kind)[1] if get_origin(kind) is dict else None
        kind = _section(hint) or hint
    return kind


def _section(hint: Any) -> Any:
    """The dataclass behind a field's type, if it is a section of its own."""
    return next((part for part in (hint, *get_args(hint)) if is_dataclass(part)), None)


def _check_keys(kind: Any, data: dict[str, Any], where: str, prefix: str) -> None:
    hints = get_type_hints(kind)
    known = [item.name for item in fields(kind)]
    for key, value in data.items():
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.0)
            raise RecipeError(
                f"{where}: unknown key `{prefix}{key}`; did you mean `{prefix}{near[0]}`? Known: {', '.join(known)}"
            )
        section = _section(hints[key])
        # Python counts True as a number, and dacite reads a text as the list of its letters.
        is_flag = isinstance(value, bool) and hints[key] in (int, float, int | None)
        if is_flag or (isinstance(value, str) and get_origin(hints[key]) is tuple):
            raise RecipeError(f"{where}: `{prefix}{key}` must be {_type_name(hints[key])}, not {value!r}")
        if section and isinstance(value, dict):
            _check_keys(section, value, where, f"{prefix}{key}.")


def _widen(kind: Any, data: dict[str, Any]) -> dict[str, Any]:
    """Whole numbers where fractions are meant (`fps: 1`) and lists where tuples are: YAML does not tell them apart."""
    hints = get_type_hints(kind)
    widened: dict[str, Any] = {}
    for key, value in data.items():
        section = _section(hints[key])
        if section and isinstance(value, dict):
            value = _widen(section, value)
        elif hints[key] is float and type(value) is int:
            value = float(value)
        elif hints[key] == dict[str, float] and isinstance(value, dict):
            value = {name: float(item) if type(item) is int else item for name, item in value.items()}
        elif hints[key] == tuple[str, ...] and isinstance(value, list):
            value = tuple(value)
        widened[key] = value
    return widened


def _type_name(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, get_args(hint)))
    if get_origin(hint) is tuple:
        return f"a list of {_type_name(get_args(hint)[0])}"
    return str(hint if get_args(hint) else getattr(hint, "__name__", hint)).replace("typing.", "")
