"""`tpo patch apply|revert|status`: our lines in an upstream training script, put in and taken out again without a trace.

Nothing is written before every target was checked. Where a line goes is found by `ast`, so a user's own changes elsewhere in
the script do no harm; what is taken out is only what matches a patch file byte for byte.
"""

from __future__ import annotations

import ast
import codecs
import difflib
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tpo_plugin.errors import TPOError
from tpo_plugin.integrations.checkout import MARK, Checkout, is_main_guard, patches_folder, script_problem, upstreams
from tpo_plugin.records import write_bytes

HUNK = re.compile(rb"@@ -\d+,0 \+\d+(?:,\d+)? @@ ?(\S*)")
OURS = b"tpo-plugin"  # stands in every file that `tpo patch` adds
HOOK = b"llava_family"  # stands in every line that it inserts


@dataclass(frozen=True)
class Patch:
    """One patch file of ours: lines to insert at anchors of a file or, without an anchor, a new file."""

    file: str
    target: str  # path in the repository
    hunks: tuple[tuple[str, tuple[bytes, ...]], ...]  # anchor, lines without their ends
    unless: str = ""  # a file, relative to the root on sys.path, that makes this patch needless

    @property
    def creates(self) -> bool:
        """Whether the patch is a new file."""
        return not self.hunks[0][0]

    @property
    def lines(self) -> list[bytes]:
        """All lines that the patch adds, in order."""
        return [line for _, lines in self.hunks for line in lines]


@dataclass(frozen=True)
class State:
    """What is there of a patch: applied, not applied, partly, moved, edited or not needed; and what is wrong with it."""

    patch: Patch
    word: str
    reason: str = ""


@dataclass(frozen=True)
class Change:
    """A file to write; None stands for no file."""

    path: Path
    old: bytes | None
    new: bytes | None

    def diff(self, root: Path) -> str:
        """The change as a unified diff, with the path relative to `root`."""
        name = os.fsencode(self.path.relative_to(root).as_posix())
        old, new = ([] if side is None else side.splitlines(keepends=True) for side in (self.old, self.new))
        before = b"/dev/null" if self.old is None else b"a/" + name
        after = b"/dev/null" if self.new is None else b"b/" + name
        lines = difflib.diff_bytes(difflib.unified_diff, old, new, before, after)
        return "\n".join(line.rstrip(b"\r\n").decode("utf-8", "replace") for line in lines)


def read_patch(path: Path) -> Patch:
    """A patch file; TPOError if it removes lines or carries any of upstream's."""
    header: dict[str, str] = {}
    hunks: list[tuple[str, list[bytes]]] = []
    target = ""
    for line in path.read_bytes().splitlines():
        if found := HUNK.fullmatch(line):
            hunks.append((found[1].decode(), []))
        elif hunks and line.startswith(b"+"):
            hunks[-1][1].append(line[1:])
        elif hunks:
            raise TPOError(f"{path}: not purely additive: {line.decode()!r}")
        elif line.startswith(b"+++ b/"):
            target = line[6:].decode()
        elif not line.startswith(b"--- "):
            key, _, value = line.decode().partition(": ")
            header[key] = value
    return Patch(
        path.name, target, tuple((anchor, tuple(lines)) for anchor, lines in hunks), header.get("Not needed with", "")
    )


def read_patches(name: str) -> list[Patch]:
    """The patch files of a code base; the new files come first, so that a patched script finds them."""
    patches = [read_patch(path) for path in sorted((patches_folder() / name).glob("*.patch"))]
    return sorted(patches, key=lambda patch: not patch.creates)


def states(checkout: Checkout) -> list[State]:
    """What is there of each patch of this code base."""
    return [
        _file_state(patch, checkout) if patch.creates else _script_state(patch, checkout)
        for patch in read_patches(checkout.name)
    ]


def plan_apply(checkout: Checkout) -> list[Change]:
    """What is to be written so that every patch is applied; [] if they are. TPOError if one is there, but not as it should be."""
    found = states(checkout)
    for state in found:
        _refuse(state, checkout, ("edited", "partly", "moved"))
    changes = []
    for patch in (state.patch for state in found if state.word == "not applied"):
        path = checkout.path / patch.target
        if patch.creates:
            changes.append(Change(path, None, b"".join(line + b"\n" for line in patch.lines)))
        else:
            changes.append(Change(path, path.read_bytes(), insert(patch, path.read_bytes())))
    return changes


def plan_revert(checkout: Checkout) -> list[Change]:
    """What is to be written so that nothing of ours is left; TPOError if a user has changed what is ours."""
    found = states(checkout)
    for state in found:
        _refuse(state, checkout, ("edited",))
    changes = []
    for patch in (state.patch for state in reversed(found) if state.word in ("applied", "partly", "moved")):
        path = checkout.path / patch.target
        old = path.read_bytes()
        changes.append(Change(path, old, None if patch.creates else _strip(patch, old)))
    return changes


