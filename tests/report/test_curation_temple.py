"""A curation by `method: temple` on the page: its funnel beside the paper's, its levels, its settings, no mix of tasks."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import yaml

from tpo_plugin.records import write_json, write_jsonl
from tpo_plugin.report import curation as part
from tpo_plugin.report.page import write_report

SHOTS = {"videos": 400, "after_shots": 100, "after_groups": 10}
LEVELS = {"drop": {"16": 7, "2": 3}, "shuffle": {"16": 5, "2": 0}}


def cells(html: str, heading: str) -> list[str]:
    """The texts of the row with this heading."""
    row = re.search(rf'<tr><th scope="row">{re.escape(heading)}</th>(.*?)</tr>', html)
    assert row, heading
    return [re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row.group(1))]


def test_videos_left_beside_the_papers() -> None:
    html = str(part.shot_steps(SHOTS))
    assert cells(html, "left by the rules on shots")[:4] == ["100", "25.0", "10,915", "23.2"]
    assert cells(html, "left by the rules on groups")[:4] == ["10", "2.5", "2,195", "4.7"]
    assert cells(str(part.shot_steps(dict.fromkeys(SHOTS, 0))), "videos that can be read")[:2] == ["0", "0.0"]


def test_pairs_by_level() -> None:
    html = str(part.levels(LEVELS))
    assert (cells(html, "drop"), cells(html, "shuffle")) == (["7", "3", "10"], ["5", "0", "5"])


def test_a_run_that_kept_nothing_is_not_compared_with_the_other_papers_kinds() -> None:
    effort = {"llm": {}, "seconds": 1.0}
    empty = {"funnel": [], "tasks": {}, "kinds": {}, "lengths": {}, **effort}
    for statistics, said in ((empty | {"shots": dict.fromkeys(SHOTS, 0)}, False), (empty, True)):
        html = str(part.section(part.Curation(None, statistics, [], Path())))
        assert ("50 % localized" in html) is said


def test_the_page(curation: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pairs"
    shutil.copytree(curation, folder)
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    recipe |= {"method": "temple", "shots": {"detector": "adaptive", "encoder": "a/siglip", "min_shots": 4}}
    recipe["perturbations"] |= {"lists": ["drop", "reverse"], "levels": [16, 2]}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    rows = [json.loads(line) for line in (folder / "candidates.jsonl").read_text().splitlines()]
    for row in rows:
        row["query"] |= {"kind": "caption", "task": "captioning"}
        row["captions"] = "Shot 1: red"
        row["perturbation"]["difficulty"] = 16.0
        row["rejected_times"] = row["rejected_times"][::-1]
    write_jsonl(folder / "candidates.jsonl", rows)
    statistics = json.loads((folder / "statistics.json").read_text())
    statistics |= {"shots": SHOTS, "difficulties": LEVELS, "kinds": {"caption": 24}, "tasks": {"captioning": 24}}
    write_json(folder / "statistics.json", statistics)
    html = write_report(tmp_path / "page.html", folder, {}, {}, "TEMPLE", {}).read_text()
    for said in ("10,915", "r = 16", "a/siglip", "Descriptions of its shots", "drop, reverse", "difficulty 16"):
        assert said in html, said
    for said in ("temporal reasoning", "50 % localized", "Captions that the question", "localized : comprehensive"):
        assert said not in html, said
