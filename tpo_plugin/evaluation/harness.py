"""The process in which lmms-eval runs: its own command line, after the repairs that this environment needs.

python -m tpo_plugin.evaluation.harness --model tpo_hf --model_args pretrained=... --tasks videomme
"""

from __future__ import annotations

import sys

from tpo_plugin.integrations.torchvision import repair


def main() -> None:
    """Hand the arguments to lmms-eval. Its exit status says nothing: a failed run also ends with 0."""
    repair()
    from lmms_eval.cli.dispatch import main as lmms_eval

    sys.argv[0] = "lmms-eval"
    lmms_eval()


if __name__ == "__main__":
    main()
