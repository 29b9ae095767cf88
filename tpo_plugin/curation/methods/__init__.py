"""Where pairs come from. One method a file."""

from __future__ import annotations

from tpo_plugin.curation.methods.base import Method
from tpo_plugin.curation.methods.hound import Hound
from tpo_plugin.curation.methods.llm import LLM
from tpo_plugin.curation.methods.temple import Temple
from tpo_plugin.curation.methods.temporal import Temporal

__all__ = ["METHODS", "Method"]

METHODS: dict[str, Method] = {"temporal": Temporal(), "hound": Hound(), "llm": LLM(), "temple": Temple()}
