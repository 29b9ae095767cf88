"""Our lmms-eval models: `tpo_hf` (hf.py), `llava_video_tpo` and `longva_tpo` (llava.py), with what they share (base.py)."""
