"""Our tasks, and prompt-parity variants of the benchmarks' own, in lmms-eval without flags.

lmms-eval has no entry point for tasks: its TaskManager gets our folder here. Remove when it has one.

Prompt parity. lmms-eval words a question by the *name* of the model: a task's `lmms_eval_specific_kwargs` has an entry `default` and may have
others, such as `llava_vid`, whose Video-MME prompt ends in other words. A model under another name gets `default`, so a trained model in our
wrapper would be asked otherwise than its base was in lmms-eval's. For each benchmark of the papers and each of lmms-eval's wrappers for the
families here that has an entry of its own there is a variant `<task>_prompt_<wrapper>`: the task with that entry for every model. In
lmms-eval 0.7.3 these are `videomme_prompt_llava_vid`, `videomme_w_subtitle_prompt_llava_vid` and those of Video-MME's long videos; all other
benchmarks and wrappers (`longva`, `qwen2_vl`, `qwen2_5_vl`, ...) have `default` in common with our models. Nothing is chosen silently: the
prompt is that of the task's name, and results are kept under it.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

FOLDER = Path(__file__).parents[1] / "evaluation" / "tasks"
SEPARATOR = "_prompt_"
BENCHMARKS = (
    "videomme",
    "videomme_w_subtitle",
    "videomme_long",
    "videomme_long_w_subtitle",
    "mlvu_dev",
    "longvideobench_val_v",
    "vinoground",
    "tempcompass_multi_choice",
    "tempcompass_yes_no",
    "tempcompass_caption_matching",
    "tempcompass_captioning",
    "egoschema",
    "egoschema_subset",
    "perceptiontest_val_mc",
)
WRAPPERS = ("llava_vid", "longva", "llava_onevision", "llava_hf", "qwen2_vl", "qwen2_5_vl")
BY_NAME = ("lmms_eval_specific_kwargs", "model_specific_generation_kwargs", "model_specific_target_kwargs")
VARIANT = "tpo_prompt"  # in the index: the wrapper whose prompt the task has


def base_task(task: str) -> str:
    """The benchmark that a variant asks, any other task itself."""
    return task.partition(SEPARATOR)[0]


def add_tasks() -> None:
    """Let every TaskManager made from now on know our tasks and the variants. Does nothing the second time.

    A task of lmms-eval's, or in a folder that the user names, goes before one of ours with the same name. Raises RuntimeError for a
    TaskManager that does not look up the two methods which are replaced.
    """
    from lmms_eval.tasks import TaskManager

    make_index, get_config = TaskManager.initialize_tasks, TaskManager._get_config
    if hasattr(make_index, VARIANT):
        return
    users = {"initialize_tasks": TaskManager.__init__, "_get_config": TaskManager._load_individual_task_or_group}
    unused = [name for name, user in users.items() if name not in user.__code__.co_names]
    if unused or "include_defaults" not in inspect.signature(make_index).parameters:
        raise RuntimeError("this lmms-eval finds its tasks in another way")

    @wraps(make_index)
    def initialize_tasks(self: Any, include_path: Any = None, include_defaults: bool = True) -> dict[str, Any]:
        index = make_index(self, include_path, include_defaults)
        return {**_ours(self, index), **index} if include_defaults else index

    @wraps(get_config)
    def _get_config(self: Any, name: str) -> dict[str, Any]:
        config = get_config(self, name)
        wrapper = self.task_index[name].get(VARIANT)
        return config if wrapper is None else as_wrapper(config, name, wrapper)

    setattr(initialize_tasks, VARIANT, True)
    TaskManager.initialize_tasks, TaskManager._get_config = initialize_tasks, _get_config


def as_wrapper(config: dict[str, Any], name: str, wrapper: str) -> dict[str, Any]:
    """A task's configuration under `name`, asking every model as it asks lmms-eval's model `wrapper`."""
    chosen = {key: {"default": config[key][wrapper]} for key in BY_NAME if wrapper in (config.get(key) or {})}
    return {**config, "task": name, **chosen}


def _ours(manager: Any, index: dict[str, Any]) -> dict[str, Any]:
    """What we add to an index of tasks. What a file of ours, or one benchmark's, spoils by itself is left out, with a logged reason."""
    found = _unless_broken("tasks", lambda: manager._get_task_and_group(str(FOLDER)))
    for task in BENCHMARKS:
        found.update(_unless_broken(f"variants of {task}", partial(_variants, task, index)))
    return found


def _unless_broken(what: str, read: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    import yaml

    try:
        return read()
    except (OSError, yaml.YAMLError, LookupError, AttributeError, TypeError, ValueError) as error:
        logger.warning("lmms-eval %s of tpo-plugin are left out: %s: %s", what, type(error).__name__, error)
        return {}


def _variants(task: str, index: dict[str, Any]) -> dict[str, Any]:
    from lmms_eval.utils import load_yaml_config

    entry = index.get(task)
    if entry is None or entry["type"] != "task":
        return {}
    config = load_yaml_config(entry["yaml_path"], mode="simple")
    return {
        f"{task}{SEPARATOR}{wrapper}": {**entry, VARIANT: wrapper}
        for wrapper in WRAPPERS
        if any(wrapper in (config.get(key) or {}) for key in BY_NAME)
    }
