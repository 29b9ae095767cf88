"""The options of every stage as dataclasses: what a recipe may say, and what it means when it says nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

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


@dataclass(frozen=True)
class FrameOptions:
    """How many frames a model sees: `fps` frames a second, at most `max`, spread evenly; sides over `max_side` px are reduced.

    `time_instruction` puts the duration and the frame times in words before the question, as LLaVA-Video's SFT does.
    """

    fps: float = 1.0
    max: int = 32
    max_side: int = 768
    time_instruction: bool = False


@dataclass(frozen=True)
class ServerOptions:
    """An OpenAI-compatible server. The key is read from the environment variable `key_env`, never from a file.

    `price_in` and `price_out` (per million tokens) only serve the cost estimate in the statistics.
    """

    base_url: str = "https://api.openai.com/v1"
    model: str = "gpt-4o-mini"
    key_env: str = "OPENAI_API_KEY"
    concurrency: int = 8
    timeout: float = 120.0
    retries: int = 5
    price_in: float = 0.0
    price_out: float = 0.0


@dataclass(frozen=True)
class GeneratorOptions:
    """Who looks at frames and writes text: `hf` or `llava` (in process, `model` is a checkpoint) or `server` (its `server` section).

    `llava` takes a checkpoint of LLaVA-Video or LongVA and upstream's own model class from `upstream`, a checkout of LLaVA-NeXT or
    LongVA; `conv_template` names the conversation template there.
    """

    type: Literal["hf", "llava", "server"] = "hf"
    model: str = ""
    upstream: str = ""
    conv_template: str = "qwen_1_5"
    server: ServerOptions = field(default_factory=ServerOptions)
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"
    attn_implementation: str = "sdpa"
    batch_size: int = 4
    max_new_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0


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
    """Captions for the query writer: `frames_per_call` frames go into one caption (1: every frame has its own)."""

    generator: GeneratorOptions = field(default_factory=lambda: GeneratorOptions(type="server"))
    frames_per_call: int = 1


@dataclass(frozen=True)
class QueryOptions:
    """Where queries come from: written by `llm` from the captions, or taken from a QA set (`source: qa`, LLaVA-Video-178K form).

    `ratio` is localized : comprehensive; `task_mix` the share of each task type.
    """

    source: Literal["llm", "qa"] = "llm"
    per_video: int = 4
    ratio: dict[str, float] = field(default_factory=lambda: {"localized": 5, "comprehensive": 5})
    task_mix: dict[str, float] = field(default_factory=lambda: dict(TASK_MIX))
    qa: str | None = None


@dataclass(frozen=True)
class PerturbationOptions:
    """The rejected side's input: `localized` and `comprehensive` name a strategy (built in, or `package.module:function`).

    For `drop`: the video is cut into `drop_parts` equal parts, of which a share of `drop_share` is dropped at even distances.
    """

    localized: str = "cut_segment"
    comprehensive: str = "drop"
    drop_parts: int = 8
    drop_share: float = 0.5


@dataclass(frozen=True)
class FilterOptions:
    """The filters in their order: built in (`identical`, `length`, `judge`), or `package.module:function`."""

    use: tuple[str, ...] = ("identical", "length", "judge")
    max_characters: int = 4000


@dataclass(frozen=True)
class CurateRecipe:
    """`tpo curate`: videos to preference pairs."""

    output: str
    videos: VideoOptions
    seed: int = 0
    frames: FrameOptions = field(default_factory=FrameOptions)
    segments: SegmentOptions = field(default_factory=SegmentOptions)
    captions: CaptionOptions = field(default_factory=CaptionOptions)
    queries: QueryOptions = field(default_factory=QueryOptions)
    responses: GeneratorOptions = field(default_factory=GeneratorOptions)
    perturbations: PerturbationOptions = field(default_factory=PerturbationOptions)
    filters: FilterOptions = field(default_factory=FilterOptions)
    llm: ServerOptions = field(default_factory=ServerOptions)
    videos_in_flight: int = 4
    max_pairs: int | None = None


@dataclass(frozen=True)
class ObjectiveOptions:
    """Loss = dpo_alpha * L_DPO(beta) + gamma * L_SFT(chosen) (TPO paper, Eq. 3-5; gamma is the paper's alpha)."""

    beta: float = 0.3
    dpo_alpha: float = 1.0
    gamma: float = 0.5


@dataclass(frozen=True)
class LoraOptions:
    """Adapters on the language model's linear layers."""

    r: int = 64
    alpha: int = 128
    dropout: float = 0.0
    target_modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class TrainRecipe:
    """`tpo train`: preference pairs to a trained checkpoint.

    `data` is a curation output folder or an exported LLaVA DPO JSON; `video_root` the folder its video paths start from.
    `trainable` names the parts that learn: `projector`, `language_model` (with `lora`: its adapters), `vision_tower`.
    `path`: `fast` scores a video's prompts and responses in one token tree and takes the reference's log-probabilities from disk;
    `plain`, the measure for it, scores each response in a sequence of its own with a reference model in memory. On the fast path the
    language model attends with SDPA, or FlashAttention where it is installed, and `attn_implementation` is the vision tower's.
    `pairs_per_video`: so many pairs of a video come together, in batches of a multiple of it; L_SFT is then the mean over pairs of their
    tokens' means, as with batches of one pair, so that no gradient changes.
    `reference`: the folder of the reference log-probabilities, for runs that share them (default: `output`).
    `arguments` are trl's DPOConfig / transformers' TrainingArguments fields.
    """

    model: str
    data: str
    output: str
    video_root: str | None = None
    seed: int = 0
    objective: ObjectiveOptions = field(default_factory=ObjectiveOptions)
    frames: FrameOptions = field(default_factory=FrameOptions)
    trainable: tuple[str, ...] = ("projector", "language_model")
    lora: LoraOptions | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    attn_implementation: str = "sdpa"
    max_length: int | None = None
    max_pairs: int | None = None
    path: Literal["fast", "plain"] = "fast"
    pairs_per_video: int = 1
    reference: str | None = None
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class UpstreamRecipe:
    """`tpo train` with the DPO script of a LLaVA-NeXT or LongVA checkout at `upstream`.

    `flags` are the script's own, those of `--tpo` among them (`tpo: true` is understood); null leaves one out, and a `deepspeed` file is
    also looked up in the checkout. `processes` is the number of GPUs.
    """

    upstream: str
    flags: dict[str, Any]
    processes: int = 1


@dataclass(frozen=True)
class EvaluateRecipe:
    """`tpo evaluate`: checkpoints on lmms-eval tasks.

    `models` maps a label to a checkpoint. `data` is the folder with the benchmarks' local data (None: lmms-eval's own way).
    `expect` maps a task to its number of questions; a result with fewer is an error (default: as many as the data has).
    `wrapper` is lmms-eval's model: ours, or another with its own `wrapper_args`, which then replace `frames`, `dtype` and
    `attn_implementation`: `llava_vid` and `longva` run in an environment for LLaVA-NeXT, with the checkout in `upstream`.
    """

    models: dict[str, str]
    output: str
    tasks: tuple[str, ...] = ("videomme", "mlvu_dev")
    data: str | None = None
    seed: int = 0
    frames: FrameOptions = field(default_factory=FrameOptions)
    batch_size: int = 1
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    device: str = "auto"
    attn_implementation: str = "sdpa"
    expect: dict[str, int] = field(default_factory=dict)
    wrapper: str = "tpo_hf"
    wrapper_args: dict[str, Any] = field(default_factory=dict)
    upstream: str | None = None


@dataclass(frozen=True)
class BenchRecipe:
    """`tpo bench`: what a pair costs on each of the `paths`, with random weights of a `size` and one video of `frames` frames.

    `7b` is counted only, `7b-random` measured on a GPU. Rounds of all paths are repeated `repeats` times, or until `minutes` are over.
    `checkpointing` recomputes activations in the backward pass. `sweep` counts operations over frames and pairs a video as well.
    `upstream` is a checkout of LLaVA-NeXT or LongVA: its DPO script then runs with its own trainer, with `--tpo --tpo_path plain` and with
    `--tpo_path fast`; without, the `upstream` path is the same scheme on Hugging Face modules.
    """

    output: str
    size: Literal["tiny", "small", "7b", "7b-random"] = "small"
    frames: int = 16
    pairs_per_video: int = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    paths: tuple[str, ...] = ("upstream", "plain", "fast")
    repeats: int = 3
    minutes: float = 4.0
    seed: int = 0
    checkpointing: bool = False
    sweep: bool = True
    upstream: str | None = None
