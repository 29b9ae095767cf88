"""`method: temple` from films to pairs: one caption a shot, one summary an order, every video in one place of the funnel."""

from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tpo_plugin.cli import main
from tpo_plugin.curation.pipeline import curate
from tpo_plugin.curation.templates import instructions, template
from tpo_plugin.dataset.pairs import load_pairs
from tpo_plugin.dataset.statistics import stats_text
from tpo_plugin.generators import Prompt
from tpo_plugin.llm import Reply
from tpo_plugin.options import CurateRecipe
from tpo_plugin.recipe import parse
from tpo_plugin.records import PreferencePair
from tpo_plugin.tiny.captions import describe
from tpo_plugin.tiny.server import TinyServer, read_request
from tpo_plugin.tiny.setting import base_checkpoint
from tpo_plugin.tiny.world import draw_scenes
from tpo_plugin.video.isolated import IsolatedDecoder

pytest.importorskip("scenedetect", reason="PySceneDetect is not installed (pip install 'tpo-plugin[temple]')")

EIGHT = [describe([scene]) for scene in draw_scenes(random.Random(0), 8)]
FIVE = [describe([scene]) for scene in draw_scenes(random.Random(1), 5)]
SHOTS = {"eight.mp4": EIGHT, "five.mp4": FIVE, "uneven.mp4": FIVE}


