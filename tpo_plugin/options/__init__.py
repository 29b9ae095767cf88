"""The options of every stage as dataclasses: what a recipe may say, and what it means when it says nothing."""

from tpo_plugin.options.ablation import AblateRecipe
from tpo_plugin.options.bench import BenchRecipe
from tpo_plugin.options.common import FrameOptions, GeneratorOptions, ServerOptions
from tpo_plugin.options.curation import (
    TASK_MIX,
    CaptionOptions,
    CurateRecipe,
    FilterOptions,
    HoundOptions,
    PerturbationOptions,
    QueryOptions,
    SegmentOptions,
    VideoOptions,
)
from tpo_plugin.options.evaluation import EvaluateRecipe
from tpo_plugin.options.needle import NeedleGrid, NeedleRecipe, PromptOptions
from tpo_plugin.options.shots import ShotOptions
from tpo_plugin.options.training import (
    ChainRecipe,
    CurriculumOptions,
    LoraOptions,
    ObjectiveOptions,
    TrainRecipe,
    UpstreamRecipe,
)

__all__ = [
    "TASK_MIX",
    "AblateRecipe",
    "BenchRecipe",
    "CaptionOptions",
    "ChainRecipe",
    "CurateRecipe",
    "CurriculumOptions",
    "EvaluateRecipe",
    "FilterOptions",
    "FrameOptions",
    "GeneratorOptions",
    "HoundOptions",
    "LoraOptions",
    "NeedleGrid",
    "NeedleRecipe",
    "ObjectiveOptions",
    "PerturbationOptions",
    "PromptOptions",
    "QueryOptions",
    "SegmentOptions",
    "ServerOptions",
    "ShotOptions",
    "TrainRecipe",
    "UpstreamRecipe",
    "VideoOptions",
]
