"""What upstream makes of names. tests/upstream/test_doctor.py runs the same names through upstream."""

from __future__ import annotations

from pathlib import Path

import pytest

from tpo_plugin.integrations.llava_family.names import (
    CLIP,
    GEMMA,
    LANGUAGE_ONLY,
    LLAMA,
    MISTRAL,
    MIXTRAL,
    QWEN,
    QWEN_MOE,
    SIGLIP,
    evaluation_class,
    tower_class,
    training_class,
    training_config,
)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, empty. Paths in these tests are relative to it: a user called `yi` has his name in the whole path."""
    monkeypatch.chdir(tmp_path)
    return Path.cwd()


@pytest.mark.parametrize(
    ("path", "llava", "longva"),
    [
        ("lmms-lab/LLaVA-Video-7B-Qwen2", QWEN, QWEN),
        ("lmms-lab/LongVA-7B", None, QWEN),
        ("/data/Quyen-SE", QWEN, QWEN),
        ("/data/copying/llava-qwen", LLAMA, LLAMA),  # copYIng
        ("/home/yi/llava-qwen", LLAMA, LLAMA),
        ("/data/llama/longva-qwen", LLAMA, LLAMA),
        ("/data/mistral/llava-vicuna", MISTRAL, MISTRAL),
        ("/data/zephyr", MISTRAL, MISTRAL),
        ("/data/mixtral-vicuna", MIXTRAL, MIXTRAL),
        ("/home/moe/llava-qwen", QWEN_MOE, QWEN_MOE),
        ("/data/Nous-Hermes-2", None, None),
        ("/data/nous-hermes-wizard-2", LLAMA, LLAMA),
        ("/data/gemma-qwen", QWEN, QWEN),
        ("/data/gemma", GEMMA, GEMMA),
        ("/data/llava-video-7b", None, None),
    ],
)
def test_the_class_to_train(path: str, llava: str | None, longva: str | None) -> None:
    assert (training_class(path, "llava"), training_class(path, "longva")) == (llava, longva)


@pytest.mark.parametrize(
    ("path", "llava", "longva"),
    [
        ("/home/yi/llava-qwen", QWEN, QWEN),  # the folder's own name counts
        ("/data/llava-qwen/", QWEN, QWEN),
        ("/data/LongVA-7B", LANGUAGE_ONLY, LLAMA),
        ("/data/longva-qwen", LANGUAGE_ONLY, QWEN),
        ("/runs/qwen-tpo", LANGUAGE_ONLY, LANGUAGE_ONLY),
        ("/runs/llava-qwen/checkpoint-8", QWEN, QWEN),
        ("/runs/llava-tpo/checkpoint-8", LLAMA, LLAMA),
        ("/runs/llava-copying-qwen", LLAMA, LLAMA),
        ("/runs/llava-v1.5-qwen", LLAMA, LLAMA),
        ("/runs/llava-qwen-moe", QWEN_MOE, QWEN),
        ("/runs/llava-mixtral", MIXTRAL, MIXTRAL),
        ("/runs/llava-zephyr", MISTRAL, MISTRAL),
        ("/runs/llava-gemma", GEMMA, GEMMA),
    ],
)
def test_the_class_that_the_loader_picks(path: str, llava: str, longva: str) -> None:
    assert (evaluation_class(path, "llava"), evaluation_class(path, "longva")) == (llava, longva)


def test_the_config_s_order_is_another() -> None:
    assert training_config("/data/mistral-qwen") == "LlavaQwenConfig"
    assert training_class("/data/mistral-qwen", "llava") == MISTRAL
    assert [
        training_config(path) for path in ("a/zephyr", "home/yi", "nous-hermes-wizard-2", "nous-hermes", "quyen")
    ] == [
        "LlavaMistralConfig",
        "LlavaConfig",
        "LlavaConfig",
        "AutoConfig",
        "AutoConfig",
    ]


def test_what_exists_on_the_disk_is_clip(here: Path) -> None:
    hub = "google/siglip-so400m-patch14-384"
    assert tower_class(hub, "llava") == SIGLIP
    (here / hub).mkdir(parents=True)
    assert tower_class(str(here / hub), "llava") == CLIP
    assert tower_class(hub, "llava") == CLIP


@pytest.mark.parametrize(
    ("tower", "llava", "longva"),
    [
        ("openai/clip-vit-large-patch14-336", CLIP, CLIP),
        ("laion/x", CLIP, CLIP),
        ("Lin-Chen/ShareGPT4V-7B", CLIP, CLIP),
        ("google/SigLIP-so400m", None, None),  # upper case
        ("hf:a/b", "HFVisionTower", None),
        ("imagebind_huge", "ImageBindWrapper", None),
        ("open_clip_hub:a", "OpenCLIPVisionTower", None),
        ("DeepGlint-AI/mlcd-vit-bigG-patch14-336", "MLCDVisionTower", None),
        ("/nowhere/clip", None, None),
    ],
)
def test_the_tower_by_its_name(tower: str, llava: str | None, longva: str | None) -> None:
    assert (tower_class(tower, "llava"), tower_class(tower, "longva")) == (llava, longva)
