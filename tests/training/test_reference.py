"""The reference's log-probabilities on disk: computed once, never taken from another setting, shared by all ranks."""

from __future__ import annotations

import fcntl
import json
import math
import resource
import shutil
from dataclasses import replace

import pytest
import torch

from tpo_plugin.cli import main
from tpo_plugin.errors import RecipeError, TPOError
from tpo_plugin.options import FrameOptions, LoraOptions, ObjectiveOptions
from tpo_plugin.recipe import save
from tpo_plugin.training.arguments import training_arguments
from tpo_plugin.training.data import TrainingPairs
from tpo_plugin.training.policies import hf_tree
from tpo_plugin.training.policies.hf import score
from tpo_plugin.training.reference import TREE_PAIRS, complete
from tpo_plugin.training.reference_table import Key, Table, lookup
from tpo_plugin.training.run import build_trainer, reference, train

SETTING = {"weights": "abc", "frames": "8", "dtype": "float32"}
KEYS = [Key(f"pair{index}", f"content{index}") for index in range(7)]
VIDEOS = [0, 1, 2, 0, 1, 2, 0]


def values(index):
    return (-math.pi * (index + 1), -math.e / (index + 1))


def scorer(calls, failing=None):
    """A score function that notes the lists that it was given."""

    def score(units):
        for unit in units:
            calls.append(list(unit))
            if failing in unit:
                raise TPOError(f"row {failing} is broken")
            yield [values(index) for index in unit]

    return score


def run(file, keys=KEYS, setting=SETTING, videos=VIDEOS):
    calls = []
    return complete(file, setting, keys, videos, scorer(calls)), calls


def test_what_was_computed_is_read_to_the_last_digit(tmp_path):
    found, calls = run(tmp_path / "new" / "reference.jsonl")
    assert calls == [[0, 3, 6], [1, 4], [2, 5]]
    assert found.dtype == torch.float64
    assert found.tolist() == [list(values(index)) for index in range(7)]
    before = (tmp_path / "new" / "reference.jsonl").read_bytes()
    again, calls = run(tmp_path / "new" / "reference.jsonl")
    assert calls == []
    assert torch.equal(again, found)
    assert (tmp_path / "new" / "reference.jsonl").read_bytes() == before


def test_only_what_is_new_or_changed_is_computed(tmp_path):
    file = tmp_path / "reference.jsonl"
    run(file, KEYS[:3], videos=VIDEOS[:3])
    changed = [*KEYS[:4], replace(KEYS[4], content="another"), *KEYS[5:]]
    found, calls = run(file, changed)
    assert calls == [[3, 6], [4], [5]]
    assert found.tolist() == [list(values(index)) for index in range(7)]
    found, calls = run(file, [KEYS[2], KEYS[0]], videos=[2, 0])
    assert calls == []
    assert found.tolist() == [list(values(2)), list(values(0))]


def test_a_video_with_very_many_pairs_is_cut(tmp_path):
    keys = [Key(f"{index}", "") for index in range(TREE_PAIRS + 3)]
    _, calls = run(tmp_path / "reference.jsonl", keys, videos=[0] * len(keys))
    assert [len(unit) for unit in calls] == [TREE_PAIRS, 3]


@pytest.mark.parametrize("part", SETTING)
def test_another_setting_is_named(tmp_path, part):
    run(tmp_path / "reference.jsonl")
    with pytest.raises(
        TPOError, match=rf"\({part}: {SETTING[part]} there, other here\): name another folder .* delete the file"
    ):
        run(tmp_path / "reference.jsonl", setting={**SETTING, part: "other"})


def test_a_part_more_is_another_setting(tmp_path):
    run(tmp_path / "reference.jsonl")
    with pytest.raises(TPOError, match="attention: None there, sdpa here"):
        run(tmp_path / "reference.jsonl", setting={**SETTING, "attention": "sdpa"})


def test_torn_at_every_byte(tmp_path):
    file = tmp_path / "reference.jsonl"
    found, _ = run(file)
    whole = file.read_bytes()
    for cut in range(len(whole)):
        file.write_bytes(whole[:cut])
        again, calls = run(file)
        lines = max(whole[:cut].count(b"\n") - 1, 0)
        assert sum(map(len, calls)) == 7 - lines
        assert torch.equal(again, found)


