"""What lmms-eval gets from the entry point, and that it never breaks there."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

import pytest

from tpo_plugin.integrations import lmms_eval as integration
from tpo_plugin.integrations import lmms_eval_tasks


def test_lmms_eval_finds_the_models():
    from lmms_eval.models import get_model

    found = {entry.name: entry for entry in entry_points(group="lmms_eval.models")}
    assert [manifest.model_id for manifest in found["tpo_plugin"].load()()] == list(integration.MODELS)
    for name, path in integration.MODELS.items():
        assert f"{get_model(name).__module__}.{get_model(name).__name__}" == path
        assert get_model(name).model_id == name


def test_a_missing_package_leaves_the_models_out(monkeypatch, caplog):
    monkeypatch.setattr(integration, "NEEDED", ("torch", "no_such_package"))
    assert integration.manifests() == []
    assert "no_such_package" in caplog.text


def test_an_old_lmms_eval_leaves_the_models_out(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "lmms_eval.models.registry_v2", None)
    assert integration.manifests() == []
    assert "lmms-eval>=0.7.3" in caplog.text


def test_the_models_are_there_without_the_tasks(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "lmms_eval.tasks", None)
    assert len(integration.manifests()) == 3
    assert "tasks of tpo-plugin are left out" in caplog.text


@pytest.fixture
def fresh_methods(monkeypatch):
    """TaskManager as lmms-eval has it, and again after the test."""
    from lmms_eval.tasks import TaskManager

    for name in ("initialize_tasks", "_get_config"):
        method = getattr(TaskManager, name)
        monkeypatch.setattr(TaskManager, name, getattr(method, "__wrapped__", method))
    return TaskManager


@pytest.mark.parametrize("replaced", ["initialize_tasks", "_load_individual_task_or_group"])
def test_another_way_of_finding_tasks_is_left_alone(fresh_methods, monkeypatch, caplog, replaced):
    def method(self, include_path=None):
        return {}

    monkeypatch.setattr(fresh_methods, replaced, method)
    before = fresh_methods.initialize_tasks
    assert len(integration.manifests()) == 3
    assert "finds its tasks in another way" in caplog.text
    assert fresh_methods.initialize_tasks is before


@pytest.fixture
def some_tasks(fresh_methods, tmp_path):
    """A stand-in for lmms-eval's own folder: `videomme`, `mlvu_dev` and a group `mlvu` of its own."""
    (tmp_path / "videomme.yaml").write_text(
        "task: videomme\nlmms_eval_specific_kwargs:\n  default: {a: 1}\n  llava_vid: {a: 2}\n  gpt4v: {a: 3}\n"
        "model_specific_generation_kwargs:\n  llava_vid: {b: 4}\n"
    )
    (tmp_path / "mlvu_dev.yaml").write_text("task: mlvu_dev\nlmms_eval_specific_kwargs:\n  default: {a: 1}\n")
    return fresh_methods, tmp_path


def make(manager, folder):
    """A TaskManager whose own tasks are those in `folder` (all of lmms-eval's take 5 s to index)."""
    read = manager._get_task_and_group

    class Small(manager):
        def _get_task_and_group(self, task_dir):
            return read(self, str(folder) if "lmms_eval/tasks" in task_dir else task_dir)

    return Small("WARNING")


def test_our_tasks_and_variants_are_found_without_flags(some_tasks):
    manager, folder = some_tasks
    before = set(make(manager, folder).all_tasks)
    lmms_eval_tasks.add_tasks()
    lmms_eval_tasks.add_tasks()
    found = make(manager, folder)
    assert {"mlvu", "videomme_prompt_llava_vid"} <= set(found.all_tasks) - before
    assert found.task_index["mlvu"]["type"] == "group"
    assert found._get_config("mlvu")["task"] == ["mlvu_dev"]
    assert not [name for name in found.all_tasks if "gpt4v" in name or name.startswith("mlvu_dev_")]
    variant, plain = found._get_config("videomme_prompt_llava_vid"), found._get_config("videomme")
    assert variant["task"] == "videomme_prompt_llava_vid"
    assert variant["lmms_eval_specific_kwargs"] == {"default": {"a": 2}}
    assert variant["model_specific_generation_kwargs"] == {"default": {"b": 4}}
    assert plain["lmms_eval_specific_kwargs"]["default"] == {"a": 1}
    assert lmms_eval_tasks.base_task(variant["task"]) == "videomme"
    assert lmms_eval_tasks.base_task("mlvu_dev") == "mlvu_dev"


def test_a_task_of_theirs_goes_before_ours(some_tasks):
    manager, folder = some_tasks
    (folder / "mlvu.yaml").write_text("group: mlvu\ntask: [mlvu_dev, mlvu_test]\n")
    lmms_eval_tasks.add_tasks()
    assert make(manager, folder)._get_config("mlvu")["task"] == ["mlvu_dev", "mlvu_test"]


def test_nothing_of_ours_in_an_index_without_the_defaults(some_tasks):
    manager, folder = some_tasks
    lmms_eval_tasks.add_tasks()
    assert set(manager("WARNING", str(folder), include_defaults=False).all_tasks) == {"videomme", "mlvu_dev"}


def test_a_broken_file_of_ours_leaves_theirs(some_tasks, monkeypatch, tmp_path_factory, caplog):
    manager, folder = some_tasks
    broken = tmp_path_factory.mktemp("broken")
    (broken / "a.yaml").write_text("task: [")
    monkeypatch.setattr(lmms_eval_tasks, "FOLDER", broken)
    lmms_eval_tasks.add_tasks()
    assert set(make(manager, folder).all_tasks) == {"videomme", "mlvu_dev", "videomme_prompt_llava_vid"}
    assert "tasks of tpo-plugin are left out" in caplog.text


def test_a_broken_benchmark_leaves_the_rest(some_tasks, caplog):
    manager, folder = some_tasks
    index = make(manager, folder).task_index
    spoilt = {**index, "mlvu_dev": {**index["mlvu_dev"], "yaml_path": str(folder / "gone.yaml")}}
    ours = lmms_eval_tasks._ours(make(manager, folder), spoilt)
    assert {"mlvu", "needle", "videomme_prompt_llava_vid"} <= set(ours)
    assert "variants of mlvu_dev of tpo-plugin are left out: FileNotFoundError" in caplog.text


def test_import_is_cheap():
    code = "import sys, tpo_plugin.integrations.lmms_eval, tpo_plugin.evaluation.run; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
