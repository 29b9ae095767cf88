"""Token trees: every response's path is its own full sequence, and attention over the tree is attention over that sequence."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tpo_plugin.training.attention import chains_of, marker, tree_attention, tree_mask
from tpo_plugin.training.packing import PLACEHOLDER, Branches, Packed, chains, common_prefix, pack, widened


def draw(seed: int) -> list[list[Branches]]:
    """A batch of 1-3 videos with 1-4 prompts, each with 1-3 responses, some prompts equal, some tokens scored."""
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)

    def ids(least: int, most: int) -> Tensor:
        return torch.randint(0, 5, (rng.randint(least, most),), generator=generator)

    videos = []
    for _ in range(rng.randint(1, 3)):
        stem = ids(1, 12)
        prompts = []
        for _ in range(rng.randint(1, 4)):
            prompt = torch.cat([stem, ids(0 if len(stem) > 3 else 1, 6)])
            scored = torch.rand(len(prompt), generator=generator) < 0.2
            scored[0] = False  # nothing predicts the first token
            responses = tuple(ids(1, 5) for _ in range(rng.randint(1, 3)))
            prompts.append(Branches(prompt, responses, scored if rng.random() < 0.5 else None))
        videos.append(prompts)
    return videos


def sequences(videos: list[list[Branches]]) -> list[tuple[Tensor, Tensor]]:
    """(ids, scored) of each response's full sequence."""
    rows = []
    for video in videos:
        for prompt in video:
            before = torch.zeros(len(prompt.prompt), dtype=torch.bool) if prompt.scored is None else prompt.scored
            for response in prompt.responses:
                rows.append(
                    (
                        torch.cat([prompt.prompt, response]),
                        torch.cat([before, torch.ones(len(response), dtype=torch.bool)]),
                    )
                )
    return rows


def paths(packed: Packed) -> list[list[int]]:
    """The packed indices of each response's full sequence, followed back from its last token."""
    parent = {}
    for chain in chains(packed.positions.tolist()):
        before = chain.spans[-1][1] - 1 if chain.spans else -1
        for index in range(chain.start, chain.stop):
            parent[index], before = before, index
    found = []
    for row in packed.members:
        index = int(packed.targets[row][-1])
        path = [index]
        while parent[path[-1]] >= 0:
            path.append(parent[path[-1]])
        found.append(path[::-1])
    return found


@pytest.mark.parametrize("seed", range(40))
def test_each_path_is_the_full_sequence(seed: int) -> None:
    videos = draw(seed)
    packed = pack(videos)
    for (ids, scored), path, members in zip(sequences(videos), paths(packed), packed.members, strict=True):
        assert packed.ids[path].tolist() == ids.tolist()
        assert packed.positions[path].tolist() == list(range(len(ids)))
        assert packed.targets[members].tolist() == [index for index, one in zip(path, scored.tolist()) if one]
        before = {after: one for one, after in pairwise(path)}
        for target, source in zip(packed.targets[members].tolist(), packed.sources[members].tolist()):
            assert before[target] == source


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_attention_equals_a_dense_mask(seed: int, kv_heads: int) -> None:
    packed = pack(draw(seed))
    length, generator = len(packed.positions), torch.Generator().manual_seed(seed)
    made = [torch.randn(1, heads, length, 8, generator=generator) for heads in (4, kv_heads, kv_heads)]
    sees = torch.zeros(length, length, dtype=torch.bool)
    for path in paths(packed):
        for place, index in enumerate(path):
            sees[index, path[: place + 1]] = True
    expected_inputs, inputs = ([tensor.clone().requires_grad_() for tensor in made] for _ in range(2))
    query, key, value = expected_inputs
    expected = F.scaled_dot_product_attention(query, key, value, sees, enable_gqa=True).transpose(1, 2)
    output, _ = tree_attention(None, *inputs, marker(query.device), position_ids=packed.positions[None])
    torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-6)
    weights = torch.randn(output.shape, generator=generator)
    (expected * weights).sum().backward()
    (output * weights).sum().backward()
    for one, other in zip(inputs, expected_inputs):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-5, atol=1e-5)
    assert torch.equal(tree_mask(packed.positions, torch.float32)[0, 0] == 0, sees)


