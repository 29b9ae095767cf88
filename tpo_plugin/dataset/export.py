"""`tpo data export`: a curation output, an import or a LLaVA DPO JSON in the form that another trainer reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tpo_plugin.dataset.formats import find_format, hf
from tpo_plugin.dataset.pairs import load_pairs, missing_videos, read_json
from tpo_plugin.errors import TPOError

PREFERENCE = ("trl", "ms_swift", "hf")  # formats whose readers take a pair


@dataclass(frozen=True)
class Exported:
    """What was written where; `missing` are the distinct video paths that are not files under `root`."""

    output: Path
    rows: int
    videos: int
    root: Path
    missing: tuple[str, ...]

    def __str__(self) -> str:
        lines = [
            f"{self.rows} pairs of {self.videos} videos written to {self.output}",
            f"Video paths are relative to {self.root}",
        ]
        if self.missing:
            lines.append(f"{len(self.missing)} of {self.videos} videos are not there, first {self.missing[0]!r}")
        return "\n".join(lines)


def export(source: str | Path, format: str, output: str | Path, video_root: str | Path | None = None) -> Exported:
    """Write the pairs of `source` (see `load_pairs`) to `output`, all or nothing.

    `format` is llava, trl, ms_swift (files), hf (a folder) or `package.module:function`. Missing videos are reported, not an error: the
    other trainer may run where the videos are. Raises TPOError for bad rows, an unknown format and an output that cannot be written.
    """
    write = find_format(format)
    rows, root = load_pairs(source, video_root)
    lacking = sum(not row.rejected for row in rows)
    if lacking and format in PREFERENCE:
        raise TPOError(
            f"{lacking} of {len(rows)} rows of {source} have no rejected response, which the format {format} needs: only `tpo train` and "
            "`--tpo` with dpo_alpha 0 take them, from the folder itself or from the format llava"
        )
    target = Path(output)
    try:
        curation = Path(source) / "statistics.json"
        if format == "hf" and curation.is_file():
            hf.write(rows, target, read_json(curation))  # the data card tells of it
        else:
            write(rows, target)
    except (OSError, UnicodeEncodeError) as error:
        raise TPOError(f"cannot write {target}: {error}; name another output") from None
    return Exported(target, len(rows), len({row.video for row in rows}), root, tuple(missing_videos(rows, root)))
