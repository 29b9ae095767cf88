"""What lmms-eval finds through the entry point group `lmms_eval.models`."""

from __future__ import annotations

import importlib.util
import logging
from typing import Any

logger = logging.getLogger(__name__)

MODEL_ID = "tpo_hf"
MODEL_CLASS = "tpo_plugin.evaluation.lmms_model.TemporalHF"
NEEDED = ("torch", "transformers", "av")


def manifests() -> list[Any]:
    """The model manifests of this package; empty, with a logged reason, where they could not run.

    Never raises: one entry point that does makes lmms-eval drop the models of all plug-ins. Imports no model code.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        logger.warning("lmms-eval model %s is left out: %s not installed", MODEL_ID, ", ".join(missing))
        return []
    try:
        from lmms_eval.models.registry_v2 import ModelManifest
    except ImportError as error:
        logger.warning("lmms-eval model %s is left out: it needs lmms-eval>=0.7.3 (%s)", MODEL_ID, error)
        return []
    return [ModelManifest(model_id=MODEL_ID, chat_class_path=MODEL_CLASS)]
