"""The LLM judge of the TPO paper (Fig. 8): one call, three questions, keep only Yes / No / Yes."""

from __future__ import annotations

import re

from tpo_plugin.curation.filters.base import Context, Verdict
from tpo_plugin.curation.templates import template
from tpo_plugin.records import PreferencePair

LINE = re.compile(r"^\W*(?:task\s*)?([123])\W+(yes|no|equally)\b", re.IGNORECASE | re.MULTILINE)
NAMES = {"1": "better", "2": "contradiction", "3": "correct"}
ALLOWED = {"better": ("yes", "no", "equally"), "contradiction": ("yes", "no"), "correct": ("yes", "no")}


def parse_verdicts(text: str) -> dict[str, str] | None:
    """`better`, `contradiction` and `correct` of a judge's reply; None if it does not answer each of them once."""
    found = [(NAMES[number], answer.casefold()) for number, answer in LINE.findall(text)]
    verdicts = dict(found)
    if len(found) != 3 or len(verdicts) != 3 or any(answer not in ALLOWED[name] for name, answer in found):
        return None
    return verdicts


async def judge(pair: PreferencePair, context: Context) -> Verdict:
    """Keep a pair if the chosen response is better, unambiguous and correct in the judge's eyes."""
    if not pair.captions:
        return Verdict("no_caption")
    prompt = template("judge").format(
        captions=pair.captions, question=pair.query.text, chosen=pair.chosen, rejected=pair.rejected
    )
    reply = await context.llm.complete([{"role": "user", "content": prompt}], temperature=0)
    if reply.problem:
        return Verdict(f"judge_{reply.problem}")
    verdicts = parse_verdicts(reply.text)
    if verdicts is None:
        return Verdict("judge_malformed", {"reply": reply.text})
    if verdicts["better"] != "yes":
        return Verdict("judge_not_better" if verdicts["better"] == "no" else "judge_equal", verdicts)
    if verdicts["contradiction"] == "yes":
        return Verdict("judge_contradiction", verdicts)
    return Verdict("judge_incorrect" if verdicts["correct"] == "no" else None, verdicts)
