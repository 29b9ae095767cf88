"""`llava_video_tpo` and `longva_tpo` where neither a checkout nor its transformers is at hand. Runs of them: tests/upstream."""

from __future__ import annotations

import pytest
import transformers

from tpo_plugin.errors import TPOError
from tpo_plugin.evaluation.wrappers.llava import LlavaVideo, LongVA

SUPPORTED = "4.40" <= transformers.__version__ < "4.58"


@pytest.mark.skipif(SUPPORTED, reason="this transformers is one of those that upstream runs on")
@pytest.mark.parametrize("model", [LlavaVideo, LongVA])
def test_a_transformers_that_upstream_does_not_run_on(model):
    with pytest.raises(TPOError, match=r"supported on transformers 4\.40 - 4\.57; here is .*tpo-plugin\[llava\]"):
        model("lmms-lab/LLaVA-Video-7B-Qwen2")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"sampler": "random"}, "sampler=random is not known: shared or upstream"),
        ({"sampler": "upstream", "max_side": 384}, "max_side and max_pixels have no effect"),
        ({"force_sample": True}, "force_sample has no effect with sampler=shared"),
        ({}, "no LLaVA-NeXT here: .*TPO_LLAVA_NEXT"),
    ],
)
def test_arguments_that_do_not_fit(monkeypatch, arguments, says):
    """Refused before anything is loaded, whatever transformers is here."""
    monkeypatch.setattr("tpo_plugin.evaluation.wrappers.llava.check_transformers", lambda: None)
    monkeypatch.delenv("TPO_LLAVA_NEXT", raising=False)
    with pytest.raises(TPOError, match=says):
        LlavaVideo("lmms-lab/LLaVA-Video-7B-Qwen2", **arguments)
