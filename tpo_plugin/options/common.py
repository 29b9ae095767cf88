"""Options that several stages share: frames, servers, generators."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class FrameOptions:
    """How many frames a model sees: `fps` frames a second, at most `max`, spread evenly; sides over `max_side` px are reduced.

    `time_instruction` puts the duration and the frame times in words before the question, as LLaVA-Video's SFT does.
    Frames of more than `max_pixels` (height x width; None: no limit) are reduced, their shape kept. A processor that resizes by itself
    then only rounds them down or up to whole patches, and never over the limit (integrations.huggingface.video_size).
    """

    fps: float = 1.0
    max: int = 32
    max_side: int = 768
    time_instruction: bool = False
    max_pixels: int | None = None

    def plain(self) -> dict[str, Any]:
        """The options as plain values, for ids. `max_pixels` is younger than saved work and is left out where it is not set."""
        return {name: value for name, value in asdict(self).items() if name != "max_pixels" or value is not None}


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
