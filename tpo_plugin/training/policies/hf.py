"""The plain Hugging Face policy: every response is scored in a full sequence of its own.

Nothing is shared between sequences and nothing is cached, so this path is the measure for faster ones. A sequence is the prompt's
ids as the model sees them when it generates, then the response's ids; it is padded on the right, where causal attention
cannot see the padding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from tpo_plugin.generators.base import Prompt
from tpo_plugin.integrations.huggingface import encode, prompt_text, response_text
from tpo_plugin.training.objective import Scores, sequence_logps

IGNORE = -100
PER_TOKEN = ("input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids")


@dataclass(frozen=True)
class EncodedPair:
    """A pair in a model's terms.

    `prompt` holds the processor's output for the video and the query (one row), `responses` the ids of chosen and
    rejected with the end of their turn (only chosen for SFT), `kind` the pair's kind.
    """

    prompt: dict[str, Tensor]
    responses: tuple[Tensor, ...]
    kind: str = ""

    @property
    def length(self) -> int:
        """Tokens of the longest sequence."""
        return int(self.prompt["input_ids"].shape[1]) + max(len(response) for response in self.responses)


def encode_pair(processor: Any, prompt: Prompt, responses: Sequence[str], kind: str = "") -> EncodedPair:
    """`prompt` with its responses (chosen, then rejected). The end of the turn belongs to the response."""
    ids = tuple(response_ids(processor, response) for response in responses)
    return EncodedPair(dict(encode(processor, [prompt])), ids, kind)


def encode_prompts(processor: Any, prompt: Prompt, texts: Sequence[str]) -> list[dict[str, Tensor]]:
    """The processor's output for `prompt`'s video and the first text, and for each further text about it its `input_ids` (1, P) alone.

    A video is processed once: its tokens stand in the other prompts where their one placeholder was.
    """
    first = dict(encode(processor, [replace(prompt, text=texts[0])]))
    if len(texts) == 1:
        return [first]
    plain = [processor.tokenizer(prompt_text(processor, text))["input_ids"] for text in texts]
    full, place = first["input_ids"][0].tolist(), plain[0].index(processor.video_token_id)
    end = len(full) - (len(plain[0]) - place - 1)
    if full[:place] + full[end:] != plain[0][:place] + plain[0][place + 1 :]:
        raise ValueError(f"{type(processor).__name__} changes more of a prompt than the video's placeholder")
    others = []
    for ids in plain[1:]:
        place = ids.index(processor.video_token_id)
        others.append({"input_ids": torch.tensor([ids[:place] + full[place:end] + ids[place + 1 :]])})
    return [first, *others]


def response_ids(processor: Any, response: str) -> Tensor:
    """Token ids (R,) of the response and the end of its turn."""
    text = response_text(processor, response)
    return torch.tensor(processor.tokenizer(text, add_special_tokens=False)["input_ids"])


def collate(pairs: Sequence[EncodedPair], pad_token_id: int) -> dict[str, Any]:
    """A batch: `groups` of pairs that one forward takes (LlavaOnevision wants equal numbers of frames), `kinds` in their order."""
    groups: dict[tuple[Any, ...], list[EncodedPair]] = {}
    for pair in pairs:
        shape = tuple((key, value.shape[1:]) for key, value in pair.prompt.items() if key not in PER_TOKEN)
        groups.setdefault(shape, []).append(pair)
    return {
        "groups": [_stack(group, pad_token_id) for group in groups.values()],
        "kinds": [pair.kind for group in groups.values() for pair in group],
    }


def _stack(pairs: Sequence[EncodedPair], pad_token_id: int) -> dict[str, Any]:
    """Model inputs and labels of n pairs: their n chosen sequences, then their n rejected ones (if any)."""
    rows = [
        (pair.prompt, response)
        for side in zip(*(pair.responses for pair in pairs))
        for pair, response in zip(pairs, side)
    ]
    fill = {"input_ids": pad_token_id}
    inputs: dict[str, Tensor] = {}
    for key in pairs[0].prompt:
        if key not in PER_TOKEN:
            inputs[key] = torch.cat([prompt[key] for prompt, _ in rows])
            continue
        extended = [torch.cat([prompt[key][0], _continued(key, response)]) for prompt, response in rows]
        inputs[key] = pad_sequence(extended, batch_first=True, padding_value=fill.get(key, 0))
    unlabelled = [torch.full_like(prompt["input_ids"][0], IGNORE) for prompt, _ in rows]
    labels = [torch.cat([before, response]) for before, (_, response) in zip(unlabelled, rows)]
    return {
        "inputs": inputs,
        "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORE),
        "pairs": len(pairs),
    }


def _continued(key: str, response: Tensor) -> Tensor:
    """What a response adds to a per-token input: its ids, ones in the attention mask, 'text' in the token types."""
    if key == "input_ids":
        return response
    return torch.ones_like(response) if key == "attention_mask" else torch.zeros_like(response)


def response_logps(model: Any, inputs: Mapping[str, Tensor], labels: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the labelled tokens from one forward over the full sequences.

    `labels` (N, L) holds IGNORE but for the response tokens. Returns log-probabilities (N, K) in float32 and their mask, K
    positions from the first labelled one of the batch on. Logits before it are never computed.
    """
    start = int((labels != IGNORE).any(dim=0).nonzero()[0])
    targets = labels[:, start:]
    mask = targets != IGNORE
    # The logits at a position score the token after it: one position earlier, and none for the last.
    logits = model(**inputs, use_cache=False, logits_to_keep=targets.shape[1] + 1).logits[:, :-1]
    scored = -F.cross_entropy(logits[mask].float(), targets[mask], reduction="none")
    return torch.zeros(mask.shape, device=mask.device).masked_scatter(mask, scored), mask


def score(model: Any, groups: Sequence[Mapping[str, Any]]) -> Scores:
    """The scores of a batch's pairs (see `collate`), one forward for each group."""
    chosen, rejected, tokens = [], [], []
    for group in groups:
        pairs = group["pairs"]
        logps, mask = response_logps(model, group["inputs"], group["labels"])
        sums = sequence_logps(logps, mask)
        chosen.append(sums[:pairs])
        rejected.append(sums[pairs:])
        tokens.append(mask[:pairs].sum(dim=1))
    other = torch.cat(rejected)
    return Scores(torch.cat(chosen), other if len(other) else None, torch.cat(tokens))
