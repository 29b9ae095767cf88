"""Hugging Face video LMMs: loading a checkpoint and turning clips with text into its inputs.

Tried families: LlavaOnevision (LLaVA-Video / OneVision ports), Qwen2-VL, Qwen2.5-VL. Generation, training and evaluation all
encode here, so they give a model the same tokens for the same frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor
from transformers.video_utils import VideoMetadata

from tpo_plugin.errors import TPOError
from tpo_plugin.folders import adapter_base, check_local
from tpo_plugin.generators.base import Prompt
from tpo_plugin.integrations.devices import pick_device

ANSWER = "(the answer)"  # stands for an answer where only the chat template around it is wanted


def load_processor(checkpoint: str) -> Any:
    """The checkpoint's processor, padding on the left; TPOError if there is none."""
    check_local(checkpoint)
    try:
        processor = AutoProcessor.from_pretrained(checkpoint)
    except (OSError, ValueError) as error:
        raise TPOError(f"cannot load a processor from {checkpoint}: {error}") from None
    if not hasattr(processor, "video_processor"):
        raise TPOError(f"{checkpoint} is not a video model: its processor {type(processor).__name__} takes no videos")
    processor.tokenizer.padding_side = "left"
    return processor


def load_model(
    checkpoint: str,
    dtype: str = "auto",
    device: str = "auto",
    attn_implementation: str = "sdpa",
    base: str | None = None,
) -> Any:
    """The checkpoint's model in evaluation mode, with its adapter if the folder holds one; `base` is what that belongs on
    (default: what it names itself)."""
    check_local(checkpoint)
    adapter = adapter_base(checkpoint)
    base = base or adapter or checkpoint
    check_local(base)
    try:
        model: Any = AutoModelForImageTextToText.from_pretrained(
            base, dtype=dtype, attn_implementation=attn_implementation
        )
    except (OSError, ValueError) as error:
        raise TPOError(f"cannot load a video model from {base}: {error}") from None
    if adapter is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, checkpoint)
    return model.to(pick_device(device)).eval()


def prompt_text(processor: Any, text: str, video: bool = True) -> str:
    """The chat prompt for one video (or none) and `text`, up to where the answer begins."""
    shown = [{"type": "video"}] if video else []
    message = {"role": "user", "content": [*shown, {"type": "text", "text": text}]}
    rendered: str = processor.apply_chat_template([message], add_generation_prompt=True, tokenize=False)
    return rendered


def response_text(processor: Any, response: str) -> str:
    """The response and what the chat template ends an answer's turn with: what a model is to write after `prompt_text`.

    What the template puts before an answer is left out: LLaVA-OneVision's has a space there that its prompt has not.
    """
    messages = [
        {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": "?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": ANSWER}]},
    ]
    whole: str = processor.apply_chat_template(messages, tokenize=False)
    _, found, end = whole.partition(ANSWER)
    if not found:
        raise TPOError("the model's chat template leaves out what the assistant says; its answers cannot be scored")
    return response + end.rstrip("\n")


def encode(processor: Any, prompts: Sequence[Prompt]) -> Any:
    """Model inputs of a batch of prompts, padded on the left. All must have frames of one shape (see generators.in_process.in_batches);
    with no frames at all, words alone go in."""
    if not len(prompts[0].frames):
        texts = [prompt_text(processor, prompt.text, video=False) for prompt in prompts]
        return processor(text=texts, padding=True, return_tensors="pt")
    metadata = [
        VideoMetadata(
            total_num_frames=len(prompt.frames),
            fps=len(prompt.frames) / prompt.seconds,
            duration=prompt.seconds,
            frames_indices=list(range(len(prompt.frames))),
        )
        for prompt in prompts
    ]
    return processor(
        text=[prompt_text(processor, prompt.text) for prompt in prompts],
        videos=[prompt.frames for prompt in prompts],
        video_metadata=metadata,
        do_sample_frames=False,
        padding=True,
        return_tensors="pt",
        **video_size(processor, prompts[0].max_pixels),
    )


def video_size(processor: Any, max_pixels: int | None) -> dict[str, Any]:
    """Arguments by which a processor shows frames of at most `max_pixels` as they are; none without a limit or where it has one size.

    TPOError with a limit for a family whose processor resizes in a way of its own.

    Qwen2-VL's and Qwen2.5-VL's rounds both sides to multiples of patch x merge (28), then enlarges what is under `shortest_edge` pixels
    and reduces what is over `longest_edge`. Their published checkpoints have 3,136 and 12,845,056: frames of 90,000 pixels are left, but
    300 x 300 becomes 308 x 308. The class's own defaults, which a processor made anew has, are 100,352 and 602,112: every frame of 90,000
    pixels is enlarged (225 x 400 to 252 x 448, 112,896 pixels). By its limit for whole videos, which is off unless `cap_pixels_per_frame`
    is set, 100 frames may have 1,806,336 pixels each; frames of 90,000 are reduced where there are more than 2,007 of them.
    So with a limit: nothing is enlarged, no limit but this one, and rounding never goes over it. 90,000 pixels are at most 114 tokens for
    two frames (16:9: 112), so 100 frames at most 5,700 (5,600).
    """
    video = processor.video_processor
    if max_pixels is None or not hasattr(video, "merge_size"):
        return {}
    if not isinstance(video, Qwen2VLVideoProcessor):
        raise TPOError(
            f"a limit of pixels is made for Qwen2-VL and Qwen2.5-VL; this checkpoint's {type(video).__name__} resizes frames "
            "in its own way: leave out `frames.max_pixels`"
        )
    token = (video.patch_size * video.merge_size) ** 2
    arguments: dict[str, Any] = {"size": {"shortest_edge": token, "longest_edge": max_pixels}}
    if hasattr(video, "cap_pixels_per_frame"):  # transformers 5.13 has brought it
        arguments["cap_pixels_per_frame"] = False
    return {"videos_kwargs": arguments}


@torch.inference_mode()
def write(model: Any, processor: Any, prompts: Sequence[Prompt], settings: Mapping[str, Any]) -> list[tuple[str, bool]]:
    """What the model writes after each prompt of a batch, and whether it came to its end there (or ran out of tokens).

    `settings` are arguments of transformers' `generate`.
    """
    # Pixels alone are cast: the times of Qwen2.5-VL (`second_per_grid_ts`) become positions, and bfloat16 counts only to 256.
    inputs = encode(processor, prompts).to(model.device)
    inputs.update({name: value.to(model.dtype) for name, value in inputs.items() if name.startswith("pixel_values")})
    written = model.generate(**inputs, **settings)[:, inputs["input_ids"].shape[1] :]
    ends = model.generation_config.eos_token_id  # one id, several, or none
    ended = torch.isin(written, written.new_tensor([] if ends is None else ends)).any(dim=1)
    return list(zip(processor.batch_decode(written, skip_special_tokens=True), ended.tolist()))
