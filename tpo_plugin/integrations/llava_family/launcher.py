"""`tpo train --upstream PATH -- FLAGS`: the unpatched script with `--tpo`, from the checkout at PATH."""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from tpo_plugin.errors import TPOError
from tpo_plugin.integrations import llava_family
from tpo_plugin.integrations.checkout import Checkout, find_checkout
from tpo_plugin.integrations.llava_family.arguments import Asked
from tpo_plugin.integrations.llava_family.repairs import repair_imports


def launch(path: str, flags: Sequence[str]) -> None:
    """Run the checkout's `train()` with `flags`, which need not name `--tpo`. Raises TPOError for what the user can mend."""
    checkout = find_checkout(path)
    if os.environ.get("RANK", "0") != "0":
        logging.getLogger("tpo_plugin").setLevel(logging.WARNING)
    if not Asked.of(flags).tpo:
        if any(flag.partition("=")[0] == "--tpo" for flag in flags):
            raise TPOError("this command runs the script with --tpo: leave --tpo False out, or run the script itself")
        flags = ["--tpo", "True", *flags]
    sys.argv = [str(checkout.script), *flags]
    namespace = vars(load_script(checkout))
    llava_family.attach(namespace)
    try:
        namespace["train"]()
    except ValueError as error:
        if "HfArgumentParser" not in str(error):
            raise
        raise TPOError(f"the script has no such flags: {str(error).rpartition(': ')[2]}") from None


def load_script(checkout: Checkout) -> ModuleType:
    """The checkout's DPO script as a module, importable by the name that its classes carry (pickles name them by it)."""
    sys.path[:0] = [str(checkout.root), str(checkout.script.parent)]
    repair_imports(checkout.package)
    name = f"{checkout.package}.train.{checkout.script.stem}"
    spec = importlib.util.spec_from_file_location(name, checkout.script)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
