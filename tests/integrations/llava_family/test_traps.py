"""Checkpoints and towers that a run would stop at or take for another, and the cures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tpo_plugin.integrations.llava_family import names
from tpo_plugin.integrations.llava_family.names import evaluation_class, training_class
from tpo_plugin.integrations.llava_family.traps import Trap, traps

GOOD = {
    "llava": {
        "architectures": ["LlavaQwenForCausalLM"],
        "mm_spatial_pool_mode": "bilinear",
        "mm_newline_position": "grid",
        "add_faster_video": False,
    },
    "longva": {"model_type": "llava_qwen", "mm_spatial_pool_mode": "average", "mm_spatial_pool_stride": 2},
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, empty. Paths in these tests are relative to it: a user called `yi` has his name in the whole path."""
    monkeypatch.chdir(tmp_path)
    return Path.cwd()


def write_json(folder: Path, values: dict, name: str = "config.json") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(values))
    return folder


def said(found: list[Trap]) -> str:
    return "\n".join(f"{'fatal' if trap.fatal else 'note'}: {trap.what} -> {trap.cure}" for trap in found)


@pytest.mark.parametrize("package", ["llava", "longva"])
def test_the_names_that_are_recommended_work(package: str) -> None:
    for wanted in names.IMPORTED[package]:
        name = str(names.good_name(wanted, package))
        assert training_class(name, package) == evaluation_class(name, package) == wanted
        config = GOOD[package] | {"architectures": [wanted], "mm_vision_tower": "openai/clip"}
        write_json(Path(name), config)
        assert traps(name, "openai/clip", package) == []


