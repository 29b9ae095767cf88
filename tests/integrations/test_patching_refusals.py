"""What `tpo patch` does about a checkout where something of its own, or something like it, is there already."""

from __future__ import annotations

import pytest

from tpo_plugin.errors import TPOError
from tpo_plugin.integrations import patching
from tpo_plugin.integrations.checkout import MARK, find_checkout

IMPORT = b"from tpo_plugin.integrations import llava_family  # tpo-plugin"
PREPARE = b"llava_family.prepare()  # tpo-plugin"
ATTACH = b"llava_family.attach(globals())  # tpo-plugin"
READERS = "llava/train/data_processing/utils.py"


@pytest.mark.parametrize("place", ["data_processing/utils.py", READERS])
def test_a_data_processing_of_their_own_is_left_alone(upstream_tree, patcher, tree_hash, place: str) -> None:
    path = upstream_tree("llava_next")
    own = path / place
    own.parent.mkdir()
    own.write_text("def load_json(path): ...\n")
    before = tree_hash(path)
    patcher.apply(path)
    assert patcher.words(path) == {"data_processing.patch": "not needed", "train_dpo.patch": "applied"}
    assert f"not needed: {place} is there" in patching.status_text(find_checkout(path))
    patcher.revert(path)
    assert tree_hash(path) == before


def without(line: bytes):
    return lambda source: source.replace(line + b"\n", b"")


@pytest.mark.parametrize(
    ("change", "word", "says"),
    [
        (without(ATTACH), "partly", "the script has 2 of its lines, not the 3 in order"),
        (without(IMPORT), "partly", "has 2 of its lines"),
        (lambda source: source.replace(PREPARE, PREPARE + b"\n" + PREPARE), "partly", "has 4 of its lines"),
        (lambda source: b"import os\n" + source, "moved", "not where `tpo patch apply` puts them"),
        (lambda source: without(ATTACH)(source) + ATTACH + b"\n", "moved", "not where"),
    ],
)
def test_half_of_a_patch_is_refused_and_revert_cures_it(
    upstream_tree, patcher, tree_hash, change, word: str, says: str
) -> None:
    path = upstream_tree("longva")
    script = find_checkout(path).script
    patcher.apply(path)
    script.write_bytes(change(script.read_bytes()))
    assert patcher.words(path) == {"train_dpo.patch": word}
    before = tree_hash(path)
    with pytest.raises(TPOError, match=f"{says}.*Nothing was changed. Cure: `tpo patch revert .*longva`"):
        patcher.apply(path)
    assert tree_hash(path) == before
    patcher.revert(path)
    assert b"tpo" not in script.read_bytes()
    patcher.apply(path)
    assert patcher.words(path) == {"train_dpo.patch": "applied"}


@pytest.mark.parametrize(
    "edited",
    [b"llava_family.attach(globals(), 1)  # tpo-plugin", b"llava_family.attach(globals())", b"pass  # tpo-plugin"],
)
@pytest.mark.parametrize("action", ["apply", "revert"])
def test_an_edited_line_is_refused_and_named(upstream_tree, patcher, tree_hash, edited: bytes, action) -> None:
    path = upstream_tree("llava_next")
    patcher.apply(path)
    script = find_checkout(path).script
    script.write_bytes(script.read_bytes().replace(ATTACH, edited))
    number = script.read_bytes().splitlines().index(edited) + 1
    assert patcher.words(path)["train_dpo.patch"] == "edited"
    before = tree_hash(path)
    with pytest.raises(TPOError, match=rf"line {number} is not as tpo-plugin wrote it: .*put the line back, or delete"):
        getattr(patcher, action)(path)
    assert tree_hash(path) == before


@pytest.mark.parametrize("action", ["apply", "revert"])
def test_an_edited_file_of_ours_is_refused_before_the_script_is_touched(
    upstream_tree, patcher, tree_hash, action
) -> None:
    path = upstream_tree("llava_next")
    patcher.apply(path)
    with (path / READERS).open("a") as file:
        file.write("\nmine = 1\n")
    if action == "apply":
        script = find_checkout(path).script
        script.write_bytes(b"".join(line for line in script.read_bytes().splitlines(True) if MARK not in line))
    before = tree_hash(path)
    with pytest.raises(
        TPOError, match=f"{READERS} is not as tpo-plugin wrote it. Nothing was changed. Cure: delete it"
    ):
        getattr(patcher, action)(path)
    assert tree_hash(path) == before
