"""Asks upstream's own functions which classes they choose for names. Arguments: package, training script, checkpoint, tower.

Reads {"models": [...], "towers": [...]} and writes, by name, what was chosen. Classes are replaced by ones that say that they were
chosen and load nothing; the choosing is upstream's.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

from tpo_plugin.integrations.llava_family.names import GEMMA, LANGUAGE_ONLY, LLAMA, MISTRAL, MIXTRAL, QWEN, QWEN_MOE
from tpo_plugin.integrations.llava_family.repairs import repair_imports

TOWERS = (
    *("CLIPVisionTower", "SigLipVisionTower", "HFVisionTower", "ImageBindWrapper", "OpenCLIPVisionTower"),
    "MLCDVisionTower",
)


class ChosenError(Exception):
    """Raised by a class that was chosen."""


def watch(module: ModuleType, names: tuple[str, ...]) -> None:
    """Replace those of the classes that `module` has."""
    for name in names:
        if hasattr(module, name):
            setattr(module, name, _Stub(name))


class _Stub:
    def __init__(self, name: str) -> None:
        self.name = name

    def from_pretrained(self, *args: Any, **kwargs: Any) -> Any:
        raise ChosenError(self.name)

    __call__ = from_pretrained


class _Config:
    """A config class that notes its name."""

    def __init__(self, name: str, seen: list[str]) -> None:
        self.name, self.seen = name, seen

    def from_pretrained(self, *args: Any, **kwargs: Any) -> SimpleNamespace:
        self.seen.append(self.name)
        return SimpleNamespace()


def chosen(function: Any, *args: Any) -> str | None:
    """The class that the function's call came to, `NAME (not imported)`, or None where it refuses."""
    try:
        function(*args)
    except ChosenError as error:
        return str(error)
    except NameError as error:
        return f"{error.name} (not imported)"
    except ModuleNotFoundError as error:  # LongVA's loader imports a config class of a module that LongVA has not
        return f"{str(error.name).rpartition('.')[2].title().replace('_', '')}ForCausalLM (not imported)"
    except ValueError as error:  # load_pretrained_model turns any error of its last branch into a ValueError
        return str(error.__context__) if isinstance(error.__context__, ChosenError) else None
    raise AssertionError("no class was chosen")


def main(package: str, script: str, checkpoint: str, asked: dict[str, list[str]]) -> dict[str, Any]:
    repair_imports(package)
    spec = importlib.util.spec_from_file_location("upstream_script", script)
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
    sys.modules["upstream_script"] = module
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    builder = importlib.import_module(f"{package}.model.builder")
    towers = importlib.import_module(f"{package}.model.multimodal_encoder.builder")
    seen: list[str] = []
    models = (LLAMA, MISTRAL, MIXTRAL, QWEN, QWEN_MOE, GEMMA)
    watch(module, models)
    watch(builder, (*models, LANGUAGE_ONLY))
    watch(towers, TOWERS)
    for name in ("LlavaQwenConfig", "LlavaMistralConfig", "LlavaConfig", "AutoConfig"):
        setattr(module, name, _Config(name, seen))

    def train(path: str) -> tuple[str | None, str]:
        none = ("model_class_name", "rope_scaling_factor", "rope_scaling_type", "mm_resampler_type")
        pool = ("mm_spatial_pool_stride", "mm_spatial_pool_out_channels", "mm_spatial_pool_mode")
        model_args = SimpleNamespace(model_name_or_path=path, vision_tower="a tower", **dict.fromkeys((*none, *pool)))
        training_args = SimpleNamespace(
            attn_implementation="eager", cache_dir=None, bf16=False, deepspeed="", dpo_alpha=1.0
        )
        found = chosen(module.get_model, model_args, training_args, {})
        return found, seen.pop()

    def load(path: str) -> str | None:
        name = importlib.import_module(f"{package}.mm_utils").get_model_name_from_path(path)
        return chosen(builder.load_pretrained_model, checkpoint, None, name)

    def tower(name: str) -> str | None:
        config = SimpleNamespace(mm_vision_tower=name, mm_vision_select_layer=-2)
        return chosen(towers.build_vision_tower, config)

    return {
        "trained": {path: train(path) for path in asked["models"]},
        "loaded": {path: load(path) for path in asked["models"]},
        "towers": {name: tower(name) for name in asked["towers"]},
    }


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps(main(*sys.argv[1:4], json.loads(sys.argv[4]))) + "\n")
