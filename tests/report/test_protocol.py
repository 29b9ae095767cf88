"""What differs in protocol: between runs, and from the papers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tpo_plugin.records import write_json
from tpo_plugin.report.answers import Model, Results, combine, load_all
from tpo_plugin.report.papers import papers
from tpo_plugin.report.protocol import MOST_LINES, between_folders, between_models, section

Writer = Callable[..., Path]
ROWS = [{"task": "videomme", "id": "0", "video": "0", "answer": "A"}]


def change(folder: Path, cells: dict[str, Any], **facts: Any) -> Path:
    """The same folder with other facts, of the run and of its cells."""
    results = json.loads((folder / "results.json").read_text())
    results["cells"] = [cell | cells for cell in results["cells"]]
    write_json(folder / "results.json", results | facts)
    return folder


def two(
    write_answers: Writer, tmp_path: Path, cells: dict[str, Any], **facts: Any
) -> tuple[list[Model], list[Results]]:
    """Folders `one` with the model a, and `two` with b, which was run with other facts."""
    same = {"dtype": "float32", "versions": {"torch": "2.13.0"}, "wrapper": {"model": "tpo_hf", "args": {}}, "seed": 0}
    one = write_answers(tmp_path / "one", {"a": (ROWS, [1])}, **same)
    other = change(write_answers(tmp_path / "two", {"b": (ROWS, [1])}, **same), cells, **facts)
    folders = load_all({"one": one, "two": other})
    return combine(folders), folders


def test_runs_alike_are_said_to_be_alike(write_answers: Writer, tmp_path: Path) -> None:
    models, folders = two(write_answers, tmp_path, {})
    assert between_models(models) == []
    assert between_folders(folders) == []
    assert "All models were run alike" in section(models, folders, [])


def test_every_setting_that_differs_is_listed_with_its_models(write_answers: Writer, tmp_path: Path) -> None:
    models, _ = two(
        write_answers,
        tmp_path,
        {"prompts": "00ff", "unreadable": 2, "generation": {"max_new_tokens": 32}},
        dtype="bfloat16",
        versions={"torch": "2.14.0"},
        data_digest={"videomme": "aa"},
        wrapper={"model": "llava_vid", "args": {"mm_spatial_pool_mode": "average", "add_time_instruction": True}},
    )
    assert {name: text for name, _, text in between_models(models)} == {
        "pooling": "not recorded (a); average (b)",
        "time instruction": "not recorded (a); yes (b)",
        "prompts (hash)": "feedbeef (a); 00ff (b)",
        "generation": "max_new_tokens 16 (a); max_new_tokens 32 (b)",
        "wrapper": "tpo_hf (a); llava_vid (b)",
        "versions": "torch 2.13.0 (a); torch 2.14.0 (b)",
        "number format": "float32 (a); bfloat16 (b)",
        "unreadable videos": "0 (a); 2 (b)",
        "data (hash)": "not recorded (a); aa (b)",
    }
    assert {of for _, of, _ in between_models(models)} == {"videomme"}


def test_what_the_wrapper_used_counts_more_than_what_it_was_asked_for(write_answers: Writer, tmp_path: Path) -> None:
    used = {"model": "llava_video_tpo", "mm_spatial_pool_mode": "bilinear", "dtype": "bfloat16"}
    models, _ = two(write_answers, tmp_path, {"wrapper": used}, dtype="auto")
    found = {name: text for name, _, text in between_models(models)}
    assert found["number format"] == "float32 (a); bfloat16 (b)"
    assert found["pooling"] == "not recorded (a); bilinear (b)"
    assert found["wrapper"] == "tpo_hf (a); llava_video_tpo (b)"


def test_whatever_else_the_wrappers_recorded_differently_is_listed(write_answers: Writer, tmp_path: Path) -> None:
    """Facts without a setting of their own; those that belong to the model or stand in a setting are not repeated."""
    one = {"model": "longva_tpo", "sampler": "shared", "frame_size": {"height": 336, "width": 336}, "checkpoint": "x"}
    two = {"model": "longva_tpo", "sampler": "upstream", "frame_size": {"height": 336, "width": 384}, "stride": 2}
    folders = load_all(
        {
            "one": change(write_answers(tmp_path / "one", {"a": (ROWS, [1])}), {"wrapper": one}),
            "two": change(write_answers(tmp_path / "two", {"b": (ROWS, [1])}), {"wrapper": two | {"checkpoint": "y"}}),
            "three": write_answers(tmp_path / "three", {"c": (ROWS, [1])}),  # a wrapper that tells nothing
        }
    )
    assert {name: text for name, _, text in between_models(combine(folders)) if name != "wrapper"} == {
        "wrapper: sampler": "shared (a); upstream (b)",
        "wrapper: frame_size.width": "336 (a); 384 (b)",
        "wrapper: stride": "not recorded (a); 2 (b)",
    }


def test_a_prompt_variant_is_the_same_benchmark(write_answers: Writer, tmp_path: Path) -> None:
    variant = [ROWS[0] | {"task": "videomme_prompt_llava_vid"}]
    other = change(write_answers(tmp_path / "two", {"b": (variant, [1])}), {"prompts": "00ff"})
    models = combine(load_all({"one": write_answers(tmp_path / "one", {"a": (ROWS, [1])}), "two": other}))
    assert between_models(models) == [("prompts (hash)", "videomme", "feedbeef (a); 00ff (b)")]


def test_numbers_of_frames_and_questions_differ_cell_by_cell(write_answers: Writer, tmp_path: Path) -> None:
    more = [*ROWS, ROWS[0] | {"id": "1"}]
    folders = load_all(
        {
            "one": write_answers(tmp_path / "one", {"a": (ROWS, [1]), "b": (ROWS, [1])}, frames=8),
            "two": write_answers(tmp_path / "two", {"c": (more, [1, 1])}, frames=16),
        }
    )
    found = {name: text for name, _, text in between_models(combine(folders))}
    assert found == {"frames at most": "8 (a and b); 16 (c)", "questions": "1 (a and b); 2 (c)"}


def test_anything_else_that_folders_recorded_differently(write_answers: Writer, tmp_path: Path) -> None:
    models, folders = two(write_answers, tmp_path, {}, seed=1, data="elsewhere", new={"deep": {"option": 3}})
    assert between_folders(folders) == ["two: seed: 0 -> 1", "two: new: None -> {'deep': {'option': 3}}"]
    many = {f"option {at}": at for at in range(MOST_LINES + 7)}
    _, folders = two(write_answers, tmp_path, {}, **many)
    assert "and 7 more" in section(models, folders, [])


def rows(html: str) -> list[list[str]]:
    """The texts of all table rows."""
    found = re.findall(r"<tr>(.*?)</tr>", html)
    return [[re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", one)] for one in found]


def test_against_the_papers(write_answers: Writer, tmp_path: Path) -> None:
    used = {"wrapper": {"model": "longva_tpo", "tokens_per_frame": 144}}
    folder = change(write_answers(tmp_path, {"mine": (ROWS, [1])}, frames=128), used)
    folders = load_all({"": folder})
    html = section(combine(folders), folders, papers())
    listed = rows(html)
    videomme = "Video-MME without subtitles"
    assert ["frames at most", videomme, "128", "128 (the same)", "96 (differs)"] in listed
    assert ["tokens a frame", videomme, "144", "144 (the same)", "not stated in the paper"] in listed
    assert ["subtitles", videomme, "none", "none (the same)", "none (the same)"] in listed
    assert ["questions", videomme, "1", "2,700 (differs)", "2,700 (differs)"] in listed
    assert ["frames at most", "Video-MME", "128", "64 (differs)"] in listed  # TEMPLE
    (first, *_) = re.findall(r"Not stated in the paper: (.*?)\.</p>", html)
    assert {"pooling", "newline tokens", "time instruction", "wrapper", "versions"} <= set(first.split(", "))


def test_no_limit_is_not_the_same_as_not_recorded(write_answers: Writer, tmp_path: Path) -> None:
    """TEMPLE states 250,000 pixels a frame: a wrapper that records no limit differs, one that records nothing is to be looked at."""
    used = {"wrapper": {"model": "tpo_hf", "max_pixels": None}}
    folders = {
        "one": change(write_answers(tmp_path / "one", {"a": (ROWS, [1])}), used),
        "two": write_answers(tmp_path / "two", {"b": (ROWS, [1])}),
    }
    unlimited, unknown = (load_all({name: path}) for name, path in folders.items())
    limit = ["pixels a frame at most", "Video-MME"]
    assert [*limit, "no limit", "250,000 (differs)"] in rows(section(combine(unlimited), unlimited, papers()))
    assert [*limit, "not recorded", "250,000 (compare)"] in rows(section(combine(unknown), unknown, papers()))
    found = {name: text for name, _, text in between_models(combine(load_all(folders)))}
    assert found["pixels a frame at most"] == "no limit (a); not recorded (b)"


def test_a_setting_that_was_not_recorded_is_not_called_different(write_answers: Writer, tmp_path: Path) -> None:
    folders = load_all({"": write_answers(tmp_path, {"mine": (ROWS, [1])})})
    listed = rows(section(combine(folders), folders, papers()))
    assert [
        "tokens a frame",
        "Video-MME without subtitles",
        "not recorded",
        "144 (compare)",
        "not stated in the paper",
    ] in listed
