"""Anchors: the option of a network, the file that tools/kmeans_anchors.py writes, and how well anchors suit a set of objects."""
import math
from pathlib import Path

import torch

from utils.boxes import size_iou
from utils.errors import UserError
from utils.settings import find, shown
from utils.system.files import read_lines, replace_text

RATIO = 4.0             # an anchor reaches an object when no side of the one is so many times that of the other (the rule of YOLOv5)


def find_anchors(anchors, input_shape, heads):
    """The option `anchors` of a network -> (heads, A, 2) float32 width, height in px of the input, the finest head first.

    anchors: for each head A pairs (width, height), used as they stand; or the path of a file written by `write_anchors`: these are
    scaled to input_shape (H, W) and dealt out by their area, the smallest to the finest head.
    """
    if isinstance(anchors, (str, Path)):
        sizes = scaled(*read_anchors(anchors), input_shape, anchors)
        if len(sizes) % heads:
            raise UserError(f"{anchors} holds {len(sizes)} anchors, which cannot be dealt out evenly to the {heads} heads of this network: "
                            "make a file for it with tools/kmeans_anchors.py.")
        order = sizes.prod(1).argsort(stable=True)
        return sizes[order].view(heads, -1, 2)
    try:
        sizes = torch.tensor(anchors, dtype=torch.float32, device="cpu")     # numbers to be looked at, also in a trial without memory
    except (TypeError, ValueError, RuntimeError):
        sizes = torch.zeros(0, device="cpu")
    if sizes.ndim != 3 or len(sizes) != heads or sizes.shape[1] < 1 or sizes.shape[2] != 2 or not (sizes > 0).all() or not sizes.isfinite().all():
        raise UserError(f"anchors={anchors}: expected, for each of the {heads} heads, equally many pairs (width, height) in px, fine head first, "
                        "or the path of a file of tools/kmeans_anchors.py.")
    return sizes


def scaled(sizes, made_for, input_shape, path):
    """Anchors (M, 2) px for an input of made_for (H, W) -> for one of input_shape: by the square root of the areas, so that they keep
    their proportions as a letterboxed picture does. Exact as long as the input keeps its own."""
    (h, w), (height, width) = made_for, input_shape
    if height * w != width * h:
        print(f"NOTE: the anchors in {path} were made for an input of {h} x {w}; one of {height} x {width} has other proportions: "
              "better run tools/kmeans_anchors.py for it.")
    return sizes * math.sqrt(height * width / (h * w))


def read_anchors(path):
    """A file of `write_anchors` -> (M, 2) float32 width, height px, the input shape (H, W) they were made for."""
    if not find(path).is_file():
        raise UserError(f"There is no file of anchors {shown(find(path))}. tools/kmeans_anchors.py writes one.")
    sizes, shape = [], None
    for number, line in enumerate(read_lines(find(path)), 1):
        if not line or line.startswith("#"):
            continue
        try:
            pair = tuple(float(word) for word in line.removeprefix("input_shape").split(","))
            if len(pair) != 2 or not all(0 < value < math.inf for value in pair):
                raise ValueError
        except ValueError:
            raise UserError(f'{shown(find(path))}, line {number}: {line!r} is neither "input_shape height,width" nor "width,height".') from None
        if line.startswith("input_shape"):
            shape = pair
        else:
            sizes.append(pair)
    if not sizes or not shape:
        raise UserError(f"{shown(find(path))} holds no {'anchors' if shape else 'line input_shape height,width'}: "
                        "tools/kmeans_anchors.py writes it anew.")
    return torch.tensor(sizes), tuple(int(side) for side in shape)


def write_anchors(path, sizes, input_shape, source):
    """Write anchors (M, 2) px, made for input_shape (H, W), from the list file `source`. -> the copy kept of another old file, or None."""
    lines = [f"# Anchors of {source}, by tools/kmeans_anchors.py: width,height in px of the input, the smallest first.",
             f"input_shape {input_shape[0]},{input_shape[1]}", *(f"{width:g},{height:g}" for width, height in sizes.tolist())]
    return replace_text(find(path), "".join(line + "\n" for line in lines))


def suitability(sizes, anchors):
    """How well anchors (M, 2) suit objects (N, 2), both px. -> best possible recall, mean IoU; both 0-1.

    Best possible recall: the share of the objects that some anchor reaches (see RATIO).  Mean IoU: with the best anchor, by shape alone.
    """
    growth = sizes[:, None] / anchors
    reached = torch.maximum(growth, 1 / growth).amax(2).amin(1) < RATIO
    return float(reached.float().mean()), float(size_iou(sizes, anchors).amax(1).mean())
