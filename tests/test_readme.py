"""The README's commands exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from tpo_plugin import recipe
from tpo_plugin.cli import _parser
from tpo_plugin.options import ChainRecipe
from tpo_plugin.training import chain

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
MAKEFILE = (Path(__file__).parents[1] / "Makefile").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^    (tpo .+)$", README, re.MULTILINE)


@pytest.mark.parametrize("command", [line for line in BLOCKS if "  " not in line.strip()])
def test_a_command_of_the_readme_parses(command: str) -> None:
    arguments = _parser().parse_args(shlex.split(command, comments=True)[1:])
    if hasattr(arguments, "recipe"):
        assert recipe.shipped(arguments.recipe).is_file()


def test_the_readme_has_commands() -> None:
    assert len(BLOCKS) >= 5


@pytest.mark.parametrize("target", sorted(set(re.findall(r"make ([a-z-]+)", README)) - {"the"}))
def test_make_targets_exist(target: str) -> None:
    assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE)


def test_the_chain_of_the_readme_takes_data_of_ones_own() -> None:
    """The paper's number of rows and its folder, which the recipe brings, are not asked for."""
    [text] = re.findall(r"\n\n((?:      .+\n)+)\n", README[README.index("`steps:`") :])[:1]
    data = yaml.safe_load(text)
    for step in data["steps"]:
        step["arguments.bf16"] = False  # as on a machine without a GPU
    dpo, sft = chain.plan(recipe.parse(ChainRecipe, data))
    assert (dpo.recipe.data, sft.recipe.data) == ("runs/my_pairs", "my_sft.json")
    assert (sft.recipe.video_root, sft.recipe.max_pairs) == ("my_videos", None)
