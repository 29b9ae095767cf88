"""A visual needle in a haystack: a picture among the frames of long videos, over numbers of frames and depths.

The task is that of LongVA's V-NIAH (arXiv 2406.16852). The frames are handed to the model directly: a wrapper that samples a video
evenly would usually leave the needle out.

    needles.py, haystack.py  what is shown        grid.py  where the needle lies
    memory.py                the vision tower sees each frame once
    hf.py, llava.py          who is asked         scoring.py  what is right
    run.py, results.py       `tpo needle`         compare.py  `tpo needle --compare`
    task.py                  the same as a task of lmms-eval
"""
