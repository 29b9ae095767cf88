"""What `tpo ablate tiny/ablation` is prepared with."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest

from tpo_plugin.errors import TPOError
from tpo_plugin.tiny.ablation import prepare
from tpo_plugin.video import probe

SIZES = {"videos": 4, "scenes": [2, 3], "scene_seconds": 2.0}
BENCHMARKS = {"short": 2, "medium": 0, "long": 2, "mlvu": 2, "per_video": 2}


def test_a_seeds_world_and_its_server(tmp_path: Path) -> None:
    with prepare(tmp_path, 3, **SIZES, benchmarks=BENCHMARKS) as names:
        with urllib.request.urlopen(f"{names['server']}/models") as reply:
            assert json.load(reply)["data"][0]["id"] == "tiny-world"
        assert [probe(file).seconds for file in sorted(Path(names["videos"]).iterdir())] == [4, 6, 4, 6], "in turn"
        assert (Path(names["benchmarks"]) / "truth.json").is_file()
        assert (Path(names["needles"]) / "haystack.mp4").is_file()
        assert (Path(names["shipped"]) / "model.safetensors").is_file()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    with prepare(tmp_path, 3, **SIZES, benchmarks=BENCHMARKS):
        assert {path: path.stat().st_mtime_ns for path in before} == before, "kept"
    with pytest.raises(TPOError, match="a world of another seed or size"), prepare(tmp_path, 4, **SIZES):
        pass
