"""The data set of `--tpo`, on a script of the same shape as upstream's; tests/upstream has it on the real ones."""

from __future__ import annotations

import json
import logging
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from tpo_plugin.errors import TPOError, VideoError
from tpo_plugin.integrations.llava_family import data, frames, rows, video_check
from tpo_plugin.video import write_video

ROW = {"id": "a", "video": "good.mp4", "prompt": "What?", "chosen": "This.", "rejected": "That."}


class Reader:
    """decord's interface on PyAV."""

    def __init__(self, path: str, ctx: object) -> None:
        import av

        with av.open(path) as container:
            self.rate = float(container.streams.video[0].average_rate)
            self.pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]

    def __len__(self) -> int:
        return len(self.pictures)

    def get_avg_fps(self) -> float:
        return self.rate

    def get_batch(self, indices: list[int]) -> Any:
        return SimpleNamespace(asnumpy=lambda: np.stack([self.pictures[index] for index in indices]))


class Rows(Dataset):
    """The script's data set, as far as a subclass sees it."""

    def __init__(self, data_path: str, tokenizer: object, data_args: Any) -> None:
        self.list_data_dict = json.loads(Path(data_path).read_text())
        random.shuffle(self.list_data_dict)
        self.tokenizer, self.data_args = tokenizer, data_args

    def __len__(self) -> int:
        return len(self.list_data_dict)

    def _get_item(self, index: int) -> dict[str, Any]:
        from PIL import Image

        name = self.list_data_dict[index]["image"]
        Image.open(os.path.join(self.data_args.image_folder, name)).load()
        return {**self.list_data_dict[index], "image": [name]}


class Processor:
    """Pixels as they are."""

    crop_size: ClassVar = {"height": 8, "width": 6}

    @staticmethod
    def preprocess(pictures: Any, return_tensors: str) -> dict[str, torch.Tensor]:
        return {"pixel_values": torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures]))}


