"""Repair: torchvision from PyPI beside a CPU build of torch.

Why: PyPI's torchvision is compiled against CUDA torch. Beside `torch+cpu` its operators are not loaded, and the import fails
with 'operator torchvision::nms does not exist' (pytorch/vision issue 8450 and many like it), which stops transformers and lmms-eval.
What: declare the two operator schemas that the import looks for. Image transforms, all that is used here, work then; calling
`nms` still fails loudly.
Remove when: PyPI carries a CPU build of torchvision that matches torch's.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
from typing import Any

_library: Any = None  # torch unregisters the schemas when the library object is collected


def repair() -> bool:
    """Declare the missing schemas if torchvision is there and its operators are not; True if that was needed.

    Must run before torchvision's first import. Does nothing on a matching pair of torch and torchvision.
    """
    global _library
    spec = importlib.util.find_spec("torchvision")
    if _library is not None or spec is None or not _operators_missing(spec):
        return _library is not None
    import torch

    _library = torch.library.Library("torchvision", "FRAGMENT")
    _library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return True


def _operators_missing(spec: Any) -> bool:
    """Whether torchvision's compiled operators fail to load beside this torch."""
    import torch

    for folder in spec.submodule_search_locations or ():
        loader = importlib.machinery.FileFinder(
            folder, (importlib.machinery.ExtensionFileLoader, importlib.machinery.EXTENSION_SUFFIXES)
        )
        extension = loader.find_spec("_C")
        if extension is None or extension.origin is None:
            continue
        try:
            torch.ops.load_library(extension.origin)
        except OSError:
            return True
        return False
    return True
