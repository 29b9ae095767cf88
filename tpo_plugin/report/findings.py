"""The answer first: what the benchmarks show, in sentences."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

from tpo_plugin.report.comparison import Comparison, Score, compare, named, slices
from tpo_plugin.report.evaluation import points, probability, signed
from tpo_plugin.report.markup import Markup, details, join, tag
from tpo_plugin.report.mcnemar import holm

MOST_PAIRS = 4  # models of which every two are compared; more are compared with the first alone
MOST_SENTENCES = 8  # that are shown without being asked for
NO_COMPARISON = tag("p", "One model was evaluated: there is nothing to compare it with.", class_="absent")
NOTHING_SHARED = tag("p", "The models answered no question in common: nothing is compared.", class_="absent")


def answer(comparison: Comparison) -> Markup:
    """One sentence a comparison; of many comparisons their outcomes first and the sentences on demand."""
    if not comparison.questions:
        return NOTHING_SHARED
    if len(comparison.models) < 2:
        return NO_COMPARISON
    sentences = findings(comparison)
    listed = tag("ul", [tag("li", sentence) for sentence in sentences], class_="findings")
    if len(sentences) <= MOST_SENTENCES:
        return listed
    lead = tag("ul", [tag("li", line) for line in outcomes(comparison)], class_="findings")
    return join(lead, details(f"Each comparison ({len(sentences)})", listed))


def outcomes(comparison: Comparison) -> list[Markup]:
    """How many models, and which, score higher and lower than the first and where no difference is shown."""
    scores = compare(comparison, next(slices(comparison.questions)))
    first, *others = scores
    adjusted = holm([score.changed.p for score in others if score.changed])
    found: dict[str, list[str]] = {}
    clear: Counter[str] = Counter()
    for score, p in zip(others, adjusted, strict=True):
        found.setdefault(score.reading, []).append(score.model)
        clear[score.reading] += p < 0.05
    start = tag("bdi", first.model)
    return [
        join(
            tag("strong", f"{len(labels)} of {len(others)} models against ", start, f": {reading}."),
            " ",
            named(labels, 12),
            f" ({clear[reading]} with McNemar\u2019s p below 0.05, adjusted for these {len(others)} comparisons)."
            if reading in ("higher", "lower")
            else ".",
        )
        for reading, labels in found.items()
    ]


def findings(comparison: Comparison) -> list[Markup]:
    """The overall result of each pair of models (of many models: of each with the first), one sentence each."""
    if not comparison.questions:
        return []
    everything = next(slices(comparison.questions))
    models = comparison.models
    references = models[:-1] if len(models) <= MOST_PAIRS else models[:1]
    scored = {
        reference: {score.model: score for score in compare(comparison, everything, reference)}
        for reference in references
    }
    pairs = [(first, second) for first, second in combinations(models, 2) if first in scored]
    changed = [scored[first][second].changed for first, second in pairs]
    adjusted = holm([one.p for one in changed if one])
    return [
        _finding(scored[first][second], scored[first][first], p, len(pairs))
        for (first, second), p in zip(pairs, adjusted, strict=True)
    ]


def _finding(score: Score, reference: Score, adjusted: float, comparisons: int) -> Markup:
    """The conclusion first, then the numbers it stands on; `adjusted` is the p among so many comparisons."""
    gain, changed = score.gain, score.changed
    assert gain is not None
    assert changed is not None
    both = (tag("bdi", score.model), " and ", tag("bdi", reference.model))
    conclusion = {
        "higher": join(tag("bdi", score.model), " scores higher than ", tag("bdi", reference.model)),
        "lower": join(tag("bdi", score.model), " scores lower than ", tag("bdi", reference.model)),
        "no difference shown": join("No difference shown between ", both),
    }.get(score.reading, join(f"Too few videos ({score.videos}) to compare ", both))
    zero = "excludes" if gain.low > 0 or gain.high < 0 else "includes"
    return join(
        tag("strong", conclusion),
        f": {points(score.accuracy.value)} % against {points(reference.accuracy.value)} % right, {signed(gain.value)} points; "
        f"the 95 % interval, {signed(gain.low)} to {signed(gain.high)}, {zero} 0. "
        f"{changed.gained:,} questions gained, {changed.lost:,} lost: McNemar\u2019s p {probability(changed.p)}"
        + (
            f", {probability(adjusted)} adjusted for these {comparisons} comparisons." if adjusted != changed.p else "."
        ),
    )
