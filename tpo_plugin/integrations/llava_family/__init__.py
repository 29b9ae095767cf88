"""`--tpo` in the DPO scripts of LLaVA-NeXT and LongVA (`llava`, `longva`).

Two hooks, called by the patched script or by `tpo train --upstream`: `prepare` before the script's imports, `attach` before its
`train()` runs. Without `--tpo` they change nothing but the script's `--help`.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

from tpo_plugin.errors import TPOError, show_as_one_line
from tpo_plugin.integrations.checkout import LOOKED_UP
from tpo_plugin.integrations.llava_family.arguments import Asked, extend_arguments


def prepare() -> None:
    """With `--tpo` on the command line: what importing the script needs here. The caller's file tells which code base it is."""
    if Asked.of(sys.argv[1:]).tpo:
        from tpo_plugin.integrations.llava_family.repairs import repair_imports

        repair_imports(Path(sys._getframe(1).f_globals["__file__"]).resolve().parents[1].name)


def attach(namespace: dict[str, Any]) -> None:
    """Give the script with these globals its `--tpo` options and, if they are used, this package's data, trainer and repairs.

    A script whose `train` does not look its parts up by the known names is left alone; with `--tpo` that is a TPOError. Does nothing the
    second time.
    """
    if namespace.get("__tpo__"):
        return
    asked = Asked.of(sys.argv[1:])
    missing = [name for name in LOOKED_UP if name not in namespace["train"].__code__.co_names]
    if asked.tpo:
        show_as_one_line()
    if missing and asked.tpo:
        script = inspect.getfile(namespace["train"])
        raise TPOError(f"{script}: train() does not use {', '.join(missing)}; this is not a known train_dpo.py")
    if missing:
        return
    extend_arguments(namespace, asked)
    if asked.tpo:
        from tpo_plugin.integrations.llava_family.session import Session

        Session(namespace).start()
    namespace["__tpo__"] = True