def test_a_killed_pass_keeps_what_it_had(tmp_path):
    file = tmp_path / "reference.jsonl"
    with pytest.raises(TPOError, match="row 4 is broken"):
        complete(file, SETTING, KEYS, VIDEOS, scorer([], failing=4))
    _, calls = run(file)
    assert calls == [[1, 4], [2, 5]]


@pytest.mark.parametrize("line", [1, 3])
@pytest.mark.parametrize("damage", [b"{half\n", b"[]\n", b'{"id": 1}\n', b"\xff\n"])
def test_a_damaged_line_is_named(tmp_path, line, damage):
    file = tmp_path / "reference.jsonl"
    run(file)
    lines = file.read_bytes().splitlines(keepends=True)
    lines[line - 1] = damage
    file.write_bytes(b"".join(lines))
    with pytest.raises(TPOError, match=rf"line {line} is damaged: delete the line"):
        run(file)


def test_missing_rows_are_counted(tmp_path):
    known = dict.fromkeys(KEYS[:5], (0.0, 0.0))
    with pytest.raises(TPOError, match=r"of 5 of 7 pairs, 2 are missing: `tpo reference RECIPE` computes them"):
        lookup(known, KEYS, tmp_path)


def test_what_is_no_number_is_not_kept(tmp_path):
    with (
        Table(tmp_path / "reference.jsonl", SETTING) as table,
        pytest.raises(TPOError, match=r"row pair1: .* nan \(rejected\)"),
    ):
        table.add([(KEYS[0], (-1.0, -2.0)), (KEYS[1], (-1.0, math.nan))])
    _, calls = run(tmp_path / "reference.jsonl")
    assert sum(map(len, calls)) == 7


def test_two_passes_do_not_write_one_file(tmp_path):
    with (tmp_path / "reference.jsonl").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(TPOError, match="another run is computing"):
            run(tmp_path / "reference.jsonl")


def test_a_folder_that_cannot_be_written_and_a_full_disk_are_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TPOError, match=r"cannot write .*; name another folder in `reference`"):
        run(tmp_path / "file" / "reference.jsonl")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (150, before[1]))
    try:
        with pytest.raises(TPOError, match=r"cannot write .*Free some space and run the same command again"):
            run(tmp_path / "reference.jsonl")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    found, _ = run(tmp_path / "reference.jsonl")
    assert found.shape == (7, 2)


def two_ranks(ranks, folder, failing="none"):
    ranks("table", folder, failing)
    return [json.loads((folder / f"rank{number}.json").read_text()) for number in range(2)]


def test_two_ranks_share_the_work_and_run_equally_many_forwards(ranks, tmp_path):
    first, second = two_ranks(ranks, tmp_path)
    assert first[0] == [[0, 3, 6], [2, 5]]
    assert second[0] == [[1, 4], [2, 5]]  # the last was repeated, to keep step with the other rank
    assert first[1] == second[1] == [[-float(index), -2.0 * index] for index in range(7)]
    assert len((tmp_path / "reference.jsonl").read_text().splitlines()) == 8
    again = two_ranks(ranks, tmp_path)
    assert again == [[[], first[1]]] * 2


@pytest.mark.parametrize("failing", ["0", "1"])
def test_an_error_of_one_rank_is_raised_on_both(ranks, tmp_path, failing):
    assert [outcome for _, outcome in two_ranks(ranks, tmp_path, failing)] == [f"row {failing} is broken"] * 2


def test_a_stale_file_is_an_error_on_both_ranks(ranks, tmp_path):
    run(tmp_path / "reference.jsonl", setting={"weights": "old"})
    assert all("weights: old there, abc here" in outcome for _, outcome in two_ranks(ranks, tmp_path))


@pytest.fixture
def forwards(monkeypatch):
    """Counts the forwards of trees, by whether they keep a graph."""
    counts = {True: 0, False: 0}
    embed = hf_tree.HFFamily.embed

    def counted(*arguments):
        counts[torch.is_grad_enabled()] += 1
        return embed(*arguments)

    monkeypatch.setattr(hf_tree.HFFamily, "embed", counted)
    return counts


