"""Run in a process of its own: what the real script's data set and collator make of rows, and what ours make of them, in `facts.json`."""

from __future__ import annotations

import copy
import importlib
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer, CLIPImageProcessor

from tpo_plugin.errors import TPOError
from tpo_plugin.integrations.checkout import find_checkout
from tpo_plugin.integrations.llava_family import data
from tpo_plugin.integrations.llava_family.launcher import load_script
from tpo_plugin.video import write_video

SAMPLINGS = ((1, 4), (1, 100), (1, 0), (2, 6), (2, 2), (4, 0))  # video_fps, frames_upbound
TEXT = {"prompt": "What?", "chosen": "This one.", "rejected": "That, then."}


def same(one: Any, other: Any) -> bool:
    """Whether both are built of the same values of the same types, tensors to the last bit."""
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def raised(work: Callable[[], Any]) -> str:
    """The class and the text of the error that `work` raises, of those that a row can cause."""
    try:
        work()
    except (KeyError, ValueError, TPOError) as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


class Facts:
    """One script with a folder for files, and the rows of the fixture `world`."""

    def __init__(self, checkout: str, model: str, tower: str, pairs: str, media: str, folder: str) -> None:
        self.checkout = find_checkout(checkout)
        self.script = vars(load_script(self.checkout))
        self.tokenizer = AutoTokenizer.from_pretrained(model, padding_side="right")
        self.processor = CLIPImageProcessor.from_pretrained(tower)
        self.pairs, self.media, self.folder = Path(pairs), Path(media), Path(folder)
        templates = self.script["conversation_lib"].conv_templates
        self.script["conversation_lib"].default_conversation = templates["qwen_1_5"]

    def data_args(self, **changes: Any) -> Any:
        made = self.script["DataArguments"](
            data_path=str(self.pairs), video_folder=str(self.media), image_folder=str(self.media), is_multimodal=True
        )
        made.image_processor = self.processor
        for name, value in changes.items():
            setattr(made, name, value)
        return made

    def options(self, **changes: Any) -> Any:
        values = {"tpo_time_instruction": False, "tpo_force_sample": False, "tpo_max_broken": 0.01, "seed": 0}
        values |= dict.fromkeys(("tpo_max_pairs", "tpo_ratio", "tpo_difficulty", "tpo_order")) | {"dpo_alpha": 1.0}
        return SimpleNamespace(**values | {"output_dir": str(self.folder / "out")} | changes)

    def theirs(self, **changes: Any) -> Any:
        return self.script["make_dpo_data_module"](tokenizer=self.tokenizer, data_args=self.data_args(**changes))

    def ours(self, options: Any = None, **changes: Any) -> Any:
        make = data.make_data_module(self.script, options or self.options())
        return make(tokenizer=self.tokenizer, data_args=self.data_args(**changes))

    def write(self, name: str, rows: list[dict[str, Any]]) -> str:
        (self.folder / name).write_text(json.dumps(rows))
        return str(self.folder / name)

    def items_equal(self) -> dict[str, bool]:
        """For each sampling: whether every item of the video and picture rows equals upstream's."""
        found = {}
        for fps, most in SAMPLINGS:
            changes = {"video_fps": fps, "frames_upbound": most}
            theirs, ours = self.theirs(**changes), self.ours(**changes)
            assert len(theirs) == len(ours)
            found[f"{fps} fps, {most}"] = all(
                same(theirs._get_item(index) | {"row": index}, ours[index]) for index in range(len(ours))
            )
        return found

    def frames_folder(self) -> bool:
        """The same for a folder of frames, which upstream knows by a part of its path."""
        from PIL import Image

        folder = self.folder / "shareVideoGPTV" / "a"
        folder.mkdir(parents=True)
        for index in range(23):
            Image.fromarray(np.full((40, 60, 3), 10 * index, np.uint8)).save(folder / f"{index:03}.png")
        path = self.write("folder.json", [{"id": "f", "video": str(folder), "answer": "This one.", **TEXT}])
        return same(self.theirs(data_path=path)._get_item(0) | {"row": 0}, self.ours(data_path=path)[0])

    def lists(self) -> dict[str, Any]:
        """The forms of `--data_path`: YAML with sampling strategies, JSON Lines, several files at once."""
        rows = json.loads(self.pairs.read_text())
        (self.folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        first, second = self.write("one.json", rows[:4]), self.write("two.json", rows[4:])
        lists = self.folder / "lists.yaml"
        lists.write_text(
            f"datasets:\n- json_path: {first}\n  sampling_strategy: first:50%\n- json_path: {second}\n"
            f"  sampling_strategy: random:3\n- json_path: {first}\n  sampling_strategy: end:1\n"
        )
        random.seed(5)
        one = [row["id"] for row in self.ours(data_path=str(lists)).list_data_dict]
        random.seed(6)
        other = [row["id"] for row in self.ours(data_path=str(lists)).list_data_dict]
        braces = str(self.folder / "{one,two}.json")
        return {
            "yaml": one,
            "yaml again": other,
            "jsonl": self.ours(data_path=str(self.folder / "rows.jsonl")).list_data_dict == rows,
            "braces": self.ours(data_path=braces).list_data_dict == rows,
        }

    def low_rate(self) -> dict[str, Any]:
        """A video of 0.4 frames a second."""
        write_video(self.folder / "slow.mp4", (np.full((64, 64, 3), 40 * index, np.uint8) for index in range(5)), 0.4)
        path = self.write("slow.json", [{"id": "s", "video": str(self.folder / "slow.mp4"), **TEXT}])
        theirs, ours = self.theirs(data_path=path), self.ours(data_path=path)
        return {"theirs": raised(lambda: theirs._get_item(0)), "ours": ours[0]["image"][0][0].shape[0]}

    def text_rows(self) -> dict[str, Any]:
        """A row without picture or video, and without `answer`."""
        path = self.write("text.json", [{"id": "t", **TEXT}])
        theirs, ours = self.theirs(data_path=path), self.ours(data_path=path)
        item = ours[0]
        return {
            "theirs": raised(lambda: theirs._get_item(0)),
            "prompt": item["prompt"],
            "modality": item["image"][0][2],
            "their length": raised(lambda: theirs.modality_lengths),
            "length": ours.modality_lengths,
        }

    def batches(self) -> dict[str, Any]:
        """Batches of two as our collator makes them of our items, beside upstream's own of the same items."""
        rows = json.loads(self.pairs.read_text())
        rows = [rows[0], rows[3], rows[8], {"id": "t", **TEXT}]
        ours = self.ours(data_path=self.write("mixed.json", rows), frames_upbound=3)
        fields = {"label_pad_token_id": -100, "pad_token_id": self.tokenizer.pad_token_id}
        base = self.script["DPODataCollator"]
        their_collator, our_collator = (
            base(self.tokenizer, **fields),
            data.temporal_collator(base)(self.tokenizer, **fields),
        )
        found = {}
        for name, places in {
            "videos": (0, 1),
            "video, picture": (0, 2),
            "text, video": (3, 0),
            "picture, text": (2, 3),
        }.items():
            items = [ours[place] for place in places]
            batch, expected = our_collator(copy.deepcopy(items)), their_collator(items)
            named = {key: batch.pop(key) for key in ("ids", "kinds")}
            ids = batch["chosen_input_ids"]
            found[name] = {
                "same": same(batch, expected),
                **named,
                "modalities": batch["modalities"],
                "placeholders": (ids == self.script["IMAGE_TOKEN_INDEX"]).sum(1).tolist(),
                "frames": [images.shape[0] if images.ndim == 4 else 1 for images in batch["images"]],
            }
        return found

    def special_tokens(self) -> dict[str, Any]:
        """`preprocess_qwen` with Qwen2's two additional special tokens and with Qwen2.5's thirteen."""
        original = self.script["preprocess_qwen"]
        ours = data.two_special_tokens(original)
        sources = [self.script["make_conv"]("<image>\nWhat shape is shown?", "A red circle.")]
        expected = original(copy.deepcopy(sources), self.tokenizer, has_image=True)
        two = same(ours(copy.deepcopy(sources), self.tokenizer, has_image=True), expected)
        more = copy.deepcopy(self.tokenizer)
        added = ["<|im_start|>", "<|im_end|>", *(f"<|special_{index}|>" for index in range(11))]
        more.add_special_tokens({"additional_special_tokens": added})
        return {
            "tokens": [len(self.tokenizer.additional_special_tokens_ids), len(more.additional_special_tokens_ids)],
            "two": two,
            "theirs": raised(lambda: original(copy.deepcopy(sources), more, has_image=True)),
            "thirteen": same(ours(copy.deepcopy(sources), more, has_image=True), expected),
            "looked up": "preprocess_qwen" in self.script["preprocess"].__code__.co_names,
        }

    def lost_file(self) -> dict[str, Any]:
        """Files that decord fails on after they were checked."""
        for name in ("lost.mp4", "noise.mp4", "cut.mp4"):
            (self.folder / name).write_bytes((self.media / "video 0.mp4").read_bytes())
        rows = [{"id": name, "video": str(self.folder / name), **TEXT} for name in ("lost.mp4", "noise.mp4", "cut.mp4")]
        path = self.write("lost.json", [*rows, json.loads(self.pairs.read_text())[0]])
        ours = self.ours(self.options(tpo_max_broken=0.75), data_path=path)
        strict = self.ours(self.options(tpo_max_broken=0.5, output_dir=str(self.folder / "strict")), data_path=path)
        (self.folder / "lost.mp4").unlink()
        (self.folder / "noise.mp4").write_bytes(b"no video" * 100)
        (self.folder / "cut.mp4").write_bytes((self.folder / "cut.mp4").read_bytes()[:900])
        loader = torch.utils.data.DataLoader(strict, batch_size=1, num_workers=2, collate_fn=list)
        return {
            "kinds of error": [raised(lambda index=index: ours._get_item(index)) for index in range(3)],
            "stand-ins": [ours[index]["id"] for index in range(4)],
            "strict": raised(lambda: list(loader)),
        }

    def sft(self) -> dict[str, Any]:
        """The prompt with time instruction, beside the turn that upstream's SFT data set tokenizes; LLaVA-NeXT alone has it."""
        utils = importlib.import_module(f"{self.checkout.package}.utils")
        if not hasattr(utils, "process_video_with_decord"):
            return {}
        train = importlib.import_module(f"{self.checkout.package}.train.train")
        preprocess, turns = train.preprocess, []

        def listen(sources: Any, *args: Any, **kwargs: Any) -> Any:
            turns.append(sources[0][0]["value"])
            return preprocess(sources, *args, **kwargs)

        train.preprocess = listen
        train.conversation_lib.default_conversation = train.conversation_lib.conv_templates["qwen_1_5"]
        found = {}
        for force, fps, most in (
            (True, 1, 4),
            (True, 1, 50),
            (False, 1, 4),
            (False, 2, 3),
            (False, 1, 0),
            (False, 2, 0),
        ):
            row = {"id": "a", "video": "video 1.mp4", **TEXT}
            asked = [{"from": "human", "value": "<image>What?"}, {"from": "gpt", "value": TEXT["chosen"]}]
            path, sft_path = self.write("row.json", [row]), self.write("sft.json", [row | {"conversations": asked}])
            shared = {"video_fps": fps, "frames_upbound": most}
            sft_args = self.data_args(
                force_sample=force, add_time_instruction=True, mm_use_im_start_end=False, **shared
            )
            theirs = train.LazySupervisedDataset(sft_path, self.tokenizer, sft_args)._get_item(0)
            options = self.options(tpo_time_instruction=True, tpo_force_sample=force)
            item = self.ours(options, data_path=path, **shared)[0]
            found[f"{force}, {fps} fps, {most}"] = {
                "theirs": turns[-1],
                "ours": item["prompt"],
                "pixels": same(item["image"][0][0], theirs["image"][0][0]),
            }
        return found


def main(*paths: str) -> None:
    facts = Facts(*paths)
    names = (
        "items_equal",
        "frames_folder",
        "lists",
        "low_rate",
        "text_rows",
        "batches",
        "special_tokens",
        "lost_file",
        "sft",
    )
    (facts.folder / "facts.json").write_text(json.dumps({name: getattr(facts, name)() for name in names}))


if __name__ == "__main__":
    main(*sys.argv[1:])