class Place:
    """A folder with `good.mp4` (12 frames, 4 a second) and what a run of the script has."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.options = SimpleNamespace(
            tpo_time_instruction=False,
            tpo_force_sample=False,
            tpo_max_broken=0.5,
            tpo_max_pairs=None,
            tpo_ratio=None,
            tpo_difficulty=None,
            tpo_order=None,
            dpo_alpha=1.0,
            output_dir=str(folder / "out"),
            seed=3,
        )
        self.data_args = SimpleNamespace(
            data_path=str(folder / "pairs.json"),
            video_folder=str(folder),
            image_folder=str(folder),
            video_fps=1,
            frames_upbound=4,
            is_multimodal=True,
            image_processor=Processor,
        )
        self.video("good.mp4")

    def video(self, name: str, count: int = 12, rate: float = 4) -> Path:
        write_video(self.folder / name, (np.full((16, 16, 3), 16 * index, np.uint8) for index in range(count)), rate)
        return self.folder / name

    def dataset(self, *values: dict[str, Any]) -> Any:
        if values:
            Path(self.data_args.data_path).write_text(json.dumps(values))
        namespace = {"DPODataset": Rows, "VideoReader": Reader, "cpu": lambda index: None}
        return data.make_data_module(namespace, self.options)(tokenizer=None, data_args=self.data_args)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize(
    ("total", "fps", "sampling", "expected"),
    [
        (10, 4.0, (1, 0), [0, 4, 8]),
        (10, 4.0, (1, 3), [0, 4, 8]),
        (10, 4.0, (1, 2), [0, 9]),
        (10, 3.5, (2, 0), [0, 2, 4, 6, 8]),  # round(1.75) = 2
        (5, 0.4, (1, 8), [0, 1, 2, 3, 4]),  # upstream: range() with step 0
        (10, 4.0, (1, 4, True), [0, 3, 6, 9]),
        (3, 1.0, (1, 5, True), [0, 0, 1, 1, 2]),  # 0, 0.5, 1, 1.5, 2 cut to whole numbers
    ],
)
def test_frame_indices(total: int, fps: float, sampling: tuple[Any, ...], expected: list[int]) -> None:
    assert frames.frame_indices(total, fps, frames.Sampling(*sampling)) == expected


def test_options_that_cannot_sample() -> None:
    with pytest.raises(TPOError, match="--video_fps must be above 0, it is 0"):
        frames.Sampling(0, 4)
    with pytest.raises(TPOError, match="set --frames_upbound"):
        frames.Sampling(1, 0, always=True)


def test_video_item(place: Place) -> None:
    item = place.dataset(ROW | {"prompt": "<image>\nWhat?", "tpo": {"kind": "localized"}})[0]
    [(pixels, _, modality)] = item["image"]
    assert pixels.shape == (3, 16, 16, 3)  # frames 0, 4, 8
    assert [round(float(frame.float().mean()) / 16) for frame in pixels] == [0, 4, 8]
    assert (modality, item["has_image"], item["prompt"], item["answer"]) == ("video", True, "<image>\nWhat?", "This.")
    assert item["tpo"] == {"kind": "localized"}


def test_time_instruction_and_force_sample(place: Place) -> None:
    place.options.tpo_time_instruction = place.options.tpo_force_sample = True
    item = place.dataset(ROW)[0]
    assert item["prompt"] == (
        "<image>\nThe video lasts for 3.00 seconds, and 4 frames are uniformly sampled from it. These frames are located at "
        "0.00s,0.75s,1.75s,2.75s.Please answer the following questions related to this video.\nWhat?"
    )  # frames 0, 11/3, 22/3, 11 cut to 0, 3, 7, 11, a quarter of a second each


def test_text_and_image_items(place: Place) -> None:
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
def test_rows_that_make_no_sense(place: Place, change: dict[str, Any], text: str) -> None:
    with pytest.raises(TPOError, match=text):
        place.dataset(ROW | change)


def test_missing_key_row_and_folder(place: Place) -> None:
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


def test_a_row_without_id_is_named_by_its_place(place: Place) -> None:
    bare = {key: value for key, value in ROW.items() if key != "id"}
    assert sorted(item["id"] for item in place.dataset(bare, bare)) == ["row 0", "row 1"]


def test_curation_folder(place: Place, tmp_path: Path) -> None:
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


def test_random_sampling_is_the_same_on_every_rank(place: Place) -> None:
    values = [ROW | {"id": str(index)} for index in range(20)]
    random.seed(1)
    first = [row["id"] for row in place.dataset(*values).list_data_dict]
    drawn = random.random()
    random.seed(1)
    assert random.random() == drawn
    assert [row["id"] for row in place.dataset(*values).list_data_dict] == first
    assert first != [str(index) for index in range(20)]


def test_broken_files_are_left_out_and_named(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    (place.folder / "empty.mp4").touch()
    (place.folder / "noise.mp4").write_bytes(b"no video" * 100)
    os.mkdir(place.folder / "no frames")
    bad = ["empty.mp4", "noise.mp4", "nowhere.mp4", "no frames"]
    values = [ROW | {"id": name, "video": name} for name in bad] + [
        {**ROW, "id": "picture", "image": ["b.png"]},
        *(ROW | {"id": str(index)} for index in range(5)),
    ]
    with caplog.at_level(logging.WARNING, "tpo_plugin"):
        dataset = place.dataset(*values)
    assert sorted(row["id"] for row in dataset.list_data_dict) == list("01234")
    text = "\n".join(record.getMessage() for record in caplog.records)
    for line in (
        f"empty.mp4: {place.folder}/empty.mp4: the file has zero bytes",
        f"noise.mp4: {place.folder}/noise.mp4: not a video that FFmpeg can read",
        f"nowhere.mp4: {place.folder}/nowhere.mp4: no such file",
        f"no frames: {place.folder}/no frames: an empty folder",
        f"picture: {place.folder}/b.png: no such file",
        "left out 5 of 10 rows",
    ):
        assert line in text
    place.options.tpo_max_broken = 0.49
    with pytest.raises(TPOError, match=r"(?s)5 of 10 rows have a file .* share 0.49 .*nowhere.mp4.*--tpo_max_broken"):
        place.dataset()


def test_no_row_left(place: Place) -> None:
    place.options.tpo_max_broken = 1.0
    with pytest.raises(TPOError, match="no row is left"):
        place.dataset(ROW | {"video": "nowhere.mp4"})


def test_an_error_names_ten(place: Place) -> None:
    with pytest.raises(TPOError) as caught:
        place.dataset(*(ROW | {"id": f"<{index}>", "video": "nowhere.mp4"} for index in range(13)))
    assert str(caught.value).count("no such file") == 10
    assert "and 3 more" in str(caught.value)


def test_probes_are_kept_until_the_file_changes(place: Place) -> None:
    cache = Path(place.options.output_dir) / data.PROBED
    assert len(place.dataset(ROW, ROW)) == 2
    known = json.loads(cache.read_text())
    path = str(place.folder / "good.mp4")
    assert known == {path: {"file": [os.stat(path).st_size, os.stat(path).st_mtime_ns], "error": None}}
    known[path]["error"] = "what the file says"
    cache.write_text(json.dumps(known))
    with pytest.raises(TPOError, match="what the file says"):
        place.dataset()
    os.utime(path, (1, 1))
    assert len(place.dataset()) == 2
    cache.write_text("torn {")
    assert len(place.dataset()) == 2
    assert json.loads(cache.read_text())[path]["error"] is None


def test_probing_does_not_import_the_main_module(place: Place) -> None:
    """A script as upstream's, without guard for its imports: decoder processes must not run it again."""
    script = place.folder / "script.py"
    script.write_text(
        "import sys\nfrom pathlib import Path\n\n"
        "from tpo_plugin.integrations.llava_family.video_check import broken_videos\n\n"
        "with open('runs', 'a') as runs:\n    runs.write('x')\n"
        "print(broken_videos(['good.mp4'], Path('cache.json')))\n"
    )
    done = subprocess.run([sys.executable, script], cwd=place.folder, capture_output=True, text=True, check=True)
    assert done.stdout == "{}\n"
    assert (place.folder / "runs").read_text() == "x"


