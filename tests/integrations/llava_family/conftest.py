"""A script of the same shape as upstream's with a folder of files, for the data set of `--tpo`."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset

from tpo_plugin.integrations.llava_family import data
from tpo_plugin.video import write_video


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

    reader = Reader

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
