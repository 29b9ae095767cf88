"""The published tables: that the files are whole, and where their numbers end up."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from tpo_plugin.report.answers import combine, load
from tpo_plugin.report.papers import PAPERS, Paper, papers, section

Writer = Callable[..., Path]


@pytest.fixture(scope="module")
def published() -> list[Paper]:
    return papers()


def test_every_file_is_read_and_every_table_names_its_source(published: list[Paper]) -> None:
    folder = files("tpo_plugin.report").joinpath("published")
    assert {file.name for file in folder.iterdir()} == {f"{name}.yaml" for name in PAPERS}
    for paper in published:
        assert re.match(r"arXiv \d{4}\.\d{5}", paper.source)
        for table in paper.tables:
            assert table.table
            assert table.model
            assert all(set(values) <= set(paper.benchmarks) for values in table.rows.values())


# As printed, once more: LongVideoBench, MLVU, Video-MME; Video-MME, MLVU, Vinoground, TempCompass; V-NIAH's mean.
TPO = ("longvideobench_val_v", "mlvu_dev", "videomme")
TEMPLE = ("videomme", "mlvu_dev", "vinoground", "tempcompass")
PRINTED = [
    (0, 0, "LongVA-7B", TPO, (51.3, 58.8, 52.6)),
    (0, 0, "+ SFT_self", TPO, (52.7, 58.9, 53.9)),
    (0, 0, "+ SFT_LLM", TPO, (53.1, 59.9, 54.2)),
    (0, 0, "+ Hound-DPO (17k pairs)", TPO, (52.8, 59.1, 53.6)),
    (0, 0, "LongVA-TPO (10k pairs)", TPO, (54.2, 61.7, 55.1)),
    (0, 1, "2k pairs", TPO, (52.5, 57.8, 52.8)),
    (0, 1, "5k pairs", TPO, (53.7, 59.5, 53.6)),
    (0, 1, "10k pairs", TPO, (54.2, 61.7, 55.1)),
    (0, 2, "10 : 0", TPO, (53.5, 58.7, 54.0)),
    (0, 2, "8 : 2", TPO, (53.8, 59.9, 54.0)),
    (0, 2, "5 : 5", TPO, (54.2, 61.7, 55.1)),
    (0, 2, "2 : 8", TPO, (53.4, 59.1, 54.2)),
    (0, 2, "0 : 10", TPO, (53.4, 58.5, 53.8)),
    (0, 3, "LLaVA-Video-7B", TPO, (58.2, 70.8, 63.3)),
    (0, 3, "LLaVA-Video-TPO", TPO, (60.1, 71.1, 65.6)),
    (1, 0, "Qwen2-VL-7B", TEMPLE, (60.4, 64.5, 34.0, 69.6)),
    (1, 0, "+ SFT", TEMPLE, (60.7, 64.6, 34.6, 70.8)),
    (1, 0, "TEMPLE", TEMPLE, (61.0, 65.8, 37.2, 71.4)),
    (2, 0, "LongVA-7B", ("v_niah",), (0.909,)),
]


def test_every_published_value(published: list[Paper]) -> None:
    assert [
        (number, at, name, values)
        for number, paper in enumerate(published)
        for at, table in enumerate(paper.tables)
        for name, values in table.rows.items()
    ] == [(number, at, name, dict(zip(tasks, values))) for number, at, name, tasks, values in PRINTED]


def test_frames_are_those_of_the_table_and_the_benchmark(published: list[Paper]) -> None:
    tpo = published[0]
    longva, *_, llava_video = tpo.tables
    assert tpo.stated(longva, "frames", "videomme") == 128
    assert tpo.stated(llava_video, "frames", "videomme") == 96
    assert tpo.stated(llava_video, "frames", "mlvu_dev") == 128
    assert tpo.stated(llava_video, "pooling", "videomme") is None
    assert tpo.stated(llava_video, "questions", "videomme") == 2700
    temple, vniah = published[1:]
    assert (temple.stated(temple.tables[0], "frames", "mlvu_dev"), temple.protocol["max_pixels"]) == (64, 250_000)
    assert vniah.protocol["frames"] == "200 to 3000 in steps of 200, one a second"
    assert (vniah.protocol["depths"], vniah.protocol["questions"]) == ("0 to 1 in steps of 0.2", 5)


def run(task: str, score: float, count: int = 3, **values: Any) -> tuple[list[dict[str, Any]], list[int]]:
    rows = [{"task": task, "id": str(at), "video": str(at), "answer": "A", **values} for at in range(count)]
    return rows, [int(at < score * count) for at in range(count)]


def test_measured_scores_stand_below_the_published_ones(
    published: list[Paper], write_answers: Writer, tmp_path: Path
) -> None:
    models = combine([load("", write_answers(tmp_path, {"mine": run("videomme", 1 / 3)}, frames=96))])
    html = str(section(published, models))
    assert html.count("<table") == 2  # TPO's and TEMPLE's; nothing of V-NIAH was measured
    assert html.index("LLaVA-Video-TPO") < html.index("<bdi>mine</bdi>")
    assert "<strong>33.3</strong> <small>0.0 to 100.0; 96 frames</small>" in html
    assert '<th scope="col" class="number">LongVideoBench' not in html  # was not run
    # Three questions are not Video-MME.
    assert "videomme was run on 3 questions, the benchmark has 2,700" in html


def test_a_prompt_variant_is_measured_on_its_benchmark(
    published: list[Paper], write_answers: Writer, tmp_path: Path
) -> None:
    variant = run("videomme_prompt_llava_vid", 1 / 3)
    models = combine([load("", write_answers(tmp_path, {"mine": variant}, frames=96))])
    html = str(section(published, models))
    assert "<strong>33.3</strong> <small>0.0 to 100.0; 96 frames; videomme_prompt_llava_vid</small>" in html


def test_what_a_paper_reports_and_the_tables_lack_is_said(
    published: list[Paper], write_answers: Writer, tmp_path: Path
) -> None:
    html = str(section(published, combine([load("", write_answers(tmp_path, {"mine": run("videomme", 1.0)}))])))
    assert all(paper.lacking for paper in published[:2])
    for name in ("LongVideoBench", "EgoSchema", "PerceptionTest", "temporal perception", "four tasks"):
        assert name in html[html.index("published, then measured") :]


def test_a_benchmark_of_several_tasks_needs_all_of_them(
    published: list[Paper], write_answers: Writer, tmp_path: Path
) -> None:
    names = ("multi_choice", "yes_no", "caption_matching", "captioning")
    folders = [
        write_answers(tmp_path / name, {"mine": run(f"tempcompass_{name}", at / 3)}) for at, name in enumerate(names)
    ]
    some, every = (combine([load(path.name, path) for path in folders[:count]]) for count in (3, 4))
    assert section(published, some) is None
    html = str(section(published, every))
    assert "<strong>50.0</strong>" in html  # the mean of 0, 33.3, 66.7 and 100
    assert "71.4" in html


def test_other_benchmarks_have_nothing_beside_them(
    published: list[Paper], write_answers: Writer, tmp_path: Path
) -> None:
    models = combine([load("", write_answers(tmp_path, {"mine": run("mvbench", 1.0)}))])
    assert section(published, models) is None
