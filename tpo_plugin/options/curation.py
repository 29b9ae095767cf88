"""The options of `tpo curate`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from tpo_plugin.options.common import FrameOptions, GeneratorOptions, ServerOptions
from tpo_plugin.options.shots import ShotOptions

# TPO paper, Fig. 5: share of each task type in the 10k pairs, in percent.
TASK_MIX = {
    "temporal_reasoning": 8.7,
    "action": 12.4,
    "causal": 11.1,
    "information_extraction": 18.0,
    "descriptive": 12.8,
    "summarization": 7.5,
    "object": 14.9,
    "spatial": 13.5,
}

# What `filters.use: [default]` means, by the method; `temporal`'s goes for those that are not named.
FILTERS = {
    "temporal": ("identical", "length", "judge"),
    "temple": ("identical", "length", "drop_length", "order_length", "contained"),
}


@dataclass(frozen=True)
class VideoOptions:
    """The videos: a folder (searched recursively), a `.txt` list, or a JSON / JSONL in LLaVA-Video-178K's form.

    `root` is the folder that relative paths in lists start from (default: the folder, or the list's own).
    """

    source: str
    root: str | None = None
    limit: int | None = None
    decode_timeout: float = 120.0


@dataclass(frozen=True)
class SegmentOptions:
    """`per_video` random segments of `min_seconds` to `max_seconds`, at most `max_share` of the video."""

    per_video: int = 2
    min_seconds: float = 5.0
    max_seconds: float = 30.0
    max_share: float = 0.5


@dataclass(frozen=True)
class CaptionOptions:
    """Captions for the query writer: `frames_per_call` frames go into one caption (1: every frame has its own).

    With `method: temple` a caption is of one shot, from its keyframes and those of the shot before.
    """

    generator: GeneratorOptions = field(default_factory=lambda: GeneratorOptions(type="server"))
    frames_per_call: int = 1


@dataclass(frozen=True)
class QueryOptions:
    """Where queries come from: written by `llm` from the captions, taken from a QA set (`source: qa`, LLaVA-Video-178K form), or, with
    their captions, from the candidates of an earlier curation of the same videos (`source: curated`, its folder in `curated`).

    `ratio` is localized : comprehensive; `task_mix` the share of each task type.
    """

    source: Literal["llm", "qa", "curated"] = "llm"
    per_video: int = 4
    ratio: dict[str, float] = field(default_factory=lambda: {"localized": 5, "comprehensive": 5})
    task_mix: dict[str, float] = field(default_factory=lambda: dict(TASK_MIX))
    qa: str | None = None
    curated: str | None = None


@dataclass(frozen=True)
class PerturbationOptions:
    """The rejected side's input: `localized` and `comprehensive` name a strategy (built in, or `package.module:function`).

    For `drop`: the video is cut into `drop_parts` equal parts, of which a share of `drop_share` is dropped at even distances.
    For `method: temple`: each of `lists` (`drop`, `drop_similar`, `drop_group`, `shuffle`, `reverse`, or `package.module:function`) at each
    difficulty of `levels` perturbs a video's list of shots; a large level changes much, so that the pair is easy, a small one little.
    """

    localized: str = "cut_segment"
    comprehensive: str = "drop"
    drop_parts: int = 8
    drop_share: float = 0.5
    lists: tuple[str, ...] = ("drop", "shuffle", "reverse")
    levels: tuple[int, ...] = (16, 8, 4, 2)


@dataclass(frozen=True)
class HoundOptions:
    """For `method: hound`: `candidates` answers are sampled at `temperature` and `top_p`, and scored from 1 to 5.

    Chosen is one of the best, which must reach `min_chosen`; rejected one of the worst, at most `max_rejected` and at least `margin` lower.
    """

    candidates: int = 5
    temperature: float = 0.7
    top_p: float = 0.9
    min_chosen: int = 4
    max_rejected: int = 3
    margin: int = 2


@dataclass(frozen=True)
class FilterOptions:
    """The filters in their order: built in (`identical`, `length`, `judge`, `contained`), or `package.module:function`; `default` stands
    for the method's own (`FILTERS`): for `temple` the paper's, which need no `llm`, for the others `identical`, `length` and `judge`.

    For `method: temple` also `drop_length` (without some shots the description must be shorter) and `order_length` (in another order it must
    be at most `max_length_ratio` times as long or as short).
    """

    use: tuple[str, ...] = ("default",)
    max_characters: int = 4000
    max_length_ratio: float = 1.5


@dataclass(frozen=True)
class CurateRecipe:
    """`tpo curate`: videos to preference pairs.

    `method` says where the two responses come from: `temporal` (the segment, or all frames, against a perturbed video), `hound` (sampled
    from the whole video, scored by `llm` from captions alone), `llm` (written by `llm` from captions; no rejected one, for SFT), `temple`
    (the video is cut into `shots`; `captions.generator` describes each, `responses` sums them up: in their true order, and perturbed).
    """

    output: str
    videos: VideoOptions
    method: Literal["temporal", "hound", "llm", "temple"] = "temporal"
    seed: int = 0
    frames: FrameOptions = field(default_factory=FrameOptions)
    segments: SegmentOptions = field(default_factory=SegmentOptions)
    shots: ShotOptions = field(default_factory=ShotOptions)
    captions: CaptionOptions = field(default_factory=CaptionOptions)
    queries: QueryOptions = field(default_factory=QueryOptions)
    responses: GeneratorOptions = field(default_factory=GeneratorOptions)
    perturbations: PerturbationOptions = field(default_factory=PerturbationOptions)
    hound: HoundOptions = field(default_factory=HoundOptions)
    filters: FilterOptions = field(default_factory=FilterOptions)
    llm: ServerOptions = field(default_factory=ServerOptions)
    videos_in_flight: int = 4
    max_pairs: int | None = None

    def __post_init__(self) -> None:
        """Name the filters that `default` stands for, so that the saved recipe and all that is made of it say them."""
        own = FILTERS.get(self.method, FILTERS["temporal"])
        use = [name for entry in self.filters.use for name in (own if entry == "default" else (entry,))]
        object.__setattr__(self, "filters", replace(self.filters, use=tuple(use)))
