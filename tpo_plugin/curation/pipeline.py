"""The curation run: videos through the stages in order, journaled, counted, exported.

probe -> segment -> caption -> query -> respond -> filter -> export
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from tpo_plugin.concurrency import together
from tpo_plugin.curation import stages
from tpo_plugin.curation.checks import check
from tpo_plugin.curation.export import export
from tpo_plugin.curation.filters import find_filter
from tpo_plugin.curation.funnel import Funnel
from tpo_plugin.curation.given import read_given
from tpo_plugin.curation.identity import stage_ids
from tpo_plugin.curation.journal import Journal
from tpo_plugin.curation.lazy import Checkpoints, LazyEncoder, LazyGenerator, Remembering
from tpo_plugin.curation.methods import METHODS
from tpo_plugin.curation.methods.base import generator_id
from tpo_plugin.curation.sources import Source, content_id, find_videos
from tpo_plugin.curation.work import PASSING, Frames, Outcome, Tools, Work
from tpo_plugin.errors import VideoError
from tpo_plugin.generators import Generator, build_generator
from tpo_plugin.llm import ChatClient
from tpo_plugin.options import CurateRecipe, GeneratorOptions, ServerOptions
from tpo_plugin.records import PreferencePair, Query, Video, from_json, stable_id
from tpo_plugin.video.isolated import IsolatedDecoder

logger = logging.getLogger(__name__)


def curate(recipe: CurateRecipe) -> Path:
    """Run the recipe and return its output folder. Stopped anywhere, the same call continues.

    Raises TPOError for what stops the run as a whole; videos and pairs that cannot be used are counted by reason.
    """
    check(recipe)
    for name in recipe.filters.use:
        find_filter(name)
    root, sources = find_videos(recipe.videos, recipe.queries.qa)
    with Journal(Path(recipe.output)) as journal:
        return asyncio.run(_run(recipe, root, sources, journal))


async def _run(recipe: CurateRecipe, root: Path, sources: list[Source], journal: Journal) -> Path:
    output, ids, method = Path(recipe.output), stage_ids(recipe), METHODS[recipe.method]
    checkpoints = Checkpoints(recipe.seed)
    async with AsyncExitStack() as clients:

        def client(options: ServerOptions, stage: str) -> ChatClient:
            made = ChatClient(options, output / "llm_cache.sqlite", kind=ids[stage])
            clients.push_async_callback(made.close)
            return made

        def generator(options: GeneratorOptions, stage: str) -> Generator:
            if options.type == "server":
                return build_generator(options, recipe.seed, client(options.server, stage))
            made = LazyGenerator(options, checkpoints)
            chance = recipe.seed if options.temperature > 0 else None
            return Remembering(made, stable_id(generator_id(options), chance), journal)

        llm = client(recipe.llm, "filter")
        if "judge" in recipe.filters.use or method.asks_llm(recipe):
            llm.check_key()
        used = method.generators(recipe)
        captioner, responder = (
            generator(used[section], stage) if section in used else None
            for section, stage in (("captions.generator", "caption"), ("responses", "respond"))
        )
        with IsolatedDecoder(recipe.videos_in_flight, recipe.videos.decode_timeout) as decoder:
            encoder, given = LazyEncoder(recipe.shots), read_given(recipe.queries.curated)
            tools = Tools(recipe, root, decoder, llm, encoder, captioner, responder, given)
            runner = Runner(tools, journal, Funnel(), ids)
            candidates = await runner.all(sources)
        export(recipe, root, candidates, runner.funnel, asdict(llm.usage()), journal.seconds)
    return output


@dataclass
class Runner:
    """Takes each video through the stages; finished stages come from the journal."""

    tools: Tools
    journal: Journal
    funnel: Funnel
    stage_ids: dict[str, str]
    unsettled: set[str] = field(default_factory=set)

    async def all(self, sources: list[Source]) -> list[PreferencePair]:
        """The candidates of all videos, in the order of the videos. The first error that stops the run stops it cleanly."""
        slots = asyncio.Semaphore(self.tools.recipe.videos_in_flight)
        with logging_redirect_tqdm(), tqdm(total=len(sources), desc="curate", unit="video") as bar:

            async def one(source: Source) -> list[PreferencePair]:
                async with slots:
                    pairs = await self.video(source)
                bar.update()
                bar.set_postfix(pairs=self.funnel.counts["filter"].left, refresh=False)
                return pairs

            return [pair for pairs in await together(one(source) for source in sources) for pair in pairs]

    async def video(self, source: Source) -> list[PreferencePair]:
        """One video through all stages; its candidate pairs, [] if it cannot be used."""
        tools, content = self.tools, content_id(self.tools.root, source.path)
        method = METHODS[tools.recipe.method]
        given = tools.given.get(stable_id(content))
        key = stable_id(content, source.qa, *([asdict(given)] if given else []))
        try:
            found = await self.once("probe", key, lambda: stages.probe(tools, source, stable_id(content)))
            work = Work(source, from_json(Video, found))
            work.cut = await self.once("segment", key, lambda: method.segment(tools, work))
            calls, planned = method.plan(tools, work)
            work.frames = Frames(tools.decoder, tools.root / work.video.path, planned, tools.recipe.frames)
            work.captions = await self.once(
                "caption", key, lambda: method.caption(tools, work, calls), len(calls), calls
            )
            asked = await self.once("query", key, lambda: method.query(tools, work))
            work.queries = [from_json(Query, item) for item in asked]
            answered = await self.once("respond", key, lambda: method.respond(tools, work), len(work.queries))
            pairs = [from_json(PreferencePair, item) for item in answered]
            judged = await self.once("filter", key, lambda: stages.judge(tools, method, pairs))
        except VideoError as error:
            logger.warning("skipped (%s): %s", error.reason, error)
            return []
        return [from_json(PreferencePair, item) for item in judged]

    async def once(
        self,
        stage: str,
        key: str,
        work: Callable[[], Awaitable[Outcome]],
        records: int = 1,
        inputs: Any = None,
    ) -> Any:
        """The value of a video's stage, from the journal if it is finished; counted either way.

        `inputs` is what the value depends on beside the video and the recipe parts in the stage's id. A video that cannot be used is
        a finished unit too: its VideoError is journaled and raised again, and all `records` that the stage was to work on are
        dropped. A video that lost something for a `PASSING` reason is not journaled from there on: the next run tries again.
        """
        unit = stable_id(self.stage_ids[stage], key, inputs)
        entry = self.journal.get(stage, unit)
        if entry is None:
            try:
                entry = asdict(await work())
            except VideoError as error:
                entry = {"value": None, "left": 0, "dropped": [error.reason] * records, "error": str(error)}
            if any(reason.endswith(PASSING) for reason in entry["dropped"]):
                self.unsettled.add(key)
            if key not in self.unsettled:
                entry = self.journal.put(stage, unit, entry)
        self.funnel.add(stage, entry["left"], entry["dropped"])
        if "error" in entry:
            raise VideoError(entry["dropped"][0], entry["error"])
        return entry["value"]
