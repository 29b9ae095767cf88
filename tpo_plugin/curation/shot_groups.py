"""TEMPLE's second step: which shots look alike, and which videos have a list of places that is worth perturbing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tpo_plugin.curation.keyframes import keyframes
from tpo_plugin.curation.shots import Scan, Shot, choose_shots, scan_video
from tpo_plugin.errors import VideoError
from tpo_plugin.options import ShotOptions
from tpo_plugin.video import read_frames

GROUP_REASONS = {
    "too_few_groups": "too few places are left in the list of shots",
    "too_many_groups": "too many places are left in the list of shots",
    "recurring_group": "one group of shots comes again too often",
}
MIDDLE_SIDE = 768  # pixels; no vision encoder takes larger pictures


@dataclass(frozen=True)
class ShotList:
    """A video's list of places: spans, groups' numbers, similarity of each two (N, N), keyframes' times, the detector's settings.

    A place of several shots reaches from the first one's start to the last one's end, over what was removed between
    them; its keyframes lie in its shots. It may be longer than `shots.max_seconds`, which is a rule on shots.
    """

    shots: tuple[Shot, ...]
    groups: tuple[int, ...]
    similarity: np.ndarray
    keyframes: tuple[tuple[float, ...], ...]
    detector: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.shots)

    def plain(self) -> dict[str, Any]:
        """The list as plain JSON values, similarities in four digits."""
        return {
            "shots": [list(shot.span) for shot in self.shots],
            "groups": list(self.groups),
            "similarity": self.similarity.round(4).tolist(),
            "keyframes": [list(times) for times in self.keyframes],
            "detector": self.detector,
        }

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> ShotList:
        """The list from `plain`'s form."""
        shots = tuple(Shot(*span) for span in plain["shots"])
        frames = tuple(map(tuple, plain["keyframes"]))
        return cls(shots, tuple(plain["groups"]), np.array(plain["similarity"]), frames, plain.get("detector", {}))


@dataclass(frozen=True)
class Seen:
    """What one look at a video's frames leaves: its scan, the shots that are used, their middle frames, uint8 (N, H, W, 3)."""

    scan: Scan
    shots: list[Shot]
    middles: np.ndarray


def look(path: str | Path, options: ShotOptions) -> Seen:
    """All of the list that needs the video itself; VideoError where it is unreadable or not used (`SHOT_REASONS`)."""
    scan = scan_video(path, options)
    shots = choose_shots(scan, options)
    return Seen(scan, shots, read_frames(path, [shot.middle for shot in shots], max_side=MIDDLE_SIDE))


def choose_groups(scan: Scan, shots: Sequence[Shot], features: np.ndarray, options: ShotOptions) -> ShotList:
    """The list of a video whose shots have these `features` (N, D); VideoError (`GROUP_REASONS`) if it is not used.

    The numbers of groups in the paper's rules count the places of the list, after neighbours of one group became one,
    as in the released code; a group that comes again has several places.
    """
    places = merge_neighbours(group(features, options.similarity))
    groups = tuple(label for label, _ in places)
    count = len(places)
    if count < options.min_groups:
        raise _unused("too_few_groups", f"{count} of {len(shots)} shots; shots.min_groups is {options.min_groups}")
    if count > options.max_groups:
        raise _unused("too_many_groups", f"{count}; shots.max_groups is {options.max_groups}")
    [(_, most)] = Counter(groups).most_common(1)
    if most > options.max_recurrence or most > options.max_recurrence_share * count:
        raise _unused(
            "recurring_group",
            f"at {most} of {count} places; shots.max_recurrence is {options.max_recurrence}, "
            f"shots.max_recurrence_share {options.max_recurrence_share:.2f}",
        )
    spans = [Shot(shots[members[0]].start, shots[members[-1]].end) for _, members in places]
    means = np.stack([unit(features)[list(members)].mean(axis=0) for _, members in places])
    frames = tuple(
        place_keyframes(scan, [shots[index] for index in members], options.keyframes) for _, members in places
    )
    return ShotList(tuple(spans), groups, cosines(means), frames, scan.detector)


def place_keyframes(scan: Scan, shots: Sequence[Shot], count: int) -> tuple[float, ...]:
    """`keyframes` of the shots of one place as if they followed each other: none lies in what was removed between them."""
    times, own, length = list[float](), list[float](), 0.0
    sharp = list[float]()
    for shot in shots:
        frames = scan.frames_of(shot)
        times += scan.times[frames].tolist()
        own += (scan.times[frames] - shot.start + length).tolist()
        sharp += scan.sharpness[frames].tolist()
        length += shot.end - shot.start
    chosen = keyframes(np.array(own), np.array(sharp), 0.0, length, count)
    return tuple(times[own.index(time)] for time in chosen)


def unit(features: np.ndarray) -> np.ndarray:
    """The vectors (N, D) at length 1, in float64."""
    values = np.asarray(features, dtype=np.float64)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)


def cosines(features: np.ndarray) -> np.ndarray:
    """Cosine similarity of each two vectors: (N, D) -> (N, N)."""
    vectors = unit(features)
    matrix: np.ndarray = vectors @ vectors.T
    return matrix


def group(features: np.ndarray, threshold: float) -> tuple[int, ...]:
    """A label for each shot, numbered in the order of first appearance, from its features (N, D).

    Greedy: the two most similar groups are merged as long as their similarity is over `threshold`; a merged group's
    similarity to another one is the mean of its two parts', whatever their sizes (average linkage without weights,
    WPGMA).
    """
    similarity = cosines(features)
    np.fill_diagonal(similarity, -np.inf)
    members = {index: [index] for index in range(len(similarity))}
    while len(members) > 1:
        one, other = divmod(int(similarity.argmax()), len(similarity))
        if not similarity[one, other] > threshold:
            break
        merged = (similarity[one] + similarity[other]) / 2
        similarity[one], similarity[:, one] = merged, merged
        similarity[one, one] = -np.inf
        similarity[other], similarity[:, other] = -np.inf, -np.inf
        members[one] += members.pop(other)
    owner = {index: name for name, indices in members.items() for index in indices}
    numbers: dict[int, int] = {}
    return tuple(numbers.setdefault(owner[index], len(numbers)) for index in range(len(owner)))


def merge_neighbours(labels: Sequence[int]) -> list[tuple[int, list[int]]]:
    """Runs of equal labels: each one's label and the indices in it."""
    places: list[tuple[int, list[int]]] = []
    for index, label in enumerate(labels):
        if places and places[-1][0] == label:
            places[-1][1].append(index)
        else:
            places.append((label, [index]))
    return places


def _unused(reason: str, text: str) -> VideoError:
    return VideoError(reason, f"{GROUP_REASONS[reason]}: {text}")