def test_a_tree_of_one_video_two_prompts() -> None:
    #   0 1 2 | 3 | 4 5 | 6 | 7 | 8      stem 7 8 9, prompt rest (5), responses (1 2) (3); prompt rest (6), response (4)
    first = Branches(torch.tensor([7, 8, 9, 5]), (torch.tensor([1, 2]), torch.tensor([3])))
    second = Branches(torch.tensor([7, 8, 9, 6]), (torch.tensor([4]),), torch.tensor([False, True, False, False]))
    packed = pack([[first, second]])
    assert packed.ids.tolist() == [7, 8, 9, 5, 1, 2, 3, 6, 4]
    assert packed.positions.tolist() == [0, 1, 2, 3, 4, 5, 4, 3, 4]
    assert packed.targets.tolist() == [1, 4, 5, 6, 8]
    assert packed.sources.tolist() == [0, 3, 4, 3, 7]
    assert packed.members.int().tolist() == [[0, 1, 1, 0, 0], [0, 0, 0, 1, 0], [1, 0, 0, 0, 1]]
    assert packed.lengths == [2, 1, 2]
    found = chains_of(packed.positions)
    assert [(chain.start, chain.stop, chain.spans) for chain in found] == [
        (0, 6, ()),
        (6, 7, ((0, 4),)),
        (7, 9, ((0, 3),)),
    ]


@pytest.mark.parametrize("seed", range(40))
def test_nothing_is_there_twice(seed: int) -> None:
    """A tree has as many tokens as its sequences have different beginnings."""
    videos = draw(seed)
    beginnings = set()
    for number, video in enumerate(videos):
        for ids, _ in sequences([video]):
            beginnings |= {(number, *ids[: end + 1].tolist()) for end in range(len(ids))}
    assert len(pack(videos).ids) == len(beginnings)


def test_pairs_with_one_chosen_response_share_it() -> None:
    prompt, chosen = torch.tensor([7, 8, 9]), torch.tensor([1, 2, 0])
    pairs = [Branches(prompt, (chosen, torch.tensor([3, number, 0]))) for number in range(4, 8)]
    packed = pack([pairs])
    assert packed.ids.tolist() == [7, 8, 9, 1, 2, 0, 3, 4, 0, 5, 0, 6, 0, 7, 0]
    assert packed.positions.tolist() == [0, 1, 2, 3, 4, 5, 3, 4, 5, 4, 5, 4, 5, 4, 5]
    assert packed.targets[packed.members[::2].any(dim=0)].tolist() == [3, 4, 5]
    assert packed.members[::2].all(dim=0).sum() == 3, "the same tokens for each pair"
    assert [packed.targets[row].tolist() for row in packed.members[1::2]] == [
        [6, 7, 8],
        [6, 9, 10],
        [6, 11, 12],
        [6, 13, 14],
    ]
    assert packed.sources.tolist() == [2, 3, 4, 2, 6, 7, 6, 9, 6, 11, 6, 13]
    assert packed.lengths == [3] * 8


def test_a_video_in_a_shared_tree_is_widened() -> None:
    prompt = torch.tensor([7, PLACEHOLDER, 9])
    pairs = [Branches(prompt, (torch.tensor([1, 2]), torch.tensor([1, number]))) for number in (3, 4)]
    packed = widened(pack([pairs, pairs[:1]]), [6, 4])
    assert packed.positions.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 7, 7, 0, 1, 2, 3, 4, 5, 5]
    assert packed.ids.tolist()[5:10] == [9, 1, 2, 3, 4]
    assert packed.targets.tolist() == [6, 7, 8, 9, 14, 15, 16]
    assert packed.sources.tolist() == [5, 6, 6, 6, 13, 14, 14]
    assert [(root.start, root.stop, root.prompt) for root in packed.roots] == [(0, 10, 6), (10, 17, 4)]


def test_prompts_of_one_video_begin_alike() -> None:
    response = (torch.tensor([1]),)
    with pytest.raises(ValueError, match="do not begin alike"):
        pack([[Branches(torch.tensor([5, 6]), response), Branches(torch.tensor([6]), response)]])
    with pytest.raises(ValueError, match="a prompt has no tokens"):
        pack([[Branches(torch.tensor([], dtype=torch.long), response)]])


def test_common_prefix() -> None:
    rows = [torch.tensor([1, 2, 3]), torch.tensor([1, 2, 4, 5])]
    assert common_prefix(rows) == 2
    assert common_prefix(rows[:1]) == 3
    assert common_prefix([torch.tensor([1, 2]), torch.tensor([1, 2])]) == 1


@pytest.mark.parametrize("responses", [(), (torch.tensor([1]), torch.tensor([], dtype=torch.long))])
def test_an_empty_response_is_refused(responses: tuple[Tensor, ...]) -> None:
    with pytest.raises(ValueError, match="no tokens"):
        pack([[Branches(torch.tensor([1]), responses)]])
