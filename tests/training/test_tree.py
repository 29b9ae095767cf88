"""The fast path against the plain one: the same loss and gradients, for every family, in every shape of tree."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tpo_plugin.generators.base import Prompt
from tpo_plugin.training.attention import NAME, tree_mask
from tpo_plugin.training.policies.hf import collate, encode_pair, response_logps
from tpo_plugin.training.policies.hf_tree import HFFamily, collate_trees
from tpo_plugin.training.policies.tree import head_logps, install

QUESTIONS = ("What shape is shown?", "What shape is shown last?", "Which way does it move when the background is red?")
ANSWERS = ("circle", "a square moves left, then a star", "two", "star on red, ring on blue, star", "up")


def drawn(processor: Any, videos: int, pairs: int) -> tuple[list[Any], list[int]]:
    """`pairs` encoded pairs on `videos` videos of different lengths, and each pair's video."""
    rng = np.random.default_rng(videos * 10 + pairs)
    clips = [rng.integers(0, 255, (4 + 2 * index, 32, 32, 3), dtype=np.uint8) for index in range(videos)]
    encoded, places = [], []
    for index in range(pairs):
        clip = clips[index % videos]
        prompt = Prompt(clip, tuple(range(len(clip))), 2.0 * len(clip), QUESTIONS[index % 3])
        encoded.append(encode_pair(processor, prompt, (ANSWERS[index % 5], ANSWERS[(index + 1) % 5])))
        places.append(index % videos)
    return encoded, places


def plain(model: Any, processor: Any, pairs: list[Any]) -> torch.Tensor:
    """(2, pairs): the log-probability of each pair's chosen and rejected response, each in a sequence of its own."""
    rows = []
    for pair in pairs:
        [group] = collate([pair], processor.tokenizer.pad_token_id)["groups"]
        logps, mask = response_logps(model, group["inputs"], group["labels"])
        rows.append((logps * mask).sum(dim=1))
    return torch.stack(rows, dim=1)


def fast(model: Any, pairs: list[Any], places: list[int]) -> torch.Tensor:
    """As `plain`, from the trees of all pairs; columns in the pairs' order."""
    tree = collate_trees(pairs, places)["tree"]
    logps = model(tree=tree)
    sums = tree.packed.members.float() @ logps
    order = sorted(range(len(pairs)), key=lambda index: places.index(places[index]))
    return sums.view(-1, 2).T[:, torch.tensor(order).argsort()]


def assert_same_gradients(one: Any, other: Any) -> None:
    """To 1e-5 of a tensor's largest entry where that exceeds 1e-6 of the global norm, and to 1e-5 of the global norm over all."""
    pairs = [
        (first.grad, second.grad)
        for first, second in zip(one.parameters(), other.parameters(), strict=True)
        if first.grad is not None
    ]
    assert pairs
    assert all(second is not None for _, second in pairs)
    norm = torch.stack([first.norm() for first, _ in pairs]).norm()
    for first, second in pairs:
        if first.abs().max() > 1e-6 * norm:
            assert (first - second).abs().max() <= 1e-5 * first.abs().max()
    assert torch.stack([(first - second).norm() for first, second in pairs]).norm() <= 1e-5 * norm


def copies(model: Any) -> tuple[Any, Any]:
    """A plain model and one with trees, equal weights."""
    one, other = copy.deepcopy(model).train(), copy.deepcopy(model).train()
    install(other, HFFamily())
    return one, other


@pytest.mark.parametrize(("videos", "pairs"), [(1, 1), (1, 4), (1, 8), (2, 2), (3, 5)])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_loss_and_gradients_equal_the_plain_path(family: Any, videos: int, pairs: int, checkpointing: bool) -> None:
    model, processor = family
    one, other = copies(model)
    if checkpointing:
        other.gradient_checkpointing_enable({"use_reentrant": False})
    encoded, places = drawn(processor, videos, pairs)
    expected, found = plain(one, processor, encoded), fast(other, encoded, places)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for logps in (expected, found):
        margins = 0.3 * (logps[0] - logps[1])
        (-torch.nn.functional.logsigmoid(margins).mean() - 0.1 * logps[0].mean()).backward()
    assert_same_gradients(one, other)


def test_twelve_rejected_with_one_chosen_equal_the_plain_path(family: Any) -> None:
    """TEMPLE's data: every pair of a video has the same prompt and chosen response, which are in the tree once."""
    model, processor = family
    one, other = copies(model)
    clip = np.random.default_rng(0).integers(0, 255, (6, 32, 32, 3), dtype=np.uint8)
    prompt, chosen = Prompt(clip, tuple(range(6)), 12.0, QUESTIONS[0]), ANSWERS[1]
    lists = [" ".join(chosen.split()[number % 7 :] + ["star"] * (number // 7 + 1)) for number in range(12)]
    encoded = [encode_pair(processor, prompt, (chosen, rejected)) for rejected in lists]
    packed = collate_trees(encoded, [0] * 12)["tree"].packed
    first = encoded[0]
    lengths = [
        len(first.prompt["input_ids"][0]),
        len(first.responses[0]),
        *(len(pair.responses[1]) for pair in encoded),
    ]
    assert len(packed.ids) <= sum(lengths)
    expected, found = plain(one, processor, encoded), fast(other, encoded, [0] * 12)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    losses = []
    for logps in (expected, found):
        margins = 0.3 * (logps[0] - logps[1])
        losses.append(-torch.nn.functional.logsigmoid(margins).mean() - 0.1 * logps[0].mean())
        losses[-1].backward()
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=1e-5)
    assert_same_gradients(one, other)


class Squares(TorchDispatchMode):
    """Records the operations that make a tensor with two dimensions of `length`."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length, self.found = length, []

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = operation(*args, **(kwargs or {}))
        if any(isinstance(one, torch.Tensor) and list(one.shape).count(self.length) > 1 for one in tree_leaves(made)):
            self.found.append(str(operation))
        return made


def test_nothing_of_length_times_length_is_built(family: Any) -> None:
    model, processor = family
    _, other = copies(model)
    encoded, places = drawn(processor, 1, 3)
    tree = collate_trees(encoded, places)["tree"]
    with Squares(len(tree.packed.ids)) as squares:
        other(tree=tree).sum().backward()
    assert squares.found == []
    with squares:
        tree_mask(tree.packed.positions, torch.float32)
    assert squares.found, "a dense mask would have been seen"


def test_other_calls_stay_as_they_are(family: Any) -> None:
    model, processor = family
    one, other = copies(model)
    encoded, _ = drawn(processor, 1, 1)
    with torch.no_grad():
        inputs = encoded[0].prompt
        torch.testing.assert_close(other(**inputs).logits, one(**inputs).logits)
        assert other.eval().generate(**inputs, max_new_tokens=4, do_sample=False).tolist() == (
            one.eval().generate(**inputs, max_new_tokens=4, do_sample=False).tolist()
        )


def test_the_attention_is_not_written_into_a_checkpoint(family: Any, tmp_path: Any) -> None:
    _, other = copies(family[0])
    other.save_pretrained(tmp_path)
    assert NAME not in (tmp_path / "config.json").read_text()


def test_the_head_in_chunks_is_the_head_in_one() -> None:
    torch.manual_seed(0)
    head, targets = torch.nn.Linear(8, 50), torch.randint(0, 50, (600,))
    states = torch.randn(600, 8, requires_grad=True)
    expected = head(states).log_softmax(-1).gather(1, targets[:, None])[:, 0]
    [wanted] = torch.autograd.grad(expected.square().sum(), states)
    found = head_logps(head, states, targets)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found.square().sum(), states)[0], wanted)
