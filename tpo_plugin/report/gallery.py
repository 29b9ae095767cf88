"""A gallery of preference pairs: the frames that each side saw, what was asked, and what was answered."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from tpo_plugin.errors import VideoError
from tpo_plugin.records import PreferencePair, Span
from tpo_plugin.report import charts
from tpo_plugin.report.curation import Curation
from tpo_plugin.report.markup import Markup, definitions, details, join, model_text, tag
from tpo_plugin.video import REASONS, read_frames

T = TypeVar("T")

KEPT_PER_KIND = 4
DROPPED = 4  # one of each of the most frequent reasons
OPEN = 2  # pairs of a group that are shown at once, the others on demand
FRAMES = 8  # a side
SIDE = 160  # pixels
FRAME_BYTES = 6_500  # 12 pairs x 16 frames in base64 stay below 1.7 MB
MOST_TEXT = 1_500  # characters of captions


def section(curation: Curation) -> Markup:
    """Some kept pairs of each kind, and some dropped ones with their reasons."""
    parts = []
    for kind in sorted({pair.query.kind for pair in curation.kept}, reverse=True):
        pairs = [pair for pair in curation.kept if pair.query.kind == kind]
        chosen = evenly(pairs, KEPT_PER_KIND)
        parts.append(tag("h3", f"Kept, {kind} ", tag("small", f"{len(chosen)} of {len(pairs):,}")))
        parts.append(_cards(chosen, curation.videos))
    dropped = [pair for pair in curation.candidates if pair.drop is not None]
    examples = one_of_each_reason(dropped, DROPPED)
    if examples:
        parts.append(
            tag("h3", "Dropped ", tag("small", f"{len(examples)} of {len(dropped):,}, the most frequent reasons first"))
        )
        parts.append(_cards(examples, curation.videos))
    return join(parts) or tag("p", "The run made no pairs.", class_="absent")


def evenly(items: Sequence[T], count: int) -> list[T]:
    """At most `count` of the items at even distances, first and last among them."""
    if len(items) <= count:
        return list(items)
    return [items[round(at)] for at in np.linspace(0, len(items) - 1, count)]


def one_of_each_reason(dropped: Sequence[PreferencePair], count: int) -> list[PreferencePair]:
    """The first dropped pair of each of the `count` most frequent reasons."""
    first: dict[str, PreferencePair] = {}
    for pair in dropped:
        first.setdefault(pair.drop or "", pair)
    frequent = Counter(pair.drop or "" for pair in dropped).most_common(count)
    return [first[reason] for reason, _ in frequent]


def _cards(pairs: Sequence[PreferencePair], videos: Path) -> Markup:
    cards = [card(pair, videos) for pair in pairs]
    more = len(cards) - OPEN
    return join(cards[:OPEN], details(f"{more} more", cards[OPEN:]) if more > 0 else None)


def card(pair: PreferencePair, videos: Path) -> Markup:
    """One pair: question, timeline, both sides with their frames and answers, expected answer and verdicts."""
    query, video = pair.query, pair.video
    seconds = video.seconds
    seen = [query.segment.span if query.segment else (0.0, seconds)]
    drop = tag("span", "dropped: ", tag("code", pair.drop), class_="dropped") if pair.drop is not None else None
    head = tag(
        "p", tag("span", query.kind), tag("span", query.task.replace("_", " ")), tag("bdi", video.path),
        tag("span", moment(seconds, seconds), " long"), drop, class_="facets",
    )  # fmt: skip
    sides = tag(
        "div",
        side("Chosen", pair.chosen, pair.chosen_times, videos / video.path, seconds),
        side("Rejected", pair.rejected, pair.rejected_times, videos / video.path, seconds),
        class_="sides",
    )
    expected = tag("p", tag("span", "Expected: ", class_="label"), tag("bdi", query.answer), class_="expected")
    described = "Descriptions of its shots" if query.kind == "caption" else "Captions that the question was made from"
    captions = pair.captions[:MOST_TEXT] + (" \u2026" if len(pair.captions) > MOST_TEXT else "")
    facts = [
        ("segment asked about", span_text(query.segment.span, seconds) if query.segment else None),
        ("rejected side\u2019s video", perturbation_text(pair)),
        *((f"filter {name}", tag("bdi", verdict)) for name, verdict in pair.verdicts.items()),
    ]
    return tag(
        "article", head, tag("h4", query.text, dir="auto"), expected if query.answer else None,
        timeline(seconds, [("Chosen", seen, pair.chosen_times), ("Rejected", pair.perturbation.kept, pair.rejected_times)]),
        sides, definitions(facts, class_="facts"),
        details(described, model_text(captions, class_="captions")) if captions else None,
        class_="pair",
    )  # fmt: skip


def side(name: str, answer: str, times: Sequence[float], video: Path, seconds: float) -> Markup:
    """One side of a pair: the frames that it saw and what it answered."""
    shown = evenly(sorted(times), FRAMES)
    count = f"saw {len(times)} frames" + (f", {len(shown)} of them here" if len(shown) < len(times) else "")
    return tag(
        "div",
        tag("h5", f"{name} answer"),
        model_text(answer, class_="answer"),
        tag("p", count if times else "frames not recorded", class_="label"),
        strip(video, shown, seconds) if shown else None,
        class_=f"side {name.lower()}",
    )


def strip(video: Path, times: Sequence[float], seconds: float) -> Markup:
    """The frames at ascending `times` as embedded pictures, or why they cannot be shown."""
    try:
        frames = read_frames(video, times, SIDE)
    except VideoError as error:
        return tag("p", f"Frames not shown: {REASONS.get(error.reason, error.reason)}.", class_="absent")
    figures = []
    for frame, time in zip(frames, times):
        label = moment(time, seconds)
        height, width = frame.shape[:2]
        picture = tag("img", src=data_uri(frame), alt=f"Frame at {label}", width=width, height=height, decoding="async")
        figures.append(tag("figure", picture, tag("figcaption", label)))
    return tag("div", figures, class_="strip")


def data_uri(frame: np.ndarray, most_bytes: int = FRAME_BYTES) -> str:
    """A uint8 (H, W, 3) frame as a WebP data address of at most `most_bytes` picture bytes: quality, then size, give way."""
    picture = Image.fromarray(frame)
    for quality in (75, 50, 25, 5):
        encoded = io.BytesIO()
        picture.save(encoded, "WEBP", quality=quality, method=4)
        if encoded.tell() <= most_bytes:
            return "data:image/webp;base64," + base64.b64encode(encoded.getvalue()).decode("ascii")
    return data_uri(np.asarray(picture.resize((max(1, picture.width // 2), max(1, picture.height // 2)))), most_bytes)


def timeline(seconds: float, tracks: Sequence[tuple[str, Sequence[Span], Sequence[float]]]) -> Markup:
    """One bar a side over the whole video: filled where its input came from, a tick for each frame, pale where cut away."""
    rows = []
    for name, spans, times in tracks:
        words = ", ".join(span_text(span, seconds) for span in spans) or "nothing"
        filled = [
            tag(
                "rect",
                x=charts.percent(start / seconds),
                width=charts.percent((end - start) / seconds),
                y="0",
                height="14",
            )
            for start, end in spans
        ]
        marks = [
            tag("line", x1=charts.percent(time / seconds), x2=charts.percent(time / seconds), y1="2", y2="12")
            for time in times
        ]
        bar = tag(
            "svg", tag("title", f"{name} side saw {words}"), tag("rect", width="100%", height="14", class_="cut"), filled, marks,
            role="img", class_=f"track {name.lower()}",
        )  # fmt: skip
        rows.append(join(tag("span", name), bar))
    ends = tag("span", tag("span", moment(0, seconds)), tag("span", moment(seconds, seconds)), class_="ends")
    return tag("div", rows, tag("span"), ends, class_="timeline")


def perturbation_text(pair: PreferencePair) -> str:
    """How the rejected side's input was made, in words."""
    made = pair.perturbation
    kept = sum(end - start for start, end in made.kept)
    difficulty = "" if made.difficulty is None else f", difficulty {made.difficulty:g}"
    return f"{made.name.replace('_', ' ')}{difficulty}, {100 * kept / pair.video.seconds:.0f} % kept"


def span_text(span: Span, seconds: float) -> str:
    """A span in words."""
    return f"{moment(span[0], seconds)} to {moment(span[1], seconds)}"


def moment(time: float, seconds: float) -> str:
    """A time in a video of the given length: tenths of seconds up to two minutes, clock time beyond."""
    if seconds <= 120:
        return f"{time:.1f} s"
    minutes, rest = divmod(int(time), 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
