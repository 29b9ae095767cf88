"""What a LLaVA-NeXT or LongVA model writes about clips: upstream's prompt, its frames in place, batches padded on the left."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from tpo_plugin.errors import TPOError
from tpo_plugin.generators.base import Prompt
from tpo_plugin.integrations.llava_family.model import Loaded


def encode(loaded: Loaded, prompts: Sequence[Prompt], template: str) -> dict[str, torch.Tensor]:
    """`inputs_embeds` (B, L, hidden) with the frames in place and `attention_mask` (B, L), padded on the left.

    `template` names a conversation template of upstream. All prompts have frames, or none has. TPOError for an unknown template and for a
    prompt over the model's context.
    """
    most = max(len(prompt.frames) for prompt in prompts)
    rows = [token_ids(loaded, chat_text(loaded, prompt.text, template, video=most > 0)) for prompt in prompts]
    images = [pixels(loaded, prompt.frames) for prompt in prompts if most]
    inputs = embed(loaded, rows, images) if most else embed_words(loaded, rows)
    # Upstream cuts what is longer than this, and so the end of the question.
    config = loaded.model.config
    limit = getattr(config, "tokenizer_model_max_length", None) or config.max_position_embeddings
    if inputs["inputs_embeds"].shape[1] >= limit:
        cure = f"with {most} frames fills the model's context of {limit} tokens: lower `frames.max`"
        raise TPOError(
            f"a prompt {cure if most else f'of words alone is over the {limit} tokens of the model: shorten its parts'}"
        )
    return inputs


def embed_words(loaded: Loaded, rows: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    """As `embed`, for rows without a placeholder: upstream's model takes them without its vision part."""
    flipped = torch.nn.utils.rnn.pad_sequence([row.flip(0) for row in rows], batch_first=True)
    lengths = torch.tensor([len(row) for row in rows])
    ids, mask = flipped.flip(1), (torch.arange(flipped.shape[1]) < lengths[:, None]).long().flip(1)
    embeds = loaded.model.get_input_embeddings()(ids.to(loaded.model.device))
    return {"inputs_embeds": embeds, "attention_mask": mask.to(loaded.model.device)}


def embed(loaded: Loaded, rows: Sequence[torch.Tensor], images: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
    """`inputs_embeds` and `attention_mask` of rows of token ids (L,), each with one placeholder for its frames (T, 3, side, side).

    Upstream cuts rows at the config's `tokenizer_model_max_length`.
    """
    model = loaded.model
    ids = torch.nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
    lengths = torch.tensor([len(row) for row in rows])
    mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
    _, _, mask, _, embeds, _ = model.prepare_inputs_labels_for_multimodal(
        ids.to(model.device), None, mask.to(model.device), None, None, list(images), ["video"] * len(rows)
    )
    return {"inputs_embeds": embeds, "attention_mask": mask}


@torch.inference_mode()
def generate(
    loaded: Loaded, prompts: Sequence[Prompt], template: str, settings: Mapping[str, Any]
) -> tuple[torch.Tensor, list[bool]]:
    """The new token ids (B, T) after each prompt of a batch, and whether each row came to its end; see `generate_from`."""
    return generate_from(loaded, encode(loaded, prompts, template), template, settings)


@torch.inference_mode()
def generate_from(
    loaded: Loaded, inputs: Mapping[str, torch.Tensor], template: str, settings: Mapping[str, Any]
) -> tuple[torch.Tensor, list[bool]]:
    """The new token ids (B, T) after the inputs that `embed` made, and whether each row came to its end.

    `settings` are arguments of transformers' `generate`. A reply ends where the generation config says, or the template's turn.
    """
    model, tokenizer = loaded.model, loaded.tokenizer
    ends = model.generation_config.eos_token_id
    ends = [] if ends is None else [ends] if isinstance(ends, int) else ends
    stop_ids = sorted({*ends, *_turn_end(loaded, template)})
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else max(stop_ids, default=0)
    with _last_logits_only(model):
        # The generate of the class above upstream's, which takes embeddings: upstream's own makes the same ones and calls it.
        written = super(type(model), model).generate(
            **inputs, eos_token_id=stop_ids or None, pad_token_id=pad, use_cache=True, **settings
        )
    return written, torch.isin(written, written.new_tensor(stop_ids)).any(dim=1).tolist()


def write(
    loaded: Loaded, prompts: Sequence[Prompt], template: str, settings: Mapping[str, Any]
) -> list[tuple[str, bool]]:
    """What the model writes after each prompt of a batch, and whether it came to its end there (or ran out of tokens)."""
    written, ended = generate(loaded, prompts, template, settings)
    return list(zip(loaded.tokenizer.batch_decode(written, skip_special_tokens=True), ended))


def _conversation(loaded: Loaded, template: str) -> Any:
    known = importlib.import_module(f"{loaded.package}.conversation").conv_templates
    if template not in known:
        raise TPOError(f"upstream has no conversation template `{template}`; it has {', '.join(sorted(known))}")
    return known[template].copy()


def _turn_end(loaded: Loaded, template: str) -> list[int]:
    """The token that ends a turn in the template, if it is one of its own (and not, say, a line end)."""
    ids = loaded.tokenizer(_conversation(loaded, template).sep).input_ids
    return ids if len(ids) == 1 and ids[0] in loaded.tokenizer.all_special_ids else []


def placeholder(loaded: Loaded) -> str:
    """What stands in a text where the frames come."""
    text: str = importlib.import_module(f"{loaded.package}.constants").DEFAULT_IMAGE_TOKEN
    return text


def chat_text(loaded: Loaded, text: str, template: str, video: bool = True) -> str:
    """The conversation about one video (or none) up to where the answer begins, with the placeholder for its frames."""
    image = placeholder(loaded)
    conversation = _conversation(loaded, template)
    # A second placeholder would take the next prompt's frames.
    said = text.replace(image, "")
    conversation.append_message(conversation.roles[0], f"{image}\n{said}" if video else said)
    conversation.append_message(conversation.roles[1], None)
    whole: str = conversation.get_prompt()
    return whole


def token_ids(loaded: Loaded, text: str) -> torch.Tensor:
    """Ids (L,) of a text with upstream's id for the placeholder."""
    index = importlib.import_module(f"{loaded.package}.constants").IMAGE_TOKEN_INDEX
    tokenize = importlib.import_module(f"{loaded.package}.mm_utils").tokenizer_image_token
    ids: torch.Tensor = tokenize(text, loaded.tokenizer, index, return_tensors="pt")
    return ids


def pixels(loaded: Loaded, frames: np.ndarray) -> torch.Tensor:
    """Frames uint8 (T, H, W, 3) as the vision tower wants them: (T, 3, side, side)."""
    processor = loaded.model.get_vision_tower().image_processor
    values: torch.Tensor = processor.preprocess(list(frames), return_tensors="pt")["pixel_values"]
    return values.to(loaded.model.device, loaded.model.dtype)


@contextmanager
def _last_logits_only(model: Any) -> Iterator[None]:
    """Keep the head from computing logits at every frame's position, which upstream's forward has no argument for.

    They are never read, and at 32 frames of LLaVA-Video they take over 3 GB a prompt in float32.
    """
    hook = model.lm_head.register_forward_pre_hook(lambda module, inputs: (inputs[0][:, -1:],))
    try:
        yield
    finally:
        hook.remove()
