"""A chain as `tpo train` leaves it, in `tpo report`: tiny Qwen2-VL, two preference stages and SFT, beside SFT alone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from tpo_plugin.cli import main
from tpo_plugin.evaluation.common import chain_of
from tpo_plugin.folders import checkpoint_digest

ARGUMENTS = {
    **{"per_device_train_batch_size": 3, "learning_rate": 1e-3, "logging_steps": 1, "use_cpu": True},
    **{"disable_tqdm": True, "gradient_checkpointing": False, "save_strategy": "no"},
}


def test_where_a_chains_checkpoint_comes_from(tiny_family: Any, tiny_videos: Path, tmp_path: Path) -> None:
    rows = [
        {
            **{"id": f"{level}-{number}", "video": f"video {number}.mp4", "prompt": "What happens?"},
            **{"chosen": "a star, then a ring", "rejected": "a ring, then a star"},
            "tpo": {"kind": "caption", "perturbation": {"name": "reverse", "kept": [], "difficulty": level}},
        }
        for level in (16, 2)
        for number in range(3)
    ]
    (tmp_path / "pairs.json").write_text(json.dumps(rows))
    recipe = {
        **{
            "model": str(tiny_family("qwen2_vl")),
            "data": str(tmp_path / "pairs.json"),
            "output": str(tmp_path / "sft"),
        },
        **{"video_root": str(tiny_videos), "frames": {"fps": 0.25, "max": 4, "max_pixels": 1024}, "max_length": 64},
        **{"objective": {"dpo_alpha": 0.0, "gamma": 1.0}, "dtype": "float32", "arguments": ARGUMENTS},
    }
    (tmp_path / "sft.yaml").write_text(yaml.safe_dump(recipe))
    dpo = {"objective": {"beta": 0.1, "dpo_alpha": 1.0, "gamma": 0.0}, "curriculum": {"levels": [16, 2]}}
    (tmp_path / "dpo.yaml").write_text(yaml.safe_dump({**recipe, **dpo, "lora": {"r": 2, "alpha": 4}}))
    steps = [{"name": name, "recipe": str(tmp_path / f"{name}.yaml")} for name in ("dpo", "sft")]
    chain = {"model": recipe["model"], "output": str(tmp_path / "temple"), "steps": steps}
    (tmp_path / "temple.yaml").write_text(yaml.safe_dump(chain))
    for name in ("sft", "temple"):
        assert main(["train", str(tmp_path / f"{name}.yaml")]) == 0

    page = tmp_path / "report.html"
    assert main(["report", str(page), "--train", str(tmp_path / "sft"), f"temple={tmp_path / 'temple'}"]) == 0
    html = page.read_text(encoding="utf-8")
    told = html.partition("How temple was made")[2].partition("</table>")[0]
    columns = re.findall(r'scope="col">([^<]+)', told)
    assert columns == ["Setting", "dpo: stage-1-r16", "dpo: stage-2-r2", "sft"]
    for digest in (recipe["model"], *(tmp_path / "temple" / part / "model" for part in ("dpo/stage-1-r16", "dpo"))):
        assert checkpoint_digest(str(digest)) in told
    titles = re.findall(r"<title>([^<]*?) \(", html)
    assert {"Reward margin, caption pairs", "Norm of its gradient, before clipping"} <= set(titles)
    made = chain_of(str(tmp_path / "temple" / "model"))
    assert [(step["name"], step.get("stages"), step["pairs"]) for step in made] == [
        ("dpo", ["stage-1-r16", "stage-2-r2"], 6),
        ("sft", None, 6),
    ]