def test_a_file_lost_in_training_is_replaced_and_counted(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.video("lost.mp4")
    dataset = place.dataset(*(ROW | {"id": str(index), "video": "lost.mp4"} for index in range(2)), *[ROW] * 2)
    lost = [index for index, row in enumerate(dataset.list_data_dict) if row["video"] == "lost.mp4"]
    (place.folder / "lost.mp4").unlink()
    with caplog.at_level(logging.WARNING, "tpo_plugin"):
        for _ in range(3):  # once, however often it fails
            assert all(item["id"] == "a" for item in dataset)
    messages = [record.getMessage() for record in caplog.records]
    assert sum("one more try" in message for message in messages) == len(messages) / 2
    assert any(message.startswith("0: ") and message.endswith("the next row stands in for it") for message in messages)
    assert len(set(Path(place.options.output_dir, data.FAILED).read_text().splitlines())) == len(lost) == 2
    place.options.tpo_max_broken = 0.49
    (place.folder / "lost.mp4").write_bytes((place.folder / "good.mp4").read_bytes())
    again = place.dataset()
    assert not Path(place.options.output_dir, data.FAILED).exists()  # a new run counts anew
    (place.folder / "lost.mp4").unlink()
    with pytest.raises(TPOError, match="2 of 4 rows have a file that cannot be read"):
        [again[index] for index in range(4)]


def test_a_second_try_helps(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = place.dataset(ROW)
    path = place.folder / "good.mp4"
    path.rename(place.folder / "away.mp4")
    original = Reader.__init__

    def back(self: Reader, name: str, ctx: object) -> None:
        try:
            original(self, name, ctx)
        finally:
            if not path.exists():
                (place.folder / "away.mp4").rename(path)

    monkeypatch.setattr(Reader, "__init__", back)
    assert dataset[0]["id"] == "a"
    assert not Path(place.options.output_dir, data.FAILED).exists()


def test_nothing_left_to_stand_in(place: Place) -> None:
    place.options.tpo_max_broken = 1.0
    dataset = place.dataset(ROW, ROW)
    (place.folder / "good.mp4").unlink()
    with pytest.raises(TPOError, match=r"no row of .* can be read"):
        dataset[1]


def test_loader_workers_count_together(place: Place) -> None:
    for index in range(4):
        place.video(f"{index}.mp4")
    dataset = place.dataset(*(ROW | {"id": str(index), "video": f"{index}.mp4"} for index in range(4)), ROW)
    for index in range(4):
        (place.folder / f"{index}.mp4").unlink()
    # Of 5 rows 2 may fail; each of 4 workers reads one or two, so none sees 3 failures of its own unless its next rows fail as well.
    loader = DataLoader(dataset, batch_size=1, num_workers=4, collate_fn=list)
    with pytest.raises(TPOError, match="of 5 rows have a file that cannot be read"):
        list(loader)
    assert len(set(Path(place.options.output_dir, data.FAILED).read_text().splitlines())) >= 3


def test_a_broken_picture_counts_as_a_broken_video_does(place: Place) -> None:
    (place.folder / "a.png").write_bytes(b"no picture")
    dataset = place.dataset({**ROW, "id": "picture", "image": "a.png"}, ROW)
    assert [item["id"] for item in dataset] == ["a", "a"]
    assert "picture: a picture cannot be read" in Path(place.options.output_dir, data.FAILED).read_text()


def test_folder_of_frames(place: Place) -> None:
    from PIL import Image

    folder = place.folder / "frames"
    folder.mkdir()
    for index in range(19):
        Image.new("RGB", (4, 4), (index, 0, 0)).save(folder / f"{index:02}.png")
    clip = frames.read_clip(str(folder), Reader, frames.Sampling(1, 4))
    assert [picture.getpixel((0, 0))[0] for picture in clip.frames] == list(range(0, 19, 2))  # 10 of 0..18
    assert (clip.seconds, clip.times[1]) == (9.5, 1.0)
    clip = frames.read_clip(str(folder), Reader, frames.Sampling(1, 4, always=True))
    assert [picture.getpixel((0, 0))[0] for picture in clip.frames] == [0, 6, 12, 18]
    (folder / "00.png").write_bytes(b"x")
    with pytest.raises(VideoError, match="a frame cannot be read"):
        frames.read_clip(str(folder), Reader, frames.Sampling(1, 4))


def test_all_frames_of_a_video_are_warned_of_once(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.data_args.frames_upbound = 0
    with caplog.at_level(logging.WARNING, "tpo_plugin"):
        dataset = place.dataset(ROW, ROW)
        assert [item["image"][0][0].shape[0] for item in dataset] == [3, 3]
    assert [record.getMessage()[:24] for record in caplog.records] == ["--frames_upbound is 0: e"]


RANK = """
import sys
from pathlib import Path
from types import SimpleNamespace

from torch import distributed

from tpo_plugin.integrations.llava_family.data import drop_broken

rank, folder = int(sys.argv[1]), Path(sys.argv[2])
distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
rows = [{"id": str(index), "video": name} for index, name in enumerate(["good.mp4", "late.mp4"])]
kept, failed = drop_broken(rows, SimpleNamespace(video_folder=str(folder)), folder / f"out {rank}", 0.5)
print(rank, [row["id"] for row in kept], (folder / "out 1").exists())
distributed.destroy_process_group()
"""


def test_every_rank_has_the_list_of_rank_0(place: Place) -> None:
    """Only rank 0 looks at the files, although they do not share an output folder here."""
    (place.folder / "rank.py").write_text(RANK)
    command = [sys.executable, place.folder / "rank.py"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen([*command, str(rank), place.folder], stdout=subprocess.PIPE, text=True, env=environment)
        for rank in (0, 1)
    ]
    printed = [process.communicate(timeout=120)[0].splitlines()[-1] for process in started]
    assert printed == ["0 ['0'] False", "1 ['0'] False"]


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


def test_probe_process_reports_all(place: Place) -> None:
    (place.folder / "noise.mp4").write_bytes(b"no video" * 100)
    found = video_check.broken_videos(
        [str(place.folder / name) for name in ("good.mp4", "noise.mp4", "good.mp4")], place.folder / "cache.json"
    )
    assert list(found) == [str(place.folder / "noise.mp4")]
