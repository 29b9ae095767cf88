"""The whole page: what is missing, what is hostile, what it weighs."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tpo_plugin.errors import TPOError
from tpo_plugin.records import read_jsonl, write_jsonl, write_text
from tpo_plugin.report import write_report

Writer = Callable[..., Path]
VOID = {"br", "col", "hr", "img", "link", "meta"}
HOSTILE = "<script>alert('x')</script></style></p><img src=http://evil.example/x onerror=alert(1)> \u05e9\u05dc\u05d5\u05dd \u202e\ud83d\x00 $body"


class Checker(HTMLParser):
    """Notes elements, ids, links and open elements; unbalanced markup fails at once."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.ids: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def addresses(checked: Checker) -> list[str]:
    return [value for name, value in checked.attributes if name in ("href", "src", "srcset", "action", "data")]


def test_the_whole_page(
    curation: Path, trainings: dict[str, Path], evaluation: Path, needle: Path, tmp_path: Path
) -> None:
    output = tmp_path / "new" / "report.html"
    written = write_report(output, curation, trainings, {"run": evaluation}, "Tiny & quick", {"n": needle})
    html = written.read_text(encoding="utf-8")
    checked = Checker(html)
    assert "<title>Tiny &amp; quick</title>" in html
    assert written.stat().st_size < 3_000_000
    assert "script" not in checked.seen
    assert all(address.startswith(("#", "data:")) for address in addresses(checked))
    links = {address[1:] for address in addresses(checked) if address.startswith("#")}
    assert links <= set(checked.ids)
    assert len(checked.ids) == len(set(checked.ids))
    assert "hunter2" not in html  # the password in the recipe's server address
    assert re.search(
        r"Based on \d+ preference pairs kept of 32; 2 training runs; 400 benchmark questions on 100 videos", html
    )


def test_the_same_input_gives_the_same_page(evaluation: Path, tmp_path: Path) -> None:
    pages = [write_report(tmp_path / name, None, {}, {"run": evaluation}).read_bytes() for name in ("a.html", "b.html")]
    assert pages[0] == pages[1]


def test_what_was_not_given_is_said(tmp_path: Path) -> None:
    html = write_report(tmp_path / "report.html", None, {}, {}).read_text()
    for words in (
        "No preference pairs given.",
        "No training run given.",
        "No evaluation given.",
        "No needle results given.",
    ):
        assert words in html
    Checker(html)


def test_one_model_alone_is_not_compared(evaluation: Path, tmp_path: Path) -> None:
    results = json.loads((evaluation / "results.json").read_text())
    results["models"] = {"base": results["models"]["base"]}
    results["cells"] = [cell for cell in results["cells"] if cell["model"] == "base"]
    (tmp_path / "results.json").write_text(json.dumps(results))
    shutil.copytree(evaluation / "base", tmp_path / "base")
    html = write_report(tmp_path / "report.html", None, {}, {"run": tmp_path}).read_text()
    assert "nothing to compare it with" in html
    assert "no difference shown" not in html


def test_a_large_run_holds_only_summed_up_rows(write_evaluation: Writer, tmp_path: Path) -> None:
    """As an ablation leaves it: 31 models on 1,200 questions. Ten times the questions do not make a longer page."""
    chances = {f"variant {at}": 0.5 + at / 100 for at in range(31)}
    sizes = {}
    for count in (60, 600):
        folder = write_evaluation(tmp_path / str(count), chances, questions_a_task=count, sweep=(24, 48))
        sizes[count] = write_report(tmp_path / f"{count}.html", None, {}, {"run": folder}).stat().st_size
    assert sizes[600] < 1.1 * sizes[60]
    assert sizes[600] < 1_000_000


