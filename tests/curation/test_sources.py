"""Finding videos: folders, lists, LLaVA-Video-178K rows; what is wrong is said in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tpo_plugin.curation.sources import Source, content_id, find_videos
from tpo_plugin.errors import TPOError
from tpo_plugin.options import VideoOptions


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())


def paths(source: Path, **options: str | int) -> list[str]:
    return [found.path for found in find_videos(VideoOptions(str(source), **options))[1]]


def test_folder_in_a_fixed_order(tmp_path: Path) -> None:
    names = ["a.mp4", "b/-x.MKV", "b/c d/ü.webm", "b/z.avi", "c.mov"]
    touch(tmp_path, *reversed(names), "readme.txt", "b/cover.jpg", "noext")
    (tmp_path / "folder.mp4").mkdir()
    assert paths(tmp_path) == names
    assert paths(tmp_path, limit=2) == names[:2]
    assert paths(tmp_path / "b", root=str(tmp_path)) == names[1:4]
    assert find_videos(VideoOptions(str(tmp_path)))[0] == tmp_path


def test_videos_that_are_links_keep_their_own_names(tmp_path: Path) -> None:
    touch(tmp_path / "store", "1.bin")
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "a.mp4").symlink_to(tmp_path / "store" / "1.bin")
    assert paths(tmp_path / "videos") == ["a.mp4"]


def test_relative_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "v/a.mp4")
    monkeypatch.chdir(tmp_path)
    assert paths(Path("v")) == ["a.mp4"]
    assert paths(Path("v"), root=".") == ["v/a.mp4"]


def test_text_list(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("\ufeffb.mp4\n\n sub/a b.mp4 \nb.mp4\nb.mp4 \n", encoding="utf-8")
    assert paths(tmp_path / "list.txt") == ["b.mp4", "sub/a b.mp4"]
    assert find_videos(VideoOptions(str(tmp_path / "list.txt")))[0] == tmp_path


def test_absolute_paths_are_seen_from_the_root(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    inside = [str(tmp_path / "v" / "a.mp4"), "v/a.mp4", f"  {tmp_path}/b c.mp4  "]
    for name, text in (
        ("list.txt", "\n".join(inside)),
        ("list.json", json.dumps([{"video": path.strip()} for path in inside])),
    ):
        (tmp_path / "lists" / name).write_text(text)
        assert paths(tmp_path / "lists" / name, root=str(tmp_path)) == ["v/a.mp4", "b c.mp4"]
        with pytest.raises(TPOError, match=r"a\.mp4, which does not lie in .*lists: set `videos\.root`"):
            find_videos(VideoOptions(str(tmp_path / "lists" / name)))
    (tmp_path / "link").symlink_to(tmp_path)
    assert paths(tmp_path / "lists" / "list.txt", root=str(tmp_path / "link")) == ["v/a.mp4", "b c.mp4"]


def test_questions_of_absolute_paths(tmp_path: Path) -> None:
    touch(tmp_path, "v/a.mp4")
    turns = [{"from": "human", "value": "<image>"}, {"from": "gpt", "value": "Nothing was asked."},
             {"from": "human", "value": "What?"}, {"from": "gpt", "value": "This."}]  # fmt: skip
    videos = (str(tmp_path / "v" / "a.mp4"), "/elsewhere/b.mp4")
    (tmp_path / "qa.json").write_text(json.dumps([{"video": video, "conversations": turns} for video in videos]))
    found = find_videos(VideoOptions(str(tmp_path / "v")), str(tmp_path / "qa.json"))[1]
    assert found == [Source("a.mp4", (("What?", "This."),))]


def test_rows_of_a_qa_set(tmp_path: Path) -> None:
    rows = [
        {"video": "a.mp4", "conversations": [
            {"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "This."},
            {"from": "human", "value": "And then?"}, {"from": "gpt", "value": "That."}]},
        {"video": "b.mp4"},
        {"video": "a.mp4", "conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]},
        {"video": "c.mp4", "conversations": [{"from": "gpt", "value": "Hi."}, {"from": "human", "value": "Who?"}]},
    ]  # fmt: skip
    expected = [
        Source("a.mp4", (("What?", "This."), ("And then?", "That."), ("Why?", "So."))),
        Source("b.mp4"),
        Source("c.mp4"),
    ]
    (tmp_path / "qa.json").write_text(json.dumps(rows))
    (tmp_path / "qa.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    for name in ("qa.json", "qa.jsonl"):
        assert find_videos(VideoOptions(str(tmp_path / name)))[1] == expected
    touch(tmp_path / "videos", "a.mp4", "d.mp4")
    with_questions = find_videos(VideoOptions(str(tmp_path / "videos")), str(tmp_path / "qa.json"))[1]
    assert with_questions == [expected[0], Source("d.mp4")]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("qa.json", b"{", "is not JSON"),
        ("qa.json", b"\xff\xfe", "is not JSON"),
        ("qa.json", b'{"video": "a.mp4"}', "must hold a list of rows, it holds dict"),
        ("qa.json", b'[{"vid": "a.mp4"}]', "row 0 has no `video`"),
        ("qa.json", b"[1]", "row 0 has no `video`"),
        ("qa.json", b'[{"video": "a.mp4", "conversations": [{"value": "x"}]}]', "row 0: `conversations` must be"),
        ("qa.json", b'[{"video": "a.mp4", "conversations": "x"}]', "row 0: `conversations` must be"),
        ("qa.json", b"[]", "no videos in"),
        ("qa.jsonl", b'{"video": "a.mp4"}\n{"vid', "line 2 is not JSON"),
        ("qa.jsonl", b'{"video": "a.mp4"}\n\xff\n', "line 2 is not JSON"),
        ("list.txt", b"\n\n", "no videos in"),
        ("video.mp4", b"\x00\x00\x00\x20ftyp\xff\xfe\xfa", "is no list of videos"),
    ],
)
def test_sources_that_are_none(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TPOError, match=says):
        find_videos(VideoOptions(str(tmp_path / name)))


def test_missing_and_empty_folders(tmp_path: Path) -> None:
    with pytest.raises(TPOError, match=r"no videos at .*missing: `videos.source` is a folder"):
        find_videos(VideoOptions(str(tmp_path / "missing")))
    with pytest.raises(TPOError, match=r"looked for \.avi, \.mkv, \.mov, \.mp4, \.webm"):
        find_videos(VideoOptions(str(tmp_path)))
    touch(tmp_path, "v/a.mp4")
    with pytest.raises(TPOError, match="no folder at"):
        find_videos(VideoOptions(str(tmp_path / "v"), root=str(tmp_path / "missing")))
    (tmp_path / "other").mkdir()
    with pytest.raises(TPOError, match=r"does not lie in `videos\.root`"):
        find_videos(VideoOptions(str(tmp_path / "v"), root=str(tmp_path / "other")))
    with pytest.raises(TPOError, match="no file at"):
        find_videos(VideoOptions(str(tmp_path / "v")), str(tmp_path / "missing.json"))


def test_content_id_knows_a_changed_file(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4")
    (tmp_path / "b.mp4").write_bytes(bytes(300_000))
    first = {name: content_id(tmp_path, name) for name in ("a.mp4", "b.mp4", "gone.mp4")}
    assert len({json.dumps(value) for value in first.values()}) == 3
    assert first["a.mp4"] == content_id(tmp_path, "a.mp4")
    (tmp_path / "b.mp4").write_bytes(bytes(299_999) + b"x")
    touch(tmp_path, "gone.mp4")
    for name in ("b.mp4", "gone.mp4"):
        assert content_id(tmp_path, name) != first[name]


def test_content_id_of_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "unreadable.mp4").symlink_to("/proc/self/mem")  # a regular file whose reading fails, even for root
    assert content_id(tmp_path, "unreadable.mp4") == ["unreadable.mp4"]
