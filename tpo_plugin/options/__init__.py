"""The options of every stage as dataclasses: what a recipe may say, and what it means when it says nothing."""

from tpo_plugin.options.bench import BenchRecipe
from tpo_plugin.options.common import FrameOptions, GeneratorOptions, ServerOptions
from tpo_plugin.options.curation import (
    TASK_MIX,
    CaptionOptions,
    CurateRecipe,
    FilterOptions,
    PerturbationOptions,
    QueryOptions,
    SegmentOptions,
    VideoOptions,
)
from tpo_plugin.options.evaluation import EvaluateRecipe
from tpo_plugin.options.training import LoraOptions, ObjectiveOptions, TrainRecipe, UpstreamRecipe

__all__ = [
    "TASK_MIX",
    "BenchRecipe",
    "CaptionOptions",
    "CurateRecipe",
    "EvaluateRecipe",
    "FilterOptions",
    "FrameOptions",
    "GeneratorOptions",
    "LoraOptions",
    "ObjectiveOptions",
    "PerturbationOptions",
    "QueryOptions",
    "SegmentOptions",
    "ServerOptions",
    "TrainRecipe",
    "UpstreamRecipe",
    "VideoOptions",
]
