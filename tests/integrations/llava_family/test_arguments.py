"""`--tpo` on the script's argument classes: merging of presets and flags, with transformers' own parser."""

from __future__ import annotations

import dataclasses
import logging
import pickle
import sys
from typing import Any

import pytest
from transformers import HfArgumentParser

from tpo_plugin.errors import TPOError
from tpo_plugin.integrations import llava_family
from tpo_plugin.integrations.llava_family.arguments import PRESETS, Asked, extend_arguments


@dataclasses.dataclass
class TrainingArguments:
    """The fields of the script's class that matter here, with upstream's defaults."""

    output_dir: str
    beta: float = 0.1
    dpo_alpha: float = 1.0
    gamma: float = dataclasses.field(default=1.0, metadata={"help": "SFT weight"})
    learning_rate: float = 5e-5
    lr_scheduler_type: str = "linear"
    warmup_ratio: float = 0.0
    num_train_epochs: float = 3.0
    per_device_train_batch_size: int = 8
    precompute_ref_log_probs: bool = False
    group_by_modality_length: bool = False

    def __post_init__(self) -> None:
        self.seen = self.beta


@dataclasses.dataclass
class DataArguments:
    data_path: str | None = None
    video_fps: int = 1
    frames_upbound: int = 0


ORIGINAL = (TrainingArguments, DataArguments)


@pytest.fixture(autouse=True)
def originals() -> Any:
    yield
    globals().update(TrainingArguments=ORIGINAL[0], DataArguments=ORIGINAL[1])


def parse(*argv: str) -> tuple[Any, Any]:
    """(training, data) arguments as the script would parse them after `attach`."""
    extend_arguments(globals(), Asked.of(argv))
    return HfArgumentParser((TrainingArguments, DataArguments)).parse_args_into_dataclasses(
        ["--output_dir", "out", *argv], look_for_args_file=False
    )


@pytest.mark.parametrize(
    ("argv", "tpo", "preset"),
    [
        ([], False, None),
        (["--beta", "1", "--tpo"], True, None),
        (["--tpo", "True", "--tpo_preset", "longva"], True, "longva"),
        (["--tpo=yes", "--tpo-preset=llava_video"], True, "llava_video"),
        (["--tpo", "False"], False, None),
        (["--tpo", "--tpo_preset", "unknown"], True, None),
        (["--tpo_force_sample", "True"], False, None),
    ],
)
def test_what_the_command_line_asks(argv: list[str], tpo: bool, preset: str | None) -> None:
    assert Asked.of(argv) == Asked(tpo, preset)


@pytest.mark.parametrize("argv", [[], ["--tpo"], ["--tpo", "True"]])
def test_upstream_defaults_stay_without_a_preset(argv: list[str]) -> None:
    training, data = parse(*argv)
    assert dataclasses.asdict(ORIGINAL[0]("out")).items() <= dataclasses.asdict(training).items()
    assert dataclasses.asdict(data) == dataclasses.asdict(ORIGINAL[1]())
    assert training.tpo is bool(argv)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_sets_every_value(preset: str) -> None:
    training, data = parse("--tpo", "--tpo_preset", preset)
    merged = dataclasses.asdict(training) | dataclasses.asdict(data)
    assert {name: merged[name] for name in PRESETS[preset]} == PRESETS[preset]
    assert training.seen == PRESETS[preset]["beta"], "the script's own __post_init__ sees the merged value"


def test_explicit_flags_win_also_with_the_old_default(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "tpo_plugin"):
        training, data = parse("--tpo", "--tpo_preset", "longva", "--beta", "0.1", "--frames_upbound", "16")
    assert (training.beta, training.gamma, data.frames_upbound) == (0.1, 0.5, 16)
    assert "beta 0.1 (preset: 0.3), dpo_alpha 1.0, gamma 0.5, learning_rate 4e-06" in caplog.text
    assert "frames_upbound 16 (preset: 128)" in caplog.text


def test_a_preset_has_no_effect_without_tpo() -> None:
    with pytest.raises(TPOError, match="--tpo_preset has no effect without --tpo"):
        parse("--tpo_preset", "longva")


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--tpo_force_sample", "True"], "--tpo_force_sample has no effect without --tpo"),
        (["--tpo", "--precompute_ref_log_probs", "True"], "makes the policy its own reference"),
        (["--tpo", "--dpo_alpha", "0", "--gamma", "0"], "both 0, so there is no loss"),
        (["--tpo", "--tpo_max_broken", "2"], "--tpo_max_broken must lie between 0 and 1"),
        (["--tpo_path", "plain"], "--tpo_path has no effect without --tpo"),
        (["--tpo", "--tpo_pairs_per_video", "0"], "must be at least 1, it is 0"),
        (["--tpo", "--tpo_pairs_per_video", "3"], "--per_device_train_batch_size 3 or a multiple of it, it is 8"),
        (["--tpo", "--tpo_pairs_per_video", "4", "--tpo_path", "plain"], "saves nothing on the plain path"),
        (["--tpo", "--tpo_pairs_per_video", "4", "--group_by_modality_length"], "both order the rows"),
    ],
)
def test_what_does_not_fit_is_refused(argv: list[str], text: str) -> None:
    with pytest.raises(TPOError, match=text):
        parse(*argv)


