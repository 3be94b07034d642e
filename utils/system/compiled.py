"""torchvision's compiled NMS, without torchvision.

Importing torchvision imports PyTorch's compiler too, which takes about as long as PyTorch itself; a single
picture would wait for it. What is compiled is one library in its folder, and that is enough.
"""
import importlib.util
import sys
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import torch


@lru_cache(maxsize=1)
def compiled_nms():
    """-> a function: boxes (M, 4) xyxy, scores (M,), the IoU from which on the better box alone stays -> rows
    that stay, by falling score."""
    if "torchvision" not in sys.modules:
        folder = Path(importlib.util.find_spec("torchvision").origin).parent
        for library in sorted(folder.glob("_C*.so")):
            with suppress(OSError, AttributeError):
                torch.ops.load_library(library)
                return torch.ops.torchvision.nms

    # Windows, and whatever a later version does differently.
    import torchvision
    return torchvision.ops.nms
