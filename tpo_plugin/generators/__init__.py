"""Generators: who looks at frames and writes text, in process or behind a server."""

from tpo_plugin.generators.base import Generator, Prompt, build_generator

__all__ = ["Generator", "Prompt", "build_generator"]
