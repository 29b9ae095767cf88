"""The benchmarks of the papers in their own schemas, a few questions each (Vinoground: all, its score needs them), about one video.

Every question has a number in its text, by which an oracle finds the answer. Video-MME and MLVU come from the tiny world.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet

TEMPCOMPASS = ("multi-choice", "yes_no", "caption_matching", "captioning")
ASPECTS = ("action", "speed", "direction", "order", "attribute_change")
FONT = '<font color="white" size=".72c">{}</font>'


def write(folder: Path, video: Path) -> dict[str, dict[str, tuple[str, str]]]:
    """Write the files below `folder`; for each task of lmms-eval a right and a wrong answer by the mark in the question's text."""
    return {
        "longvideobench_val_v": _longvideobench(folder, video),
        **_tempcompass(folder, video),
        "vinoground": _vinoground(folder, video),
        "egoschema_subset": _egoschema(folder, video),
        "perceptiontest_val_mc": _perceptiontest(folder, video),
    }


def write_subtitles(folder: Path, video_id: str) -> None:
    """Video-MME's subtitles of one video: three lines, the first two in its first four seconds."""
    lines = [(0, 2, "first line"), (2, 4, "second line"), (600, 602, "after the end")]
    text = "".join(
        f"{number}\n00:{start // 60:02}:{start % 60:02},000 --> 00:{end // 60:02}:{end % 60:02},000\n{FONT.format(line)}\n\n"
        for number, (start, end, line) in enumerate(lines, 1)
    )
    path = folder / "videomme" / "subtitle" / f"{video_id}.srt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _longvideobench(folder: Path, video: Path) -> dict[str, tuple[str, str]]:
    _copy(video, folder / "datasets/longvideobench/videos/a.mp4")
    rows = [
        {
            "id": f"a_{number}",
            "video_path": "a.mp4",
            "question": f"Question <{number}>?",
            **{f"option{place}": f"option {place}" if place < 4 else "N/A" for place in range(5)},
            "correct_choice": number % 4,
            "duration": 4.0,
            "duration_group": (15, 600)[number % 2],
            "question_category": ("S2E", "TOS")[number % 2],
            "subtitle_path": "a.json",
        }
        for number in range(4)
    ]
    _rows(folder / "longvideobench/LongVideoBench", "validation", rows)
    return {f"<{number}>": ("ABCD"[number], "ABCD"[number - 1]) for number in range(4)}


def _tempcompass(folder: Path, video: Path) -> dict[str, dict[str, tuple[str, str]]]:
    _copy(video, folder / "tempcompass/videos/1.mp4")
    root, found = folder / "lmms-eval/TempCompass", {}
    for form in TEMPCOMPASS:
        rows, answers = [], {}
        for number, aspect in enumerate(ASPECTS):
            question, right, wrong = {
                "multi-choice": (f"Which <{number}>?\nA. up\nB. down", "B. down", "A"),
                "yes_no": (f"Is it <{number}>?", "yes", "no"),
                "caption_matching": (f"Which caption <{number}>?\nCaption A: up\nCaption B: down", "Caption B: down", "Caption A"),
                "captioning": (f"Describe <{number}>.", "It moves down.", "It moves up."),
            }[form]  # fmt: skip
            asked = (
                {"mc_question": "Which way?\nA. up\nB. down", "mc_answer": "B. down"} if form == "captioning" else {}
            )
            rows.append({"video_id": "1", "question": question, "answer": right, "dim": aspect, **asked})
            answers[f"<{number}>"] = (right, wrong)
        _rows(root / form, "test", rows)
        found[f"tempcompass_{form.replace('-', '_')}"] = answers
    _configs(root, TEMPCOMPASS, "test")
    return found


def _vinoground(folder: Path, video: Path) -> dict[str, tuple[str, str]]:
    rows, answers, lists = [], {}, {"text": [], "video": []}
    for number in range(500):
        for side in ("pos", "neg"):
            for form, listed in lists.items():
                mark, right = f"<{number}_{side}_{form}>", "A" if side == "pos" else "B"
                rows.append({"index": mark[1:-1], "major": "object", "minor": "interaction;cyclical", "answer": right})
                folder_of = "vinoground_videos" if form == "text" else "vinoground_videos_concated"
                listed.append(
                    {"idx": f"{number}_{side}", "video_name": f"{folder_of}/1.mp4", "question": f"Which {mark}?", "GT": right}
                )  # fmt: skip
                answers[mark] = (right, "AB"[right == "A"])
    for form, name in (("text", "vinoground_videos"), ("video", "vinoground_videos_concated")):
        _copy(video, folder / "vinoground" / name / "1.mp4")
        (folder / "vinoground" / name / f"vinoground_{form}score.json").write_text(json.dumps(lists[form]))
    _rows(folder / "HanSolo9682/Vinoground/data", "lmmseval", rows)
    _configs(folder / "HanSolo9682/Vinoground", ("data",), "lmmseval", "default")
    return answers


def _egoschema(folder: Path, video: Path) -> dict[str, tuple[str, str]]:
    _copy(video, folder / "egoschema/videos/x.mp4")
    rows = [
        {
            "question_idx": str(number),
            "question": f"Question <{number}>?",
            "video_idx": "x",
            "option": [f"{letter}. option {letter}" for letter in "ABCDE"],
            "answer": str(number % 5),
        }
        for number in range(5)
    ]
    _rows(folder / "lmms-eval/egoschema/Subset", "test", rows)
    _configs(folder / "lmms-eval/egoschema", ("Subset",), "test")
    return {f"<{number}>": ("ABCDE"[number], "ABCDE"[number - 1]) for number in range(5)}


def _perceptiontest(folder: Path, video: Path) -> dict[str, tuple[str, str]]:
    _copy(video, folder / "perceptiontest_val/videos/v.mp4")
    rows = [
        {
            "video_name": "v",
            "question": f"Question <{number}>?",
            "question_id": str(number),
            "options": ["one", "two", "three"],
            "answer_id": str(number % 3),
            "area": "physics",
            "reasoning": "descriptive",
            "tag": ["motion"],
        }
        for number in range(3)
    ]
    _rows(folder / "lmms-eval/PerceptionTest_Val/mc_question_val", "validation", rows)
    _configs(folder / "lmms-eval/PerceptionTest_Val", ("mc_question_val",), "validation")
    return {f"<{number}>": ("ABC"[number], "ABC"[number - 1]) for number in range(3)}


def _rows(folder: Path, split: str, rows: list[dict[str, Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / f"{split}-00000-of-00001.parquet")


def _configs(folder: Path, names: tuple[str, ...], split: str, called: str | None = None) -> None:
    """The data set card that tells `datasets` of the parts and of splits with names of their own, as on the hub."""
    parts = [
        {"config_name": called or name, "data_files": [{"split": split, "path": f"{name}/{split}-*.parquet"}]}
        for name in names
    ]
    (folder / "README.md").write_text(f"---\nconfigs: {json.dumps(parts)}\n---\n")


def _copy(video: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(video, path)
