"""The process in which lmms-eval runs: its own command line, after the repairs that this environment needs.

python -m tpo_plugin.evaluation.harness [--upstream CHECKOUT] --model tpo_hf --model_args pretrained=... --tasks videomme
"""

from __future__ import annotations

import os
import sys
import threading
import time

from tpo_plugin.integrations.torchvision import repair


def main() -> None:
    """Hand the arguments to lmms-eval. Its exit status says nothing: a failed run also ends with 0."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    repair()
    if sys.argv[1:2] == ["--upstream"]:
        _make_importable(sys.argv[2])
        del sys.argv[1:3]
    from lmms_eval.cli.dispatch import main as lmms_eval

    sys.argv[0] = "lmms-eval"
    lmms_eval()


def _make_importable(upstream: str) -> None:
    """Let lmms-eval's `llava_vid` or `longva` import the package of this checkout."""
    from tpo_plugin.integrations.checkout import find_checkout
    from tpo_plugin.integrations.llava_family.repairs import repair_imports

    checkout = find_checkout(upstream)
    sys.path.insert(0, str(checkout.root))
    repair_imports(checkout.package)


def _end_with(parent: int) -> None:
    """End this process when its parent has died: it would go on writing into a folder that the next run has taken."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    main()
