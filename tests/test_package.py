"""What a wheel holds, and what it asks for."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_wheel_holds_code_and_data(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", tmp_path, ROOT],
        check=True,
        cwd=tmp_path,
    )
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tpo_plugin").rglob("*.py")}
    assert sources <= names
    for folder in ("recipes", "patches"):
        files = [path.relative_to(ROOT) for path in (ROOT / folder).rglob("*") if path.is_file()]
        assert files
        assert {f"tpo_plugin/{path.as_posix()}" for path in files} <= names
    for needed in (
        "tiny/base/model.safetensors",
        "tiny/base_qwen2_vl/model.safetensors",
        "report/template.html",
        "report/published/tpo.yaml",
        "curation/templates/judge.txt",
    ):
        assert f"tpo_plugin/{needed}" in names
    assert not any(name.startswith(("tests/", "recipes/")) for name in names)


def test_core_dependencies_are_few_and_loose() -> None:
    from importlib.metadata import requires

    core = [line for line in requires("tpo-plugin") or [] if ";" not in line]  # neither extras nor for an old Python
    assert len(core) <= 9
    assert not [line for line in core if "==" in line or "<" in line], "a LLaVA environment pins its own versions"
