"""The report: one self-contained HTML page on pairs, training and benchmarks."""

from tpo_plugin.report.page import write_report

__all__ = ["write_report"]
