"""What is known of the benchmarks that the papers report: where lmms-eval looks for their files, what their questions are sorted by."""

from __future__ import annotations

from dataclasses import dataclass

from tpo_plugin.integrations.lmms_eval_tasks import base_task

MP4 = (".mp4", ".MP4")
NEEDLE = "needle"  # our own task, whose files needle/task.py knows


@dataclass(frozen=True)
class Layout:
    """A task's files below the data folder, as its code in lmms-eval reads them.

    `rows` is the hub dataset and the folder of the same name, with `config` and `split`; `videos` the folder of the videos, each named
    by the column `video` and one of `suffixes`; `subtitles` the folder of the .srt files where the task shows them.
    `categories` are the columns by which answers are also scored, `ident` the column of a question's own id. `percent`: the task
    reports percent, else shares. `modules` are what the task's code imports besides lmms-eval's own requirements; `judge`: it sends
    some answers to an LLM; `guesses`: it draws an option at random for an answer that names none; `pairs`: it scores pairs of videos, and names their files in lists of its own (Vinoground).
    """

    rows: str
    videos: str
    video: str
    suffixes: tuple[str, ...] = ("",)
    config: str | None = None
    split: str = "test"
    subtitles: str | None = None
    categories: tuple[str, ...] = ()
    ident: str = ""
    percent: bool = True
    modules: tuple[str, ...] = ()
    judge: bool = False
    guesses: bool = False
    pairs: bool = False


def _videomme(subtitles: str | None) -> Layout:
    return Layout(
        "lmms-eval/Video-MME",
        "videomme/data",
        "videoID",
        # The code that picks the subtitles knows .mp4 alone, and leaves the subtitles of other files out.
        (".mp4",) if subtitles else (*MP4, ".mkv"),
        subtitles=subtitles,
        categories=("duration", "task_type", "domain"),
        ident="question_id",
        modules=("cv2",),
    )


def _tempcompass(config: str) -> Layout:
    return Layout(
        "lmms-eval/TempCompass",
        "tempcompass/videos",
        "video_id",
        (".mp4",),
        config,
        categories=("dim",),
        modules=("requests",),
        judge=True,
    )


LAYOUTS = {
    "videomme": _videomme(None),
    "videomme_w_subtitle": _videomme("videomme/subtitle"),
    "mlvu_dev": Layout("sy1998/MLVU_dev", "mlvu", "video_name", categories=("task_type",)),
    "longvideobench_val_v": Layout(
        "longvideobench/LongVideoBench",
        "datasets/longvideobench/videos",
        "video_path",
        split="validation",
        categories=("duration_group", "question_category"),
        ident="id",
        percent=False,
        modules=("decord",),
        guesses=True,
    ),
    "tempcompass_multi_choice": _tempcompass("multi-choice"),
    "tempcompass_yes_no": _tempcompass("yes_no"),
    "tempcompass_caption_matching": _tempcompass("caption_matching"),
    "tempcompass_captioning": _tempcompass("captioning"),
    "vinoground": Layout("HanSolo9682/Vinoground", "vinoground", "video", split="lmmseval", ident="index", pairs=True),
    "egoschema_subset": Layout(
        "lmms-eval/egoschema",
        "egoschema/videos",
        "video_idx",
        MP4,
        "Subset",
        ident="question_idx",
        percent=False,
        guesses=True,
    ),
    "perceptiontest_val_mc": Layout(
        "lmms-eval/PerceptionTest_Val",
        "perceptiontest_val/videos",
        "video_name",
        MP4,
        "mc_question_val",
        split="validation",
        categories=("area", "reasoning"),
        percent=False,
    ),
}

# lmms-eval reports a group of tasks as one table without samples: its tasks are run one by one.
GROUPS = {
    "mlvu": ("mlvu_dev",),
    "tempcompass": (
        "tempcompass_multi_choice",
        "tempcompass_yes_no",
        "tempcompass_caption_matching",
        "tempcompass_captioning",
    ),
}

LONG = "lmms-eval asks Video-MME's long videos in words of its own there, and with subtitles under both names: use "
REFUSED = {
    "videomme_long": f"{LONG}videomme, whose category `long` they are",
    "videomme_long_w_subtitle": f"{LONG}videomme_w_subtitle, whose category `long` they are",
    "egoschema": "the labels of all of EgoSchema are not public: lmms-eval sends the answers to a server on the internet and "
    "logs no right or wrong; use egoschema_subset (500 questions)",
}

# Video-MME offers subtitles for 744 of its 900 videos. lmms-eval asks about the others with 'No subtitles available'.
SUBTITLED, OF_VIDEOS = 744, 900


def layout_of(task: str) -> Layout | None:
    """What is known of a task, or of the benchmark that a variant of ours asks in other words."""
    return LAYOUTS.get(base_task(task))


def with_members(tasks: tuple[str, ...]) -> tuple[str, ...]:
    """The tasks with groups replaced by their members, each once."""
    members = (member for task in tasks for member in GROUPS.get(task, (task,)))
    return tuple(dict.fromkeys(members))
