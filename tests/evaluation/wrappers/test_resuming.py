"""Answers are kept while our models answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tpo_plugin.errors import VideoError
from tpo_plugin.evaluation.resuming import keep_answers
from tpo_plugin.evaluation.wrappers.hf import TemporalHF


def test_a_missing_video_is_found_before_the_first_answer(
    checkpoint: Path, questions: list[tuple[Path, str]], ask: Any, tmp_path: Path
) -> None:
    """Also where it belongs to a question of a later group."""
    model = TemporalHF(str(checkpoint), fps=0.5, max_frames_num=1, batch_size=64)
    asked = [*questions[:1] * 64, (tmp_path / "missing.mp4", "?")]
    keep_answers(model, tmp_path / "kept", batch_size=64)
    with pytest.raises(VideoError, match=r"missing\.mp4"):
        model.generate_until(ask(model, asked))
    assert not (tmp_path / "kept").read_bytes()
