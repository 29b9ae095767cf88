"""The process that has imported lmms-eval once, and forks one child for each cell.

    python -m tpo_plugin.evaluation.harness MODEL TASKS [--upstream CHECKOUT] [--prompt-as MODEL]

Importing lmms-eval and indexing its tasks takes longer than a small cell, a fork takes nothing. Orders come in on standard input
and reports go out on standard output, a line of JSON each. Every child is a process of its own, with its output in the cell's
log, and runs the body of lmms-eval's own command. When the input ends, so do the children.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import inspect
import json
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from importlib.util import find_spec
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from tpo_plugin.errors import TPOError
from tpo_plugin.evaluation.layouts import layout_of
from tpo_plugin.integrations.torchvision import repair
from tpo_plugin.records import write_json

Task = Any


def main() -> None:
    """Import lmms-eval, then serve orders until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("tasks", type=lambda text: text.split(","))
    parser.add_argument("--upstream")
    parser.add_argument("--prompt-as")
    parser.add_argument("--order", type=json.loads, help="run this one cell in this process")
    options = parser.parse_args()
    parent = os.getppid()
    if options.order:
        _cell(options.order, _load(options.model, options.upstream, options.prompt_as), parent)
        return
    reports = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no report
    loaded = threading.Event()
    watch = threading.Thread(target=_end_with, args=(parent, loaded))
    watch.start()
    manager = _load(options.model, options.upstream, options.prompt_as)
    loaded.set()
    watch.join()  # a process that forks should have one thread
    known = set(manager.all_tasks)
    unknown = [task for task in options.tasks if task not in known]
    asked = any(_has_prompt(manager.task_index[task], options.prompt_as) for task in options.tasks if task in known)
    reports.write(json.dumps({"unknown": unknown, "prompted": asked}) + "\n")
    _serve(reports, manager)


def _load(model: str, upstream: str | None, prompt_as: str | None) -> Any:
    """Import what all cells need; lmms-eval's index of tasks, which words their prompts for the model `prompt_as`."""
    repair()
    if upstream:
        _make_importable(upstream)
    from lmms_eval import __main__, models
    from lmms_eval.api.metrics import stderr_for_metric

    models.get_model(model)
    stderr_for_metric(len, 1)  # it imports a second's worth of modules when it is first called
    manager = __main__.TaskManager("INFO", model_name=prompt_as or model)
    gc.collect()
    gc.freeze()  # lmms-eval collects garbage after each task: let that not walk over everything that was imported
    return manager


def _has_prompt(entry: dict[str, Any], prompt_as: str | None) -> bool:
    """Whether a task of the index is worded in a way of its own for this model; lmms-eval asks with `default` otherwise."""
    from lmms_eval.utils import load_yaml_config

    from tpo_plugin.integrations.lmms_eval_tasks import BY_NAME

    if prompt_as is None or entry["type"] != "task":
        return False
    config = load_yaml_config(entry["yaml_path"], mode="simple")
    return any(prompt_as in (config.get(key) or {}) for key in BY_NAME)


def _make_importable(upstream: str) -> None:
    """Let lmms-eval's wrappers of LLaVA-NeXT and LongVA import the package of this checkout."""
    from tpo_plugin.integrations.checkout import find_checkout
    from tpo_plugin.integrations.llava_family.repairs import repair_imports

    checkout = find_checkout(upstream)
    sys.path.insert(0, str(checkout.root))
    repair_imports(checkout.package)


def _serve(reports: Any, manager: Any) -> None:
    fork = multiprocessing.get_context("fork")
    run = _cell_by_itself if sys.modules["torch"].cuda.is_initialized() else _cell
    children: dict[Any, tuple[int, Any]] = {}  # by what becomes readable when one ends
    orders = os.dup(0)
    pending = b""
    try:
        while True:
            for source in wait([orders, *children]):
                if source != orders:
                    number, child = children.pop(source)
                    child.join()
                    reports.write(json.dumps({"cell": number, "status": child.exitcode}) + "\n")
                    continue
                read = os.read(orders, 1 << 16)
                if not read:
                    return
                *lines, pending = (pending + read).split(b"\n")
                for line in lines:
                    order = json.loads(line)
                    sys.stdout.flush()
                    child = fork.Process(target=run, args=(order, manager, os.getpid()))
                    child.start()
                    children[child.sentinel] = (order["cell"], child)
    finally:
        for _, child in children.values():
            child.kill()
            child.join()


