"""The process in which one path is measured. Arguments: a job (job.py) as JSON, a file to write the result to, and for a path in a checkout's
script the checkout and the world (upstream_world.py) to run it in."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from tpo_plugin.integrations.torchvision import repair


def main(job_text: str, file: str, *script: str) -> None:
    """Measure and write."""
    repair()
    from tpo_plugin.bench.job import Job

    job = Job(**json.loads(job_text))
    if script:
        from tpo_plugin.bench.upstream_measure import measure_in_script

        result = measure_in_script(job, script[0], Path(script[1]))
    else:
        from tpo_plugin.bench.measure import measure

        result = measure(job)
    Path(file).write_text(json.dumps(asdict(result)), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