@pytest.mark.parametrize("argv", [["--tpo", "--tpo_pre", "longva"], ["--tpo_pre", "longva"]])
def test_abbreviations_are_refused(argv: list[str]) -> None:
    with pytest.raises(TPOError, match="must be written out"):
        parse(*argv)


def test_an_order_needs_no_other_option() -> None:
    training, _ = parse("--tpo", "--tpo_order", "hard_to_easy", "--tpo_path", "plain")
    assert (training.tpo_order, training.tpo_difficulty, training.tpo_reference_model) == ("hard_to_easy", None, None)


def test_pairs_of_a_video_fill_a_batch_or_a_part_of_one() -> None:
    training, _ = parse("--tpo", "--tpo_pairs_per_video", "4")
    assert (training.tpo_path, training.tpo_pairs_per_video, training.per_device_train_batch_size) == ("fast", 4, 8)


def test_an_unknown_preset_is_refused_by_the_parser(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse("--tpo", "--tpo_preset", "unknown")
    assert "longva" in capsys.readouterr().err


def test_a_preset_for_fields_that_the_script_lacks_is_refused() -> None:
    globals()["DataArguments"] = dataclasses.make_dataclass("DataArguments", [("data_path", str, None)])
    with pytest.raises(TPOError, match="no arguments frames_upbound, video_fps"):
        extend_arguments(globals(), Asked(True, "longva"))


def test_the_parsed_arguments_can_be_pickled() -> None:
    training, _ = parse("--tpo")
    assert pickle.loads(pickle.dumps(training)).tpo is True


def test_help_keeps_upstreams_and_adds_ours() -> None:
    extend_arguments(globals(), Asked.of(["--tpo", "--tpo_preset", "longva"]))
    text = " ".join(HfArgumentParser((TrainingArguments, DataArguments)).format_help().split())
    assert "SFT weight" in text
    assert "--tpo_time_instruction" in text
    assert "0.3" in text


def test_attach_refuses_a_script_of_another_structure(monkeypatch: pytest.MonkeyPatch) -> None:
    def train() -> Any:
        return TrainingArguments

    monkeypatch.setattr(sys, "argv", ["train_dpo.py"])
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    namespace = {"train": train}
    llava_family.attach(namespace)
    assert namespace == {"train": train}, "without --tpo it is left alone"
    monkeypatch.setattr(sys, "argv", ["train_dpo.py", "--tpo"])
    with pytest.raises(TPOError, match=r"train\(\) does not use DataArguments, get_model"):
        llava_family.attach(namespace)


def test_a_draw_of_the_rows_is_checked_before_anything_is_loaded() -> None:
    parsed, _ = parse("--tpo", "--tpo_max_pairs", "2000", "--tpo_ratio", "8:2")
    assert (parsed.tpo_max_pairs, parsed.tpo_ratio) == (2000, "8:2")


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--tpo", "--tpo_max_pairs", "0"], "--tpo_max_pairs must be at least 1"),
        (["--tpo", "--tpo_ratio", "8"], "--tpo_ratio is localized:comprehensive, such as 8:2; it is '8'"),
        (["--tpo", "--tpo_ratio", "0:0"], "`--tpo_ratio` needs shares of 0 or more that do not sum to 0"),
        (["--tpo_ratio", "8:2"], "--tpo_ratio has no effect without --tpo"),
        (
            ["--tpo", "--tpo_difficulty", "easy"],
            "--tpo_difficulty is a level or several, such as 16 or 16,8; it is 'easy'",
        ),
        (["--tpo_difficulty", "16"], "--tpo_difficulty has no effect without --tpo"),
        (
            ["--tpo", "--tpo_order", "easy_to_hard", "--group_by_modality_length"],
            "--tpo_order and --group_by_modality_length both",
        ),
        (
            ["--tpo", "--dpo_alpha", "0", "--tpo_reference_model", "base"],
            "--tpo_reference_model has no effect with --dpo_alpha 0",
        ),
    ],
)
def test_a_draw_that_makes_no_sense(flags: list[str], says: str) -> None:
    with pytest.raises(TPOError, match=says):
        parse(*flags)
