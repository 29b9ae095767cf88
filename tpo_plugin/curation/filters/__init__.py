"""Filters: keep a candidate pair or say why not. One rule a file.

A filter is an async function `(pair, context) -> Verdict`; the first one that drops a pair names its reason.
"""

from __future__ import annotations

from tpo_plugin.curation.filters.base import Context, Filter, Verdict
from tpo_plugin.curation.filters.contained import contained
from tpo_plugin.curation.filters.drop_length import drop_length
from tpo_plugin.curation.filters.identical import identical
from tpo_plugin.curation.filters.judge import judge
from tpo_plugin.curation.filters.length import length
from tpo_plugin.curation.filters.order_length import order_length
from tpo_plugin.plugins import find

__all__ = ["BUILT_IN", "Context", "Filter", "Verdict", "find_filter"]

BUILT_IN: dict[str, Filter] = {
    "identical": identical,
    "length": length,
    "judge": judge,
    "contained": contained,
    "drop_length": drop_length,
    "order_length": order_length,
}


def find_filter(name: str) -> Filter:
    """The built-in filter `name`, or the one at a dotted `package.module:function`."""
    rule: Filter = find(name, BUILT_IN, "filter")
    return rule