@pytest.fixture(scope="module")
def asked() -> list[bytes]:
    """The bodies of all requests of the fixture `made`."""
    return []


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, films: Path, temple_plain: Callable[..., Any], asked: list) -> Path:
    """The output of one run over all films by the command line."""
    from io import BytesIO

    from tpo_plugin.tiny.server import ChatHandler

    class Handler(ChatHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            asked.append(body)
            connection, self.rfile = self.rfile, BytesIO(body)
            super().do_POST()
            self.rfile = connection

    folder = tmp_path_factory.mktemp("temple")
    with TinyServer(handler=Handler) as server:
        (folder / "recipe.yaml").write_text(json.dumps(temple_plain(folder / "out", films, server.base_url)))
        assert main(["curate", str(folder / "recipe.yaml")]) == 0
    return folder / "out"


def places(pair: PreferencePair) -> tuple[int, ...]:
    """The kept shots in their new order; all of a film's have one length."""
    length = 1.5 if pair.video.path == "eight.mp4" else 1.0
    return tuple(round(start / length) for start, _ in pair.perturbation.kept)


def test_every_film_is_counted_once(made: Path, funnel) -> None:
    rows = funnel(made)
    assert (rows["probe"]["in"], rows["probe"]["out"]) == (8, 7)
    dropped = {"too_few_shots": 2, "too_many_shots": 1, "recurring_group": 1}
    assert (rows["segment"]["out"], rows["segment"]["dropped"]) == (3, dropped)
    assert (rows["caption"]["out"], rows["query"]["out"]) == (8 + 5 + 5, 3)
    assert (rows["respond"]["out"], rows["export"]["out"]) == (3 * 12, 3 * 12)
    statistics = json.loads((made / "statistics.json").read_text())
    assert statistics["shots"] == {"videos": 7, "after_shots": 4, "after_groups": 3}
    assert statistics["difficulties"]["shuffle"] == {"16": 3, "8": 3, "4": 3, "2": 3}
    lines = [line.split() for line in stats_text(made).splitlines()]
    assert ["left", "by", "the", "rules", "on", "shots", "4", "57.1", "10915", "23.2"] in lines
    assert ["left", "by", "the", "rules", "on", "groups", "3", "42.9", "2195", "4.7"] in lines
    assert ["captioning", "36", "100.0"] in lines
    assert "temporal_reasoning" not in stats_text(made)


def test_pairs_of_a_video_share_all_but_the_rejected_list(made: Path, candidates) -> None:
    by_video: dict[str, list[PreferencePair]] = {}
    for pair in candidates(made):
        by_video.setdefault(pair.video.path, []).append(pair)
    assert set(by_video) == set(SHOTS)
    for name, pairs in by_video.items():
        said = SHOTS[name]
        assert {(pair.query, pair.chosen) for pair in pairs} == {(pairs[0].query, ", ".join(said))}
        assert (pairs[0].query.kind, pairs[0].query.task) == ("caption", "captioning")
        assert pairs[0].query.text in instructions()
        assert Counter((pair.perturbation.name, pair.perturbation.difficulty) for pair in pairs) == {
            (name, level): 1 for name in ("drop", "shuffle", "reverse") for level in (16, 8, 4, 2)
        }
        for pair in pairs:
            assert pair.rejected == ", ".join(said[place] for place in places(pair))
            if pair.perturbation.name == "drop":
                assert len(places(pair)) == -(-len(said) // pair.perturbation.difficulty)
            else:
                assert sorted(places(pair)) == list(range(len(said)))
                assert places(pair) != tuple(range(len(said)))
            assert pair.rejected_times == tuple(
                time for place in places(pair) for time in pair.chosen_times[2 * place : 2 * place + 2]
            )
    assert len({pair.id for pairs in by_video.values() for pair in pairs}) == 36
    row = load_pairs(made)[0][0]
    assert (row.tpo["kind"], row.tpo["perturbation"]["difficulty"]) == ("caption", 16.0)


def test_a_shot_is_described_once_and_an_order_summed_up_once(made: Path, asked: list[bytes], candidates) -> None:
    requests = [read_request(json.loads(body)) for body in asked]
    shown = [(text, len(frames)) for text, frames in requests if frames]
    later = template("caption_shot").format(before=2, count=2)
    assert Counter(shown) == {(template("caption"), 2): 3, (later, 4): 7 + 4 + 4}
    summed = [text for text, frames in requests if not frames]
    assert len(set(summed)) == len(summed)
    orders = {(pair.video.path, places(pair)) for pair in candidates(made)}
    assert len(orders) < 36, "short lists have few orders"
    # A film at an uneven rate shows what `five` does, so that what is the same is answered from the cache.
    texts = {(tuple(SHOTS[name]), order) for name, order in orders} | {(tuple(said), None) for said in SHOTS.values()}
    assert len(summed) == len(texts)
    lines = [line for line in summed[0].splitlines() if line.startswith("Shot ")]
    assert [line.partition(":")[0] for line in lines] == [f"Shot {number}" for number in range(1, len(lines) + 1)]


def test_a_run_with_nothing_to_do_loads_and_asks_nothing(
    made: Path, films: Path, temple_plain, finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tpo_plugin.integrations import vision_encoder

    output = tmp_path / "out"
    shutil.copytree(made, output)
    monkeypatch.delattr(vision_encoder, "load_encoder")
    curate(parse(CurateRecipe, temple_plain(output, films, "http://127.0.0.1:9/v1")))
    assert finished(output) == finished(made)
    for name in ("pairs.json", "candidates.jsonl", "statistics.json"):
        assert (output / name).read_bytes() == (made / name).read_bytes(), name


def test_other_levels_cost_summaries_alone(
    made: Path, films: Path, temple_plain, finished, tmp_path: Path, faults
) -> None:
    output = tmp_path / "out"
    shutil.copytree(made, output)
    plain = temple_plain(output, films, faults.base_url)
    curate(parse(CurateRecipe, {**plain, "perturbations": {"lists": ["drop_similar"], "levels": [3]}, "max_pairs": 2}))
    assert finished(output) - finished(made) == {"respond": 3, "filter": 3}
    assert not [body for body in faults.requests if b"image_url" in body]
    assert len(json.loads((output / "pairs.json").read_text())) == 2


def test_the_order_of_lists_and_levels_changes_nothing(
    made: Path, films: Path, temple_plain, tmp_path: Path, faults, same_data
) -> None:
    plain = temple_plain(tmp_path / "out", films, faults.base_url)
    curate(
        parse(
            CurateRecipe, {**plain, "perturbations": {"lists": ["reverse", "shuffle", "drop"], "levels": [2, 8, 4, 16]}}
        )
    )
    same_data(tmp_path / "out", made)


def test_one_checkpoint_describes_and_sums_up(
    films: Path, temple_plain, tmp_path: Path, candidates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shipped model does both; what it says of words alone is what it says when asked directly.

    It was never trained on words alone and finds no end: here every token of its vocabulary is one.
    """
    from tpo_plugin.generators.base import text_prompt
    from tpo_plugin.generators.hf import HFGenerator
    from tpo_plugin.integrations.huggingface import load_processor

    shutil.copytree(base_checkpoint(), tmp_path / "model")
    settings = json.loads((tmp_path / "model" / "generation_config.json").read_text())
    settings["eos_token_id"] = list(range(len(load_processor(base_checkpoint()).tokenizer)))
    (tmp_path / "model" / "generation_config.json").write_text(json.dumps(settings))
    generator = {
        "type": "hf",
        "model": str(tmp_path / "model"),
        "dtype": "float32",
        "device": "cpu",
        "max_new_tokens": 96,
    }
    plain = temple_plain(tmp_path / "out", films / "five.mp4", "http://127.0.0.1:9/v1")
    (tmp_path / "films.txt").write_text("five.mp4\n")
    plain |= {"videos": {"source": str(tmp_path / "films.txt"), "root": str(films)}, "filters": {"use": []}}
    plain |= {"captions": {"generator": generator}, "responses": generator, "perturbations": {"levels": [2]}}
    recipe, passes, read = parse(CurateRecipe, plain), list[list[float]](), IsolatedDecoder.read_frames
    answered, generate = list[int](), HFGenerator.generate_now

    async def counted(self: IsolatedDecoder, path: Path, times: list[float], *limits: int | None) -> Any:
        passes.append(list(times))
        return await read(self, path, times, *limits)

    def counting(self: HFGenerator, prompts: Sequence[Prompt]) -> list[Reply]:
        answered.append(len(prompts))
        return generate(self, prompts)

    monkeypatch.setattr(IsolatedDecoder, "read_frames", counted)
    monkeypatch.setattr(HFGenerator, "generate_now", counting)
    curate(recipe)
    pairs = candidates(tmp_path / "out")
    assert len(pairs) == 3
    assert passes == [list(pairs[0].chosen_times)], "all keyframes in one pass"
    model = HFGenerator(replace(recipe.responses, batch_size=1), 0)
    asked = text_prompt(template("summary").format(captions=pairs[0].captions))
    assert model.generate_now([asked])[0].text == pairs[0].chosen

    before = {pair.id: pair for pair in pairs}
    answered.clear()
    curate(parse(CurateRecipe, {**plain, "perturbations": {"levels": [4, 2]}}))
    after = candidates(tmp_path / "out")
    assert len(after) == 6
    assert {pair.id: pair for pair in after if pair.perturbation.difficulty == 2} == before
    orders, earlier = ({places(pair) for pair in some} for some in (after, pairs))
    assert answered == [len(orders - earlier)], "the true order and those of level 2 are kept"


def test_a_description_without_its_end_costs_the_video(
    films: Path, temple_plain, tmp_path: Path, faults, funnel
) -> None:
    """The model of the second shot ran out of tokens."""

    def fault(handler: Any, number: int) -> bool:
        if number != 2:
            return False
        choice = {"message": {"role": "assistant", "content": "a red square on the"}, "finish_reason": "length"}
        faults.send(handler, 200, json.dumps({"choices": [choice]}))
        return True

    faults.fault = fault
    (tmp_path / "films.txt").write_text("five.mp4\n")
    plain = temple_plain(tmp_path / "out", films, faults.base_url)
    plain |= {"videos": {"source": str(tmp_path / "films.txt"), "root": str(films)}}
    curate(parse(CurateRecipe, plain))
    rows = funnel(tmp_path / "out")
    assert (rows["caption"]["out"], rows["caption"]["dropped"]) == (4, {"caption_cut_off": 1})
    assert rows["query"]["dropped"] == {"no_caption": 1}


def test_a_missing_description_costs_the_video(films: Path, temple_plain, tmp_path: Path, faults, funnel) -> None:
    """The second request, a shot's, is refused: no list without that shot is taken for the true one, and the next run asks again."""
    faults.fault = lambda handler, number: number == 2 and (faults.send(handler, 400, "{}") or True)
    (tmp_path / "films.txt").write_text("five.mp4\n")
    plain = temple_plain(tmp_path / "out", films, faults.base_url)
    plain |= {"videos": {"source": str(tmp_path / "films.txt"), "root": str(films)}}
    curate(parse(CurateRecipe, plain))
    rows = funnel(tmp_path / "out")
    assert rows["caption"]["dropped"] == {"caption_rejected_request": 1}
    assert (rows["query"]["out"], rows["query"]["dropped"]) == (0, {"no_caption": 1})
    assert rows["respond"]["in"] == 0
    curate(parse(CurateRecipe, plain))
    assert funnel(tmp_path / "out")["export"]["out"] == 12
