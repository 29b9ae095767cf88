"""Temporal Preference Optimization for video LMMs: curate, train, evaluate, report."""

__version__ = "0.1.0"