@pytest.mark.parametrize("package", ["llava", "longva"])
def test_a_checkpoint_under_a_misleading_folder(package: str, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cure, followed to the letter, has no trap."""
    name = f"{package}-qwen"
    path = write_json(Path("copying", name), GOOD[package])
    (trap,) = traps(str(path), None, package)
    assert (trap.fatal, trap.repair) == (True, None)
    assert f"takes {path} for LlavaLlamaForCausalLM, because of 'yi' in 'copying'" in trap.what
    assert trap.cure == f"the text of the flag decides: run from {here / 'copying'} and give {name} alone"
    monkeypatch.chdir("copying")
    assert traps(name, None, package) == []


def test_a_checkpoint_with_a_misleading_name_gets_a_link(here: Path) -> None:
    path = write_json(Path("my-llama"), GOOD["llava"])
    training, loading = traps(str(path), None, "llava")
    assert (training.fatal, loading.fatal) == (True, False)
    assert "for LlavaLlamaForCausalLM" in training.what
    assert "as a bare language model, without image processor" in loading.what
    assert f"ln -s {here / path} llava-qwen; then pass llava-qwen" in training.cure
    Path("llava-qwen").symlink_to(path)
    assert traps("llava-qwen", None, "llava") == []


def test_no_word_no_class() -> None:
    path = write_json(Path("llava-video-7b"), GOOD["llava"])
    assert "fatal: the script stops: no word in" in said(traps(str(path), None, "llava"))


def test_a_class_that_upstream_does_not_import() -> None:
    path = write_json(Path("gemma"), GOOD["llava"] | {"architectures": ["LlavaGemmaForCausalLM"]})
    found = said(traps(str(path), None, "llava"))
    assert "for LlavaGemmaForCausalLM, because of 'gemma', and does not import that: NameError" in found
    assert "none of the classes that llava imports" in found


def test_moe_in_a_folder_s_name() -> None:
    path = write_json(Path("moe/llava-qwen"), GOOD["llava"])
    found = said(traps(str(path), None, "llava"))
    assert (
        "for LlavaQwenMoeForCausalLM, because of 'qwen' and 'moe' in it, and does not import that: NameError" in found
    )
    assert "run from" in found


def test_a_port_is_told_apart() -> None:
    path = write_json(Path("llava-qwen"), {"architectures": ["LlavaOnevisionForConditionalGeneration"]})
    assert "is a Hugging Face model (LlavaOnevisionForConditionalGeneration)" in said(traps(str(path), None, "llava"))


def test_a_folder_that_is_not_there() -> None:
    assert "there is no checkpoint folder at /nowhere/a/llava-qwen" in said(
        traps("/nowhere/a/llava-qwen", None, "llava")
    )
    assert traps("lmms-lab/LLaVA-Video-7B-Qwen2", None, "llava") == []


@pytest.mark.parametrize(
    ("package", "change", "says", "fatal"),
    [
        ("llava", {"add_faster_video": None}, "lacks add_faster_video (AttributeError)", True),
        ("llava", {"add_faster_video": True}, "add_faster_video true is a NameError", True),
        ("llava", {"mm_spatial_pool_mode": None}, "lacks mm_spatial_pool_mode (AttributeError", True),
        ("llava", {"mm_spatial_pool_mode": "conv"}, "has mm_spatial_pool_mode 'conv' (ValueError", True),
        ("llava", {"mm_spatial_pool_stride": 4}, "mm_spatial_pool_stride 4 is not used", False),
        ("longva", {"mm_spatial_pool_mode": "bilinear"}, "has mm_spatial_pool_mode 'bilinear' (ValueError", True),
        ("longva", {"mm_spatial_pool_stride": None}, "lacks mm_spatial_pool_stride", True),
        ("longva", {"tokenizer_model_max_length": 2048}, "cuts prompts at 2048 tokens: about 14 frames", False),
    ],
)
def test_traps_in_the_config(package: str, change: dict, says: str, fatal: bool) -> None:
    config = {key: value for key, value in (GOOD[package] | change).items() if value is not None}
    path = write_json(Path(f"{package}-qwen"), config)
    (trap,) = traps(str(path), None, package)
    assert says in trap.what
    assert trap.fatal is fatal
    assert (trap.repair == "config_defaults") == ("lacks add_faster_video" in says)
    if "pool" in says:
        assert traps(str(path), None, package, pooling=True) == []


def test_the_config_s_tower_wins_over_the_flag() -> None:
    path = write_json(Path("llava-qwen"), GOOD["llava"] | {"mm_vision_tower": "/old/machine/clip"})
    found = said(traps(str(path), "openai/clip-vit-large-patch14-336", "llava"))
    assert "note: --vision_tower openai/clip-vit-large-patch14-336 is not used" in found
    assert "fatal: the script stops: unknown vision tower /old/machine/clip" in found


def test_a_local_siglip(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = "google/siglip-so400m-patch14-384"
    path = write_json(here / hub, {"model_type": "siglip"})
    monkeypatch.setenv("HF_HOME", "home")
    (trap,) = traps(None, str(path), "llava")
    assert trap.fatal
    assert "is taken for CLIP" in trap.what
    assert f"ln -s {path} home/hub/models--google--siglip-so400m-patch14-384/snapshots/local" in trap.cure
    (trap,) = traps(None, hub, "llava")
    assert f"the folder {path} hides the hub's {hub}" in trap.cure
    (trap,) = traps(None, str(path), "longva")
    assert "LongVA knows CLIP towers alone" in trap.what


def test_another_siglip_in_the_hub_s_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "models--google--siglip-base"
    write_json(folder / "snapshots" / "local", {"model_type": "siglip", "vision_config": {"hidden_size": 768}})
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("local")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    (trap,) = traps(None, "google/siglip-base", "llava")
    assert "has hidden_size 768; the script's SigLIP is fixed at hidden_size 1152" in trap.what


def test_qwen2_5_s_tokenizer() -> None:
    path = write_json(Path("llava-qwen"), GOOD["llava"])
    write_json(path, {"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]}, "tokenizer_config.json")
    assert traps(str(path), None, "llava") == []
    write_json(path, {"additional_special_tokens": list("abcdefghijklm")}, "tokenizer_config.json")
    (trap,) = traps(str(path), None, "llava")
    assert trap.repair == "special_tokens"
    assert "has 13 additional special tokens" in trap.what


def test_a_config_that_is_no_json_is_judged_by_the_name() -> None:
    path = Path("llava-qwen")
    path.mkdir()
    (path / "config.json").write_text("{")
    assert traps(str(path), None, "llava") == []
