"""What is wrong with the data is said before, or at least by name while, a model is trained."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from tpo_plugin.errors import TPOError
from tpo_plugin.integrations.huggingface import load_processor
from tpo_plugin.options import FrameOptions
from tpo_plugin.training.data import PairCollator, TrainingPairs
from tpo_plugin.training.run import train


def edited(data, folder, change):
    """A copy of the data set in `folder` with `change` applied to its rows."""
    shutil.copytree(data.parent, folder)
    rows = json.loads(data.read_text())
    change(rows)
    (folder / "pairs.json").write_text(json.dumps(rows))
    return folder / "pairs.json"


def test_a_missing_video_is_an_error_before_a_model_is_loaded(make_recipe, data, tmp_path):
    pairs = edited(data, tmp_path / "data", lambda rows: rows[3].update(video="gone.mp4"))
    with pytest.raises(TPOError, match=r"1 of the pairs' videos .*gone\.mp4; set `video_root`"):
        train(make_recipe(data=str(pairs), model="./no/such/model"))


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "the file has zero bytes"), (b"not a video", "not a video that FFmpeg can read")]
)
def test_a_file_that_is_no_video_is_an_error_before_a_model_is_loaded(make_recipe, data, tmp_path, content, reason):
    pairs = edited(data, tmp_path / "data", lambda rows: None)
    (pairs.parent / "video 1.mp4").write_bytes(content)
    with pytest.raises(
        TPOError, match=rf"row pair1: .*video 1\.mp4: {reason}.*take the rows with the video video 1\.mp4"
    ):
        train(make_recipe(data=str(pairs), model="./no/such/model"))


def test_a_video_that_breaks_in_the_middle_names_its_row(make_recipe, base, data, tmp_path):
    pairs = edited(data, tmp_path / "data", lambda rows: None)
    broken = pairs.parent / "video 2.mp4"
    content = broken.read_bytes()
    start = content.index(b"mdat") + 4
    wreck = start + (content.index(b"moov") - start) // 3
    broken.write_bytes(
        content[:wreck] + bytes(content.index(b"moov") - 4 - wreck) + content[content.index(b"moov") - 4 :]
    )
    collator = PairCollator(TrainingPairs.of_recipe(make_recipe(data=str(pairs))), load_processor(str(base)), True)
    collator([{"row": 0}])
    with pytest.raises(TPOError, match=r"row pair2: .*video 2\.mp4.*mend the file, or take the rows"):
        collator([{"row": 2}])


def test_a_response_that_would_be_cut_names_row_and_cure(make_recipe, base):
    recipe = make_recipe()
    pairs, processor = TrainingPairs.of_recipe(recipe), load_processor(str(base))
    lengths = [PairCollator(pairs, processor, True).encode(row).length for row in range(len(pairs))]
    longest = max(range(len(pairs)), key=lengths.__getitem__)
    message = rf"row pair{longest}: .* {lengths[longest]} tokens .*`max_length` is {lengths[longest] - 1}.*raise `max_length`, or"
    pairs.check_lengths(processor, lengths[longest])  # all fit exactly
    with pytest.raises(TPOError, match=message):
        pairs.check_lengths(processor, lengths[longest] - 1)
    with pytest.raises(TPOError, match=message):
        PairCollator(pairs, processor, True, lengths[longest] - 1).encode(longest)
    with pytest.raises(TPOError, match=r"raise `max_length`"):
        train(make_recipe(max_length=lengths[longest] - 1))


def test_frames_and_time_instruction_are_the_recipes(make_recipe):
    frames = FrameOptions(fps=0.5, max=3, time_instruction=True)
    pairs = TrainingPairs.of_recipe(make_recipe(frames=frames))
    prompt = pairs.prompt(0)  # 4 s at one frame in 2 s; 9 s would be 4.5 frames, the most is 3
    assert (prompt.frames.shape, prompt.times, prompt.seconds) == ((2, 32, 32, 3), (1.0, 3.0), 4.0)
    assert prompt.text.startswith("The video lasts for 4.00 seconds, and 2 frames are uniformly sampled from it.")
    assert prompt.text.endswith(pairs.rows[0].prompt)
    assert len(pairs.prompt(3).frames) == 3


def test_a_draw_has_the_recipes_ratio_is_nested_and_depends_on_the_seed(make_recipe):
    def drawn(**changes) -> list[str]:
        return [row.id for row in TrainingPairs.of_recipe(make_recipe(**changes)).rows]

    three, six = drawn(max_pairs=3), drawn(max_pairs=6)
    assert (len(three), len(six)) == (3, 6)
    assert set(three) < set(six)
    assert six == sorted(six), "in the order of the file"
    assert len({tuple(drawn(max_pairs=3, seed=seed)) for seed in range(5)}) > 1
    ratio = {"localized": 3.0, "comprehensive": 1.0}  # of 4 and 4
    assert [int(name[-1]) % 2 for name in drawn(max_pairs=4, ratio=ratio)].count(0) == 3
    assert {int(name[-1]) % 2 for name in drawn(ratio={"comprehensive": 1.0})} == {1}
    with pytest.raises(
        TPOError, match=r"6 pairs in the ratio localized 3 : comprehensive 1 .* there are 4 localized, 4 c"
    ):
        drawn(max_pairs=6, ratio=ratio)
    with pytest.raises(TPOError, match="9 pairs are asked for and there are 8"):
        drawn(max_pairs=9)


def test_sequences_are_the_prompt_as_it_is_generated_from_and_then_the_response(make_recipe, base):
    processor = load_processor(str(base))
    collator = PairCollator(TrainingPairs.of_recipe(make_recipe()), processor, True)
    batch = collator([{"row": 0}, {"row": 1}, {"row": 2}])  # 4, 6 and 6 frames
    assert [group["pairs"] for group in batch["groups"]] == [1, 2]
    assert batch["kinds"] == ["localized", "comprehensive", "localized"]
    group = batch["groups"][1]
    rows = [collator.pairs.rows[index] for index in (1, 2)]
    for index, (row, side) in enumerate([(row, side) for side in ("chosen", "rejected") for row in rows]):
        ids, labels = group["inputs"]["input_ids"][index], group["labels"][index]
        answer = f"{getattr(row, side)}<|im_end|>"
        assert processor.tokenizer.decode(ids[labels != -100]) == answer
        assert torch.equal(ids[labels != -100], labels[labels != -100])
        seen = processor.tokenizer.decode(ids[group["inputs"]["attention_mask"][index].bool()])
        video = "<video>" * (6 * 4 + 1)
        assert seen == f"<|im_start|>user\n{video}\n{row.prompt}<|im_end|>\n<|im_start|>assistant\n{answer}"
