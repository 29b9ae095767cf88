"""The fast path gives upstream's numbers: in a step on trees of every shape, and in whole runs."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import transformers

WORKER = Path(__file__).with_name("fast.py")
REGISTERED = tuple(int(part) for part in transformers.__version__.split(".")[:2]) >= (4, 48)

# Eight pairs of one video: prompts and answers of different lengths, equal prompts, answers that begin alike or are part of each other.
PAIRS = [
    ("What shape is shown?", "A red circle, then a blue square.", "A square"),
    ("What shape is shown?", "A red circle.", "A red circle, then a blue square."),
    (
        "What shape is shown in the video, and then? And is the user shown a red one?",
        "A red",
        "A blue square, then red.",
    ),
    ("What?", "A", "B"),
    ("What shape is shown in blue?", "A square, a square, a square, a square, a square, a circle.", "A circle"),
    ("What shape is shown?", "You are shown a shape.", "In the video a shape is shown, then a circle."),
    ("Is a blue square shown?", "The video is a blue square, then a red circle.", "The video is a red circle."),
    ("What", "circle", "a circle and a circle and a circle and a circle"),
]


@pytest.fixture(scope="module")
def rows(world: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight pairs of one video, three of others, two of pictures, two of text alone."""
    written = [{"id": f"eight {place}", "video": "video 1.mp4"} for place in range(8)]
    written += [{"id": f"video {place}", "video": f"video {place}.mp4"} for place in (0, 2, 3)]
    written += [{"id": f"picture {place}", "image": f"picture {place}.png"} for place in range(2)]
    written += [{"id": f"text {place}"} for place in range(2)]
    for place, row in enumerate(written):
        prompt, chosen, rejected = PAIRS[place % 8]
        row |= {"prompt": prompt, "chosen": chosen, "rejected": rejected}
        row |= {"tpo": {"kind": "localized" if place % 2 else "comprehensive"}}
    file = tmp_path_factory.mktemp("rows") / "rows.json"
    file.write_text(json.dumps(written))
    return file