def _cell_by_itself(order: dict[str, Any], manager: Any, parent: int) -> None:
    """Where an import has started CUDA, which a fork cannot use: a process that imports everything again."""
    again = [sys.executable, "-m", "tpo_plugin.evaluation.harness", *sys.argv[1:], "--order", json.dumps(order)]
    process = subprocess.Popen(again, stdin=subprocess.DEVNULL)
    threading.Thread(target=_end_with, args=(parent, threading.Event(), process), daemon=True).start()
    sys.exit(process.wait())


def _cell(order: dict[str, Any], manager: Any, parent: int) -> None:
    """In the child: one model on one task, as lmms-eval's command line runs it. A TPOError's text is left in `order["error"]`."""
    _write_to(order["log"])
    threading.Thread(target=_end_with, args=(parent, threading.Event()), daemon=True).start()
    from lmms_eval import __main__ as command
    from lmms_eval import evaluator, models
    from loguru import logger

    logger.remove()
    logger.add(sys.stdout, level="INFO")
    sys.argv = ["lmms-eval", *order["argv"]]
    _, args = command.parse_eval_args()
    command.TaskManager = lambda *_, **__: manager
    evaluator.get_task_dict = _noting(evaluator.get_task_dict, Path(order["extractor"]))
    models.get_model = _resuming(models.get_model, Path(order["answers"]), int(args.batch_size))
    try:
        command.cli_evaluate_single(args)
    except TPOError as error:
        write_json(Path(order["error"]), str(error))
        raise


def _resuming(get_model: Callable[..., type], file: Path, batch_size: int) -> Callable[..., type]:
    """`get_model` whose model keeps its answers in `file`."""
    from tpo_plugin.evaluation.resuming import keep_answers

    def get(*args: Any, **kwargs: Any) -> type:
        found: Any = get_model(*args, **kwargs)
        create = found.create_from_arg_string

        def created(*args: Any, **kwargs: Any) -> Any:
            model = create(*args, **kwargs)
            keep_answers(model, file, batch_size)
            return model

        found.create_from_arg_string = created
        return found

    return get


def _noting(get_task_dict: Callable[..., dict[str, Task]], file: Path) -> Callable[..., dict[str, Task]]:
    """`get_task_dict` that leaves in `file` which code takes the answer out of a response."""

    def get(*args: Any, **kwargs: Any) -> dict[str, Task]:
        tasks = get_task_dict(*args, **kwargs)
        for task in tasks.values():
            function = getattr(getattr(task, "config", None), "process_results", None)
            if callable(function):
                function = getattr(function, "func", function)  # of a functools.partial
                write_json(file, extractor(_portable(Path(inspect.getfile(inspect.unwrap(function))))))
            let_empty_answers_be_scored(task)
        return tasks

    return get


def let_empty_answers_be_scored(task: Task) -> None:
    """Show Vinoground's scores a blank for an empty answer, which is wrong too: they take an answer's first letter."""
    layout = layout_of(str(getattr(getattr(task, "config", None), "task", "")))
    if layout is None or not layout.pairs:
        return
    process = task.config.process_results

    def process_results(doc: dict[str, Any], results: list[str]) -> Any:
        return process(doc, [result or " " for result in results])

    task.config.process_results = process_results


def extractor(name: str) -> dict[str, str]:
    """A file with a task's `process_results` and a hash of it, and of the code that lmms-eval's tasks share.

    `name` begins with its package, `lmms_eval/tasks/...`; a path stands for itself.
    """
    package = name.split("/")[0]
    spec = find_spec(package) if package.isidentifier() else None
    root = Path(spec.submodule_search_locations[0]).parent if spec and spec.submodule_search_locations else Path()
    digest = hashlib.sha256()
    for file in (root / name, *sorted((root / package / "tasks" / "_task_utils").glob("*.py"))):
        digest.update(file.read_bytes() if file.is_file() else b"")
    return {"file": name, "digest": digest.hexdigest()[:16]}


def _portable(file: Path) -> str:
    """A file of an installed package as `package/...`."""
    for package in ("lmms_eval", "tpo_plugin"):
        if package in file.parts:
            start = len(file.parts) - 1 - file.parts[::-1].index(package)
            return "/".join(file.parts[start:])
    return str(file)


def _write_to(log: str) -> None:
    """Send all output of this process to the end of a file, and give it nothing to read."""
    with open(log, "ab") as file, open(os.devnull, "rb") as nothing:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        os.dup2(nothing.fileno(), 0)


def _end_with(parent: int, done: threading.Event, child: subprocess.Popen[bytes] | None = None) -> None:
    """End this process and its child when its parent has died: they would go on writing into a folder that the next run has taken."""
    while not done.wait(1):
        if os.getppid() != parent:
            if child is not None:
                child.kill()
            os._exit(1)


if __name__ == "__main__":
    main()
