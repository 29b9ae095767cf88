"""Fixtures that several test folders share."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def pytest_configure() -> None:
    from tpo_plugin.integrations.torchvision import repair

    repair()
