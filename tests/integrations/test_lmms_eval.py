from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

from tpo_plugin.integrations import lmms_eval as integration


def test_lmms_eval_finds_the_model():
    from lmms_eval.models import get_model

    found = {entry.name: entry for entry in entry_points(group="lmms_eval.models")}
    assert [manifest.model_id for manifest in found["tpo_plugin"].load()()] == ["tpo_hf"]
    assert f"{get_model('tpo_hf').__module__}.{get_model('tpo_hf').__name__}" == integration.MODEL_CLASS


def test_a_missing_package_leaves_the_model_out(monkeypatch, caplog):
    monkeypatch.setattr(integration, "NEEDED", ("torch", "no_such_package"))
    assert integration.manifests() == []
    assert "no_such_package" in caplog.text


def test_an_old_lmms_eval_leaves_the_model_out(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "lmms_eval.models.registry_v2", None)
    assert integration.manifests() == []
    assert "lmms-eval>=0.7.3" in caplog.text


def test_import_is_cheap():
    code = "import sys, tpo_plugin.integrations.lmms_eval, tpo_plugin.evaluation.run; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