def trainer_of(recipe):
    return build_trainer(recipe, training_arguments(recipe), TrainingPairs.of_recipe(recipe))


@pytest.mark.parametrize("lora", [None, LoraOptions(r=4, dropout=0.5)], ids=["full", "lora"])
def test_the_table_is_the_plain_models_scores(make_recipe, lora, forwards):
    fast = trainer_of(make_recipe(lora=lora))
    assert forwards == {True: 0, False: 4}  # four videos with two pairs each
    assert fast.ref_model is None
    plain = trainer_of(make_recipe(path="plain"))
    for row in range(8):
        with torch.no_grad():
            expected = score(plain.ref_model, plain.data_collator([{"row": row}])["groups"])
        wanted = [expected.chosen.item(), expected.rejected.item()]
        assert fast.reference[row].tolist() == pytest.approx(wanted, rel=1e-5)


def test_training_does_the_pass_once_and_another_objective_shares_it(make_recipe, tmp_path, forwards):
    shared = str(tmp_path / "shared")
    train(make_recipe(reference=shared))
    assert forwards == {True: 4, False: 4}
    other = make_recipe(
        reference=shared, output=str(tmp_path / "other"), objective=ObjectiveOptions(beta=0.1, gamma=0.0)
    )
    train(replace(other, lora=LoraOptions(r=2)))
    assert forwards == {True: 8, False: 4}
    assert not (tmp_path / "other" / "reference.jsonl").exists()


def test_the_command_does_the_pass_alone_and_training_reads_it(make_recipe, tmp_path, forwards, capsys):
    recipe = make_recipe()
    save(recipe, tmp_path)
    assert main(["reference", str(tmp_path / "recipe.yaml")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "out" / "reference.jsonl")
    assert forwards == {True: 0, False: 4}
    assert main(["reference", str(tmp_path / "recipe.yaml")]) == 0
    train(recipe)
    assert forwards == {True: 4, False: 4}


def test_a_smaller_set_computes_nothing_and_a_changed_row_one_forward(make_recipe, data, tmp_path, forwards):
    shared = str(tmp_path / "shared")
    reference(make_recipe(reference=shared))
    reference(make_recipe(reference=shared, max_pairs=3))
    assert forwards[False] == 4
    copy = tmp_path / "copy"
    shutil.copytree(data.parent, copy)
    reference(make_recipe(reference=shared, data=str(copy / "pairs.json")))
    assert forwards[False] == 4  # a copy is the same data
    (copy / "video 3.mp4").write_bytes((copy / "video 2.mp4").read_bytes())
    reference(make_recipe(reference=shared, data=str(copy / "pairs.json")))
    assert forwards[False] == 5  # both pairs of that video in one


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"frames": FrameOptions(fps=1.0, max=3)}, "frames"),
        ({"dtype": "bfloat16"}, "dtype"),
        ({"arguments": {"bf16": True}}, "dtype"),
        ({"attn_implementation": "eager"}, "attention"),
    ],
)
def test_a_table_of_another_recipe_is_an_error(make_recipe, tmp_path, change, part):
    reference(make_recipe())
    with pytest.raises(TPOError, match=rf"reference\.jsonl holds the reference .*\({part}: "):
        train(make_recipe(**change))


def test_a_resumed_run_computes_the_initial_models_reference(make_recipe, tmp_path):
    recipe = make_recipe(arguments={"save_steps": 2})
    train(recipe)
    file = tmp_path / "out" / "reference.jsonl"
    before = file.read_bytes()
    for name in ("done.json", "reference.jsonl"):
        (tmp_path / "out" / name).unlink()
    shutil.rmtree(tmp_path / "out" / "checkpoint-4")
    train(recipe)
    assert file.read_bytes() == before


def test_a_recipe_of_an_upstream_script_is_told_where_its_reference_comes_from(capsys):
    assert main(["reference", "llava_video/train"]) == 1
    assert "computes its reference itself: use `tpo train`" in capsys.readouterr().err


@pytest.mark.parametrize("change", [{"path": "plain"}, {"objective": ObjectiveOptions(dpo_alpha=0.0)}])
def test_a_recipe_without_a_table_is_told_so(make_recipe, change):
    with pytest.raises(RecipeError, match="needs no reference on disk"):
        reference(make_recipe(**change))
