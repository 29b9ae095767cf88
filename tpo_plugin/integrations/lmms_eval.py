"""What lmms-eval finds through the entry point group `lmms_eval.models`: our models and, on the way, our tasks.

Never raises: one entry point that does makes lmms-eval drop the models of all plug-ins. Imports no model code.
"""

from __future__ import annotations

import importlib.util
import logging
from typing import Any

logger = logging.getLogger(__name__)

WRAPPERS = "tpo_plugin.evaluation.wrappers"
MODELS = {
    "tpo_hf": f"{WRAPPERS}.hf.TemporalHF",
    "llava_video_tpo": f"{WRAPPERS}.llava.LlavaVideo",
    "longva_tpo": f"{WRAPPERS}.llava.LongVA",
}
MODEL_ID = "tpo_hf"
NEEDED = ("torch", "transformers", "av")


def manifests() -> list[Any]:
    """The manifests of this package's models; empty, with a logged reason, where none could run. Lets lmms-eval find our tasks too."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        logger.warning("lmms-eval models %s are left out: %s not installed", ", ".join(MODELS), ", ".join(missing))
        return []
    try:
        from lmms_eval.models.registry_v2 import ModelManifest
    except ImportError as error:
        logger.warning("lmms-eval models %s are left out: they need lmms-eval>=0.7.3 (%s)", ", ".join(MODELS), error)
        return []
    try:
        from tpo_plugin.integrations.lmms_eval_tasks import add_tasks

        add_tasks()
    except (ImportError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
        logger.warning("lmms-eval tasks of tpo-plugin are left out: %s: %s", type(error).__name__, error)
    return [ModelManifest(model_id=name, chat_class_path=path) for name, path in MODELS.items()]
