"""Benchmarks: checkpoints on lmms-eval's own tasks, every question accounted for, with bootstrap intervals."""
