"""Token trees from the batches of upstream's collator, and what of them cannot be trained on the fast path."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from tpo_plugin.errors import TPOError
from tpo_plugin.training.packing import PLACEHOLDER, Branches, pack, widened
from tpo_plugin.training.policies import llava
from tpo_plugin.training.policies.llava import LlavaFamily, check_attention, collate_trees, install_trees

PAD, START, END = 0, 1, 2
FRAME = [
    START,
    7,
    END,
    START,
    PLACEHOLDER,
]  # the chat frame as upstream labels it: the ends of turns, and the first token


def batch(*rows: tuple[list[int], list[int], list[int]]) -> dict[str, Any]:
    """What the script's collator makes of rows (question, chosen, rejected): padded ids, masks and labels."""
    made: dict[str, Any] = {"ids": [f"row {place}" for place in range(len(rows))], "kinds": [""] * len(rows)}
    for side, place in (("chosen", 1), ("rejected", 2)):
        ids = [torch.tensor([*FRAME, *row[0], END, *row[place], END]) for row in rows]
        labels = []
        for row, tokens in zip(rows, ids):
            label = torch.full_like(tokens, -100)
            scored = [0, 2, 3, *range(len(FRAME) + len(row[0]), len(tokens))]
            label[scored] = tokens[scored]
            labels.append(label)
        made[f"{side}_input_ids"] = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=PAD)
        made[f"{side}_labels"] = torch.nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=-100)
        made[f"{side}_attention_mask"] = made[f"{side}_input_ids"] != PAD
    return made


def features(*pixels: float) -> list[dict[str, Any]]:
    return [
        {"row": 10 + place, "image": [(torch.full((2, 3, 4, 4), value), (4, 4), "video")]}
        for place, value in enumerate(pixels)
    ]


def scored(tree: Any) -> list[list[int]]:
    """The scored ids of each response."""
    ids = tree.packed.ids[tree.packed.targets]
    return [ids[row].tolist() for row in tree.packed.members]


def test_rows_that_show_the_same_are_one_tree_and_all_labelled_tokens_but_the_first_are_scored() -> None:
    rows = [([20], [30, 31], [32]), ([21], [33], [34, 35]), ([20, 22], [36], [36, 37])]
    made = collate_trees(batch(*rows), features(0.5, 0.7, 0.5))
    assert (made["rows"], made["ids"]) == ([10, 12, 11], ["row 0", "row 2", "row 1"])
    tree = made["tree"]
    assert [len(tree.inputs), len(tree.packed.roots)] == [2, 2]
    assert (tree.packed.ids == PLACEHOLDER).sum() == 2
    frame = [END, START, END]  # of the first turn, the second's start, the question's end
    assert scored(tree) == [
        [*frame, *answer, END] for _, chosen, rejected in (rows[0], rows[2], rows[1]) for answer in (chosen, rejected)
    ]


def test_a_placeholder_becomes_its_videos_tokens() -> None:
    def videos(tokens: tuple[int, int]) -> list[list[Branches]]:
        return [
            [
                Branches(
                    torch.tensor([5, *[PLACEHOLDER] * count, 6, *question]),
                    (torch.tensor([8]), torch.tensor([9, 9])),
                    torch.tensor([False] * (1 + count) + [True] * (1 + len(question))),
                )
                for question in ([3], [4, 4])
            ]
            for count in tokens
        ]

    packed = widened(pack(videos((1, 1))), [3 + 6, 3 + 2])
    expected = pack(videos((6, 2)))
    assert packed.roots == expected.roots
    for name in ("ids", "positions", "targets", "sources", "members"):
        assert torch.equal(getattr(packed, name), getattr(expected, name)), name


@pytest.mark.parametrize("prompt", [[5, 6], [5, PLACEHOLDER, PLACEHOLDER]])
def test_a_prompt_of_another_length_needs_one_placeholder(prompt: list[int]) -> None:
    packed = pack([[Branches(torch.tensor(prompt), (torch.tensor([8]),))]])
    with pytest.raises(ValueError, match="has 7 embeddings"):
        widened(packed, [7])


class Upstream:
    """As much of upstream's model as `embed` uses: each placeholder becomes 10 embeddings, in rows padded to the longest."""

    device = torch.device("cpu")

    def __init__(self, **config: Any) -> None:
        self.config = SimpleNamespace(**config)

    def prepare_inputs_labels_for_multimodal(self, ids: Tensor, _: Any, mask: Tensor, *rest: Any, **sizes: Any) -> Any:
        assert self.config.tokenizer_model_max_length is None
        rows = [int(row.sum()) + 9 * int((one == PLACEHOLDER).sum()) for row, one in zip(mask, ids)]
        places = torch.arange(max(rows)) < torch.tensor(rows)[:, None]
        return None, None, places, None, torch.zeros(len(rows), max(rows), 4), None


def test_prompts_are_embedded_uncut_and_the_limit_is_checked() -> None:
    inputs = collate_trees(batch(([20], [30, 31], [32]), ([21] * 5, [33], [34])), features(0.5, 0.7))["tree"].inputs
    # The longest sequence: 5 of the frame, 5 of the question, its end, 1, its end: 13 tokens, 9 more with its video.
    model = Upstream(tokenizer_model_max_length=22)
    assert [len(embeds) for embeds, _ in LlavaFamily().embed(model, inputs)] == [5 + 1 + 1 + 9, 5 + 5 + 1 + 9]
    assert model.config.tokenizer_model_max_length == 22
    model.config.tokenizer_model_max_length = 21
    with pytest.raises(
        TPOError, match="row 1: 1 of the 6 labelled tokens of its chosen side lie beyond --model_max_length 21"
    ):
        LlavaFamily().embed(model, inputs)


@pytest.mark.parametrize(
    ("config", "text"),
    [({"use_pos_skipping": True}, "use_pos_skipping"), ({"tokenizer_padding_side": "left"}, "padding side is left")],
)
def test_positions_that_trees_cannot_have_are_refused(config: dict[str, Any], text: str) -> None:
    with pytest.raises(TPOError, match=f"{text}.*--tpo_path plain"):
        LlavaFamily().embed(Upstream(tokenizer_model_max_length=None, **config), [])


def test_labels_that_trees_cannot_have_are_refused() -> None:
    other = batch(([20], [30, 31], [32]))
    other["chosen_labels"][0, -1] = 5
    with pytest.raises(TPOError, match="row 0: the template's labels are not its tokens"):
        collate_trees(other, features(0.5))
    partly = batch(([20], [30, 31], [32]))
    partly["chosen_labels"][0, -1] = -100
    with pytest.raises(TPOError, match="row 0: the template leaves tokens of a response without a label"):
        collate_trees(partly, features(0.5))


def test_models_that_are_not_known_are_refused() -> None:
    with pytest.raises(TPOError, match="this model is Linear: add --tpo_path plain"):
        install_trees(torch.nn.Linear(1, 1))
    windowed = type("LlavaQwenForCausalLM", (), {"config": SimpleNamespace(use_sliding_window=True, sliding_window=8)})
    with pytest.raises(TPOError, match="use_sliding_window"):
        install_trees(windowed())


@pytest.mark.parametrize(("version", "text"), [("4.40.2", "needs transformers 4.41"), ("4.45.2", None)])
def test_old_transformers_are_refused(monkeypatch: pytest.MonkeyPatch, version: str, text: str | None) -> None:
    monkeypatch.setattr(llava.transformers, "__version__", version)
    if text is None:
        check_attention("sdpa")
        return
    with pytest.raises(TPOError, match=text):
        check_attention("sdpa")