def carry_out(changes: list[Change]) -> None:
    """Write the changes, all or (on an OSError, which names the file) none of them."""
    for count, change in enumerate(changes):
        try:
            _write(change.path, change.new)
        except OSError:
            for done in reversed(changes[:count]):
                _write(done.path, done.old)
            raise


def _write(path: Path, data: bytes | None) -> None:
    """Write or remove a file; one that goes takes its folder along, if nothing else is in it."""
    if data is not None:
        write_bytes(path.resolve(), data)  # a linked script stays a link
        return
    path.unlink()
    cache = path.parent / "__pycache__"
    for compiled in cache.glob(f"{path.stem}.*.pyc"):
        compiled.unlink()
    for folder in (cache, path.parent):
        with suppress(OSError):  # not there, or something else is in it
            folder.rmdir()


def status_text(checkout: Checkout) -> str:
    """Code base, commit and the state of each patch, for the terminal."""
    known = ", ".join(f"{row['commit'][:12]} of {row['date']}" for row in upstreams()[checkout.name]["tried"])
    commit = f"commit {checkout.commit[:12]}" if checkout.commit else "no git commit"
    tried = "tried" if checkout.tried else f"not tried; {known} was"
    lines = [f"{checkout.title} at {checkout.path}, {commit} ({tried})"]
    found = states(checkout)
    width = max(len(state.patch.file) for state in found)
    for state in found:
        lines.append(f"  {state.patch.file:{width}}  {state.word}{f': {state.reason}' if state.reason else ''}")
    return "\n".join(lines)


def insert(patch: Patch, source: bytes) -> bytes:
    """`source` with the patch's lines at its anchors, in the source's own line ends."""
    body = source.removeprefix(codecs.BOM_UTF8)
    lines = body.splitlines(keepends=True)
    end = b"\r\n" if lines[0].endswith(b"\r\n") else b"\n"
    anchors = dict(_anchors(ast.parse(body)))
    for anchor, added in sorted(patch.hunks, key=lambda hunk: -anchors[hunk[0]]):
        lines[anchors[anchor] : anchors[anchor]] = [line + end for line in added]
    return source[: len(source) - len(body)] + b"".join(lines)


def _anchors(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """The name and the index of each line that a hunk can go before."""
    for node in tree.body:
        if (
            isinstance(node, (ast.Import, ast.ImportFrom, ast.Try, ast.If))
            and getattr(node, "module", "") != "__future__"
        ):
            yield "first-import", node.lineno - 1
            break
    yield "main-guard", next(node.lineno - 1 for node in tree.body if is_main_guard(node))


def _script_state(patch: Patch, checkout: Checkout) -> State:
    source = (checkout.path / patch.target).read_bytes()
    ours = []
    for number, line in enumerate(source.removeprefix(codecs.BOM_UTF8).splitlines(), 1):
        if line in patch.lines:
            ours.append(line)
        elif line.rstrip().endswith(MARK) or HOOK in line.partition(b"#")[0]:
            return State(
                patch, "edited", f"line {number} is not as tpo-plugin wrote it: {line.decode('utf-8', 'replace')}"
            )
    if not ours:
        return State(patch, "not applied")
    if ours != patch.lines:
        return State(patch, "partly", f"the script has {len(ours)} of its lines, not the {len(patch.lines)} in order")
    plain = _strip(patch, source)
    if script_problem(plain) or insert(patch, plain).splitlines() != source.splitlines():
        return State(patch, "moved", "its lines are not where `tpo patch apply` puts them")
    return State(patch, "applied")


def _strip(patch: Patch, source: bytes) -> bytes:
    body = source.removeprefix(codecs.BOM_UTF8)
    kept = [line for line in body.splitlines(keepends=True) if line.rstrip(b"\r\n") not in patch.lines]
    return source[: len(source) - len(body)] + b"".join(kept)


def _file_state(patch: Patch, checkout: Checkout) -> State:
    target, theirs = checkout.path / patch.target, checkout.root / patch.unless
    if target.is_file():
        text = target.read_bytes()
        if text.splitlines() == patch.lines:
            return State(patch, "applied")
        if OURS in text:
            return State(patch, "edited", f"{patch.target} is not as tpo-plugin wrote it")
        theirs = target
    if theirs.is_file():
        return State(patch, "not needed", f"{theirs.relative_to(checkout.path).as_posix()} is there")
    return State(patch, "not applied")


def _refuse(state: State, checkout: Checkout, words: tuple[str, ...]) -> None:
    if state.word not in words:
        return
    if state.word != "edited":
        cure = f"`tpo patch revert {checkout.path}` takes them out; then apply again"
    elif state.patch.creates:
        cure = "delete it, or rename it if you need it"
    else:
        cure = f"put the line back, or delete the lines that end in `{MARK.decode()}` yourself"
    raise TPOError(f"{checkout.path / state.patch.target}: {state.reason}. Nothing was changed. Cure: {cure}")
