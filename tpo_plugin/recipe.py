"""Recipes: YAML files read into the dataclasses of `options.py`, one class a command.

An unknown key is an error that names the nearest known one; `key.sub=value` on the command line overrides a file's value.
Relative paths are relative to the working directory. The resolved recipe is saved beside a run's results.
"""

from __future__ import annotations

import difflib
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from types import UnionType
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
    hint = _hint(kind, key.split("."))
    if hint in (str, str | None):
        change(data, key, None if hint is not str and text.strip() in NONE else text)
        return
    if hint == str | tuple[str, ...] and not text.lstrip().startswith("["):
        change(data, key, text)
        return
    try:
        change(data, key, yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise RecipeError(f"the value of the override {override!r} is not YAML: {error}") from None


def change(data: dict[str, Any], key: str, value: Any) -> None:
    """Set the value at `key` (`section.name`) in a recipe's plain values; RecipeError where a part of the key is no section.

    In a chain `steps.NAME.section.name` sets it in the step of that name. A section on the way is replaced by a copy: another place may hold the
    same one (an alias in YAML).
    """
    *parents, last = str(key).split(".")
    if parents[:1] == ["steps"] and isinstance(data.get("steps"), list):
        _change_step(data, key, value)
        return
    for parent in parents:
        inner = data.get(parent, {})
        if not isinstance(inner, dict):
            raise RecipeError(f"cannot set {key}: `{parent}` is not a section")
        data[parent] = dict(inner)
        data = data[parent]
    data[last] = value


def _change_step(data: dict[str, Any], key: str, value: Any) -> None:
    """Set a value of one step of a chain; it is the last of the step's, which are applied in their order."""
    name, _, inner = key.removeprefix("steps.").partition(".")
    places = [place for place, step in enumerate(data["steps"]) if isinstance(step, dict) and step.get("name") == name]
    if not places or not inner:
        raise RecipeError(f"cannot set {key}: there is no such step, or no key after its name (steps.NAME.key)")
    steps = list(data["steps"])
    kept = {other: item for other, item in steps[places[0]].items() if other != inner}
    steps[places[0]] = {**kept, inner: value}
    data["steps"] = steps


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
        is_text = isinstance(value, str) and str not in _choices(hints[key]) and _items(hints[key]) is not None
        if is_flag or is_text:
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
        elif isinstance(value, list):
            value = _tuple(hints[key], value)
        widened[key] = value
    return widened


def _tuple(hint: Any, value: list[Any]) -> Any:
    """The list as the tuple that the field's type has among its choices; another list stays as it is."""
    if _items(hint) is float:
        value = [float(item) if type(item) is int else item for item in value]
    return value if _items(hint) is None else tuple(value)


def _items(hint: Any) -> Any:
    """The type of a tuple's items, where a field's type is one or has one among its choices."""
    return next((get_args(part)[0] for part in _choices(hint) if get_origin(part) is tuple), None)


def _choices(hint: Any) -> tuple[Any, ...]:
    """The members of a union, or the one type."""
    return get_args(hint) if isinstance(hint, UnionType) else (hint,)


def _type_name(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(map(str, get_args(hint)))
    if get_origin(hint) is tuple:
        return f"a list of {_type_name(get_args(hint)[0])}"
    return str(hint if get_args(hint) else getattr(hint, "__name__", hint)).replace("typing.", "")
