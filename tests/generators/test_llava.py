"""Type `llava` where no checkout is at hand: what is refused, when, and in which words."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import transformers

from tpo_plugin.curation.checks import check
from tpo_plugin.curation.identity import stage_ids
from tpo_plugin.errors import RecipeError, TPOError
from tpo_plugin.generators.llava import LlavaGenerator
from tpo_plugin.integrations.llava_family.model import check_checkpoint
from tpo_plugin.options import CurateRecipe, GeneratorOptions
from tpo_plugin.recipe import parse

LLAVA = {"model_type": "llava_qwen", "mm_patch_merge_type": "spatial_unpad", "mm_spatial_pool_mode": "bilinear"}
LONGVA = {"model_type": "llava_qwen", "mm_patch_merge_type": "unires", "mm_spatial_pool_mode": "average"}
SUPPORTED = "4.40" <= transformers.__version__ < "4.58"


def checkpoint(folder: Path, **config: Any) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


@pytest.mark.parametrize(
    ("package", "config", "says"),
    [
        ("llava", {"model_type": "llava_onevision"}, "is a llava_onevision model; .* take llava_qwen .* Use type `hf`"),
        ("llava", LONGVA, "joins patches by `unires` .*: its `upstream` must be a checkout of LongVA"),
        ("longva", LLAVA, "joins patches by `spatial_unpad` .*: its `upstream` must be a checkout of LLaVA-NeXT"),
        ("llava", {"model_type": "llava_qwen"}, "has no `mm_spatial_pool_mode`"),
        ("llava", {**LLAVA, "add_faster_video": True}, "`add_faster_video: true`, which LLaVA-NeXT cannot run"),
    ],
)
def test_checkpoints_that_upstream_cannot_run(tmp_path: Path, package: str, config: dict, says: str) -> None:
    with pytest.raises(TPOError, match=says):
        check_checkpoint(checkpoint(tmp_path / "model", **config), package)


@pytest.mark.parametrize(("package", "config"), [("llava", LLAVA), ("longva", LONGVA)])
def test_checkpoints_that_it_can(tmp_path: Path, package: str, config: dict) -> None:
    base = checkpoint(tmp_path / "model", **config)
    check_checkpoint(base, package)
    check_checkpoint("lmms-lab/on-the-hub", package)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    check_checkpoint(str(adapter), package)
    checkpoint(tmp_path / "model", model_type="qwen2")
    with pytest.raises(TPOError, match="is a qwen2 model"):
        check_checkpoint(str(adapter), package)
    with pytest.raises(TPOError, match="no checkpoint folder at /missing/model"):
        check_checkpoint("/missing/model", package)


def curation(tmp_path: Path, **responses: Any) -> CurateRecipe:
    generator = {"type": "llava", "model": checkpoint(tmp_path / "model", **LLAVA), "upstream": "LLaVA-NeXT"}
    return parse(
        CurateRecipe,
        {"output": str(tmp_path / "out"), "videos": {"source": "x"}, "responses": {**generator, **responses}},
    )


def test_a_recipe_names_checkpoint_and_checkout(tmp_path: Path) -> None:
    check(curation(tmp_path))
    with pytest.raises(RecipeError, match=r"`responses\.model` is empty"):
        check(curation(tmp_path, model=""))
    with pytest.raises(RecipeError, match=r"`responses\.upstream` is empty: type `llava` needs the path of a checkout"):
        check(curation(tmp_path, upstream=" "))


def test_responses_depend_on_the_template_and_not_on_where_the_checkout_lies(tmp_path: Path) -> None:
    ids = stage_ids(curation(tmp_path))
    assert stage_ids(curation(tmp_path, upstream="/elsewhere")) == ids
    other = stage_ids(curation(tmp_path, conv_template="qwen_2_5"))
    assert [stage for stage in ids if ids[stage] != other[stage]] == ["respond", "filter"]
    of_hf = [stage_ids(curation(tmp_path, type="hf", conv_template=name)) for name in ("qwen_1_5", "qwen_2_5")]
    assert of_hf[0] == of_hf[1]


@pytest.mark.skipif(SUPPORTED, reason="this transformers is one of those that upstream runs on")
def test_a_transformers_that_upstream_does_not_run_on(tmp_path: Path) -> None:
    options = GeneratorOptions("llava", checkpoint(tmp_path / "model", **LLAVA), "LLaVA-NeXT")
    with pytest.raises(TPOError, match=r"supported on transformers 4\.40 - 4\.57; here is .*tpo-plugin\[llava\]"):
        LlavaGenerator.check(options)


@pytest.mark.skipif(not SUPPORTED, reason="refused for its transformers first")
def test_a_folder_that_is_no_checkout(tmp_path: Path) -> None:
    options = GeneratorOptions("llava", checkpoint(tmp_path / "model", **LLAVA), str(tmp_path))
    with pytest.raises(TPOError, match="is not a checkout to use"):
        LlavaGenerator.check(options)
    with pytest.raises(TPOError, match="is not there"):
        LlavaGenerator.check(replace(options, upstream=str(tmp_path / "missing")))


def test_a_missing_torch_names_the_extra_of_this_type(tmp_path: Path, tiny_videos: Path) -> None:
    plain = {
        "output": str(tmp_path / "out"),
        "videos": {"source": str(tiny_videos)},
        "responses": {"type": "llava", "model": checkpoint(tmp_path / "model", **LLAVA), "upstream": "LLaVA-NeXT"},
        "llm": {"base_url": "http://127.0.0.1:9/v1"},
    }
    (tmp_path / "r.yaml").write_text(json.dumps(plain))
    code = "import sys; sys.modules['torch'] = None; from tpo_plugin.cli import main; sys.exit(main())"
    run = subprocess.run(
        [sys.executable, "-c", code, "curate", str(tmp_path / "r.yaml")], capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout) == (1, ""), run.stderr
    assert run.stderr.splitlines()[-1].endswith("pip install 'tpo-plugin[llava]'")