def test_text_of_models_and_users_is_escaped_everywhere(
    curation: Path, trainings: dict[str, Path], evaluation: Path, needle: Path, tmp_path: Path
) -> None:
    """Every text in the candidates and answers is replaced by a hostile one: no element or address comes of it."""
    pairs, asked, searched = tmp_path / "pairs", tmp_path / "evaluation", tmp_path / "needle"
    shutil.copytree(needle, searched)
    shutil.copytree(curation, pairs)
    shutil.copytree(evaluation, asked)
    rows = list(read_jsonl(pairs / "candidates.jsonl"))
    for row in rows:
        row |= {"chosen": HOSTILE, "rejected": HOSTILE, "captions": HOSTILE, "verdicts": {HOSTILE: HOSTILE}}
        row["query"] |= {"text": HOSTILE, "answer": HOSTILE, "task": HOSTILE}
        row["drop"] = row["drop"] and HOSTILE
        row["perturbation"]["name"] = HOSTILE
    (pairs / "candidates.jsonl").write_bytes(_jsonl(rows))
    for file in asked.rglob("answers.jsonl"):
        file.write_bytes(_jsonl([row | {"category": HOSTILE, "kind": HOSTILE} for row in read_jsonl(file)]))
    results = json.loads((searched / "results.json").read_text())
    models = {HOSTILE: results["models"]["base"], "tpo": results["models"]["tpo"]}
    (searched / "results.json").write_bytes(_jsonl([{"models": models, HOSTILE: HOSTILE}]))
    named, needles = {HOSTILE: trainings["tpo"]}, {HOSTILE: searched}
    written = write_report(tmp_path / "report.html", pairs, named, {HOSTILE: asked}, HOSTILE, needles)
    html = written.read_text(encoding="utf-8")
    checked = Checker(html)
    assert "script" not in checked.seen
    assert not [name for name, _ in checked.attributes if name.startswith("on")]
    assert all(address.startswith(("#", "data:")) for address in addresses(checked))
    assert (
        html.count("</style>") == 1 + html.count('<svg xmlns="http://www.w3.org/2000/svg"') == 7
    )  # each heat map stands alone
    assert "\x00" not in html
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;" in html


def _jsonl(rows: list[dict]) -> bytes:
    """JSON Lines with escaped characters: lone surrogates have no UTF-8 form, yet JSON can carry them."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode("ascii")


Harm = Callable[[Path], None]
HARMS: list[tuple[str, Harm, str]] = [
    ("statistics.json", Path.unlink, r"statistics\.json does not exist; run `tpo curate`"),
    (
        "statistics.json",
        lambda file: write_text(file, "{"),
        r"statistics\.json cannot be read as JSON .* run `tpo curate`",
    ),
    ("statistics.json", lambda file: write_text(file, "[]"), r"statistics\.json must hold a dict, it holds list"),
    ("statistics.json", lambda file: write_text(file, "{}"), r"statistics\.json has no usable `funnel`"),
    (
        "statistics.json",
        lambda file: write_text(file, '{"funnel": [{}], "tasks": {}, "kinds": {}, "lengths": {}}'),
        r"statistics\.json has no usable `funnel`",
    ),
    ("candidates.jsonl", lambda file: write_text(file, "{"), r"candidates\.jsonl cannot be read .*line 1"),
    (
        "candidates.jsonl",
        lambda file: write_jsonl(file, [{"id": "1"}]),
        r"candidates\.jsonl, record 1: not a PreferencePair",
    ),
    ("recipe.yaml", lambda file: write_text(file, "a: [1"), r"recipe\.yaml is not readable YAML"),
]


@pytest.mark.parametrize(("name", "harm", "text"), HARMS)
def test_an_unreadable_file_is_named_with_its_cure(
    curation: Path, tmp_path: Path, name: str, harm: Harm, text: str
) -> None:
    shutil.copytree(curation, tmp_path / "pairs")
    harm(tmp_path / "pairs" / name)
    with pytest.raises(TPOError, match=text):
        write_report(tmp_path / "report.html", tmp_path / "pairs", {}, {})
    assert not (tmp_path / "report.html").exists()


def test_folders_that_are_not_there(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    with pytest.raises(TPOError, match=r"pairs: .*gone is not a folder; give the output folder of `tpo curate`"):
        write_report(tmp_path / "r.html", gone, {}, {})
    with pytest.raises(TPOError, match=r"training run tpo: .*gone is not a folder"):
        write_report(tmp_path / "r.html", None, {"tpo": gone}, {})
    with pytest.raises(TPOError, match=r"evaluation run: .*gone is not a folder"):
        write_report(tmp_path / "r.html", None, {}, {"run": gone})


def test_an_output_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"report\.html"):
        write_report(tmp_path / "file" / "report.html", None, {}, {})