def work(world: Any, output: Path, case: str, **changes: object) -> dict[str, Any]:
    done = world.run(WORKER, world.checkout.path, case, *world.flags(output, **changes))
    assert done.returncode == 0, done.stdout[-4000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def launch(world: Any, output: Path, *launcher: str, **changes: object) -> Any:
    command = [*(launcher or ("-m", "tpo_plugin")), "train", "--upstream", world.checkout.path, "--"]
    return world.run(*command, *world.flags(output, **changes))


def train(world: Any, output: Path, *launcher: str, **changes: object) -> str:
    """A run that must succeed; what it printed."""
    done = launch(world, output, *launcher, **changes)
    assert done.returncode == 0, done.stdout[-4000:]
    text: str = done.stdout
    return text


def history(output: Path) -> list[dict[str, Any]]:
    """The logged steps of a finished run."""
    state = json.loads((output / "trainer_state.json").read_text())
    return [entry for entry in state["log_history"] if "loss" in entry]


SETTINGS: dict[str, dict[str, object]] = {
    "full": {},
    "reentrant checkpointing": {"gradient_checkpointing": True},
    "checkpointing": {
        "gradient_checkpointing": True,
        "gradient_checkpointing_kwargs": '{"use_reentrant": false}',
    },
    "lora": {"lora_enable": True, "lora_r": 4, "mm_tunable_parts": "mm_language_model"},
    "trained tower": {"mm_tunable_parts": "mm_vision_tower,mm_mlp_adapter,mm_language_model"},
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_loss_and_gradients_equal_upstreams(
    world: Any, rows: Path, tmp_path: Path, setting: str, same_steps: Any
) -> None:
    found = work(world, tmp_path, "parity", data_path=rows, beta=0.3, gamma=0.5, **SETTINGS[setting])
    same_steps(found)
    trees = {name: batch["trees"] for name, batch in found.items()}
    assert [trees[name] for name in ("a video", "two videos", "eight pairs", "mixed")] == [1, 2, 1, 4]
    assert found["mixed"]["ids"] == ["eight 0", "eight 1", "picture 0", "text 0", "video 0"], "in the trees' order"


@pytest.mark.skipif(not REGISTERED, reason="transformers before 4.48 needs a mask of (L, L)")
@pytest.mark.parametrize("checkpointing", [False, True])
def test_no_square_of_the_length_is_made(world: Any, rows: Path, tmp_path: Path, checkpointing: bool) -> None:
    found = work(
        world, tmp_path, "shapes", data_path=rows, frames_upbound=64, video_fps=8, gradient_checkpointing=checkpointing
    )
    assert found["length"] > 300
    assert found["square"] < found["length"] / 2
    assert found["forwards"] == 1


def test_the_reference_costs_one_forward_a_video_and_nothing_the_second_time(
    world: Any, rows: Path, tmp_path: Path
) -> None:
    found = work(world, tmp_path, "reference_rows", data_path=rows)
    assert found["first"] == {"tower": 8, "body": 8}, "4 videos, 2 pictures, 2 rows of text"
    assert found["second"] == {"tower": 0, "body": 0}


def test_a_row_whose_file_is_lost_has_no_reference_and_is_not_trained(world: Any, tmp_path: Path) -> None:
    rows = [{"id": str(place), "video": str(world.media / f"video {place}.mp4")} for place in range(4)]
    rows[2]["video"] = str(shutil.copy(world.media / "video 2.mp4", tmp_path))
    for row, (prompt, chosen, rejected) in zip(rows, PAIRS):
        row |= {"prompt": prompt, "chosen": chosen, "rejected": rejected}
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    found = work(world, tmp_path, "lost_file", data_path=tmp_path / "rows.json", tpo_max_broken=0.5)
    assert found["without"] == [2]
    assert found["lacking"] == [False, False, True, False]
    assert found["row"] == "3"
    assert math.isfinite(found["loss"])


def test_runs_on_both_paths_give_the_same_losses_and_resume_exactly(world: Any, tmp_path: Path) -> None:
    fast, plain, resumed = tmp_path / "fast", tmp_path / "plain", tmp_path / "resumed"
    first = train(world, fast, save_strategy="steps", save_steps=4)
    train(world, plain, tpo_path="plain")
    assert "reference log-probabilities of 10 pairs are computed" in first
    steps = history(fast)
    assert len(steps) == 10
    for left, right in zip(steps, history(plain), strict=True):
        assert left.keys() == right.keys()
        tie = abs(left["rewards/margins"]) < 1e-5  # the first step: which side of zero rounding falls on is chance
        for key in left.keys() - ({"rewards/accuracies"} if tie else set()):
            assert left[key] == pytest.approx(right[key], rel=1e-5, abs=1e-5), key

    (resumed / "checkpoint-4").parent.mkdir()
    shutil.copytree(fast / "checkpoint-4", resumed / "checkpoint-4")
    train(
        world, resumed, save_strategy="steps", save_steps=4
    )  # computes the reference with the initial weights, then loads
    assert [step["loss"] for step in history(resumed)] == [step["loss"] for step in steps]
    assert (resumed / "reference.jsonl").read_text() == (fast / "reference.jsonl").read_text()

    shutil.rmtree(fast / "checkpoint-10", ignore_errors=True)
    again = train(world, fast, save_strategy="steps", save_steps=4)
    assert "reference log-probabilities of 10 pairs come from" in again
    assert [step["loss"] for step in history(fast)] == [step["loss"] for step in steps]


def test_a_stale_table_is_refused(world: Any, tmp_path: Path) -> None:
    train(world, tmp_path, max_steps=1)
    done = launch(world, tmp_path, max_steps=1, frames_upbound=3)
    assert done.returncode == 1
    assert "frames: 4, 1 a second there, 3, 1 a second here" in done.stdout
    assert "Traceback" not in done.stdout


def test_pairs_of_a_video_come_together(world: Any, rows: Path, tmp_path: Path) -> None:
    """Both paths see the same batches, so the same losses; on the fast one a batch of four is one tree."""
    text = train(world, tmp_path, data_path=rows, per_device_train_batch_size=4, tpo_pairs_per_video=4)
    assert len(history(tmp_path)) == math.ceil(15 / 4)
    assert "Traceback" not in text


def test_two_processes_equal_one_with_twice_the_accumulation(world: Any, tmp_path: Path) -> None:
    train(world, tmp_path / "one", gradient_accumulation_steps=2, lora_enable=True, lora_r=4)
    torchrun = ("-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29583", "-m", "tpo_plugin")
    train(world, tmp_path / "two", *torchrun, ddp_find_unused_parameters=False, lora_enable=True, lora_r=4)
    one, two = ((tmp_path / name / "reference.jsonl").read_text().splitlines() for name in ("one", "two"))
    assert sorted(one) == sorted(two)
    for left, right in zip(history(tmp_path / "one"), history(tmp_path / "two"), strict=True):
        for key in ("rewards/margins", "logps/chosen", "ref_logps/rejected", "grad_norm", "rewards/margins/localized"):
            if key in left:
                assert right[key] == pytest.approx(left[key], rel=1e-4, abs=1e-6), key


@pytest.mark.skipif(REGISTERED, reason="from transformers 4.48 on every implementation works")
def test_flash_attention_is_refused_where_trees_need_a_mask(world: Any, tmp_path: Path) -> None:
    done = launch(world, tmp_path, attn_implementation="flash_attention_2")
    assert done.returncode == 1
    assert "needs --attn_implementation sdpa" in done.stdout
    assert "--tpo_path plain" in done.stdout
