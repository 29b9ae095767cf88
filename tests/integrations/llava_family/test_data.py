"""The data set of `--tpo`, on a script of the same shape as upstream's; tests/upstream has it on the real ones."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tpo_plugin.errors import TPOError
from tpo_plugin.integrations.llava_family import data, rows

ROW = {"id": "a", "video": "good.mp4", "prompt": "What?", "chosen": "This.", "rejected": "That."}


def test_video_item(place: Any) -> None:
    item = place.dataset(ROW | {"prompt": "<image>\nWhat?", "tpo": {"kind": "localized"}})[0]
    [(pixels, _, modality)] = item["image"]
    assert pixels.shape == (3, 16, 16, 3)  # frames 0, 4, 8
    assert [round(float(frame.float().mean()) / 16) for frame in pixels] == [0, 4, 8]
    assert (modality, item["has_image"], item["prompt"], item["answer"]) == ("video", True, "<image>\nWhat?", "This.")
    assert item["tpo"] == {"kind": "localized"}


def test_time_instruction_and_force_sample(place: Any) -> None:
    place.options.tpo_time_instruction = place.options.tpo_force_sample = True
    item = place.dataset(ROW)[0]
    assert item["prompt"] == (
        "<image>\nThe video lasts for 3.00 seconds, and 4 frames are uniformly sampled from it. These frames are located at "
        "0.00s,0.75s,1.75s,2.75s.Please answer the following questions related to this video.\nWhat?"
    )  # frames 0, 11/3, 22/3, 11 cut to 0, 3, 7, 11, a quarter of a second each


def test_text_and_image_items(place: Any) -> None:
    from PIL import Image

    Image.new("RGB", (4, 4)).save(place.folder / "a.png")
    text = {key: ROW[key] for key in ("id", "prompt", "chosen", "rejected")}
    dataset = place.dataset(text | {"image": None, "video": None}, text | {"id": "b", "image": "a.png"})
    by_id = {item["id"]: item for item in dataset}
    [(pixels, size, modality)] = by_id["a"]["image"]
    assert (by_id["a"]["prompt"], by_id["a"]["has_image"], modality) == ("What?", False, "text")
    assert (pixels.shape, float(pixels.abs().sum()), size) == ((1, 3, 8, 6), 0.0, (6, 8))
    assert by_id["b"]["image"] == ["a.png"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"prompt": None}, "row 0 .*: `prompt` must be a text that is not empty, it is None"),
        ({"chosen": "  "}, "row 0 .*: `chosen` must be a text that is not empty"),
        ({"video": 3}, "row 0 .*: `video` must be a text that is not empty, it is 3"),
        ({"video": ["a.mp4"]}, "row 0 .*: `video` must be one path"),
        ({"image": []}, "row 0 .*: `image` is an empty list"),
        ({"image": ["a.png", ""]}, "row 0 .*: `image` must be a text"),
        ({"tpo": "x"}, "row 0 .*: `tpo` must be an object, it is str"),
    ],
)
def test_rows_that_make_no_sense(place: Any, change: dict[str, Any], text: str) -> None:
    with pytest.raises(TPOError, match=text):
        place.dataset(ROW | change)


def test_missing_key_row_and_folder(place: Any) -> None:
    with pytest.raises(TPOError, match="missing key `rejected`; it has 'id', 'video', 'prompt', 'chosen'"):
        place.dataset({key: value for key, value in ROW.items() if key != "rejected"})
    with pytest.raises(TPOError, match="must be an object, it is list"):
        rows.check_rows([[]], place.data_args)
    with pytest.raises(TPOError, match="holds no preference pairs"):
        rows.check_rows([], place.data_args)
    place.data_args.video_folder = None
    with pytest.raises(TPOError, match=r"`video` paths are relative \(good.mp4\): --video_folder must say"):
        place.dataset(ROW)
    assert place.dataset(ROW | {"video": str(place.folder / "good.mp4")})[0]["has_image"]


def test_a_row_without_id_is_named_by_its_place(place: Any) -> None:
    bare = {key: value for key, value in ROW.items() if key != "id"}
    assert sorted(item["id"] for item in place.dataset(bare, bare)) == ["row 0", "row 1"]


def test_curation_folder(place: Any, tmp_path: Path) -> None:
    folder = tmp_path / "curated"
    folder.mkdir()
    (folder / "pairs.json").write_text(json.dumps([ROW]))
    (folder / "dataset.json").write_text(json.dumps({"video_root": "..", "pairs": "pairs.json"}))
    place.data_args.data_path, place.data_args.video_folder = str(folder), None
    dataset = place.dataset()
    assert place.data_args.video_folder == str(tmp_path.resolve())
    assert dataset[0]["image"][0][0].shape[0] == 3
    assert dataset.list_data_dict == [ROW | {"answer": "This.", "tpo": {}}]
    elsewhere = tmp_path / "elsewhere"
    place.data_args.video_folder = str(elsewhere)
    with pytest.raises(TPOError, match=f"{elsewhere}/good.mp4: no such file"):  # the flag wins
        place.dataset()


def test_random_sampling_is_the_same_on_every_rank(place: Any) -> None:
    values = [ROW | {"id": str(index)} for index in range(20)]
    random.seed(1)
    first = [row["id"] for row in place.dataset(*values).list_data_dict]
    drawn = random.random()
    random.seed(1)
    assert random.random() == drawn
    assert [row["id"] for row in place.dataset(*values).list_data_dict] == first
    assert first != [str(index) for index in range(20)]


def test_all_frames_of_a_video_are_warned_of_once(place: Any, caplog: pytest.LogCaptureFixture) -> None:
    place.data_args.frames_upbound = 0
    with caplog.at_level(logging.WARNING, "tpo_plugin"):
        dataset = place.dataset(ROW, ROW)
        assert [item["image"][0][0].shape[0] for item in dataset] == [3, 3]
    assert [record.getMessage()[:24] for record in caplog.records] == ["--frames_upbound is 0: e"]


def test_collator_names_rows_and_kinds() -> None:
    class Base:
        def __init__(self, tokenizer: str, label_pad_token_id: int, pad_token_id: int) -> None:
            self.made_of = (tokenizer, label_pad_token_id, pad_token_id)

        def __call__(self, features: list[dict[str, Any]]) -> dict[str, Any]:
            return {"images": len(features), "made_of": self.made_of}

    collator = data.temporal_collator(Base)("t", label_pad_token_id=-100, pad_token_id=0)
    assert isinstance(collator, Base)
    assert collator([{"id": 7, "tpo": {"kind": "localized"}}, {"tpo": {}}, {"tpo": None}]) == {
        "images": 3,
        "made_of": ("t", -100, 0),
        "ids": ["7", "", ""],
        "kinds": ["localized", "", ""],
    }


class Tokenizer:
    """Has many special tokens."""

    unk_token_id = None
    additional_special_tokens_ids = range(13)
    vocabulary: ClassVar = {"<|im_start|>": 40, "<|im_end|>": 41}

    def __call__(self, text: str) -> list[str]:
        return text.split()

    def convert_tokens_to_ids(self, tokens: list[str]) -> list[int | None]:
        return [self.vocabulary.get(token) for token in tokens]


def pieces(sources: str, tokenizer: Any, has_image: bool = False) -> Any:
    start, end = tokenizer.additional_special_tokens_ids
    return [start, *tokenizer(sources), end, has_image, len(tokenizer.vocabulary)]


def test_two_special_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    wrapped: Callable[..., Any] = data.two_special_tokens(pieces)
    assert wrapped("a b", Tokenizer(), has_image=True) == [40, "a", "b", 41, True, 2]
    monkeypatch.setattr(Tokenizer, "vocabulary", {"<|im_end|>": 41})
    with pytest.raises(TPOError, match=r"lacks <\|im_start\|> or <\|im_end\|>: --version must"):
        wrapped("a b", Tokenizer())
