"""Anchors: the option of a network, their file, and how well they suit the objects."""
import math
from pathlib import Path

import torch

from utils.boxes import size_iou
from utils.errors import UserError
from utils.settings import find, shown
from utils.system.files import read_lines, replace_text

# An anchor reaches an object when no side of the one is so many times that of the other (the rule of YOLOv5).
RATIO = 4.0


def find_anchors(anchors, input_shape, heads):
    """The option `anchors` of a network -> (heads, A, 2) float32 width, height in px, finest head first.

    anchors: for each head A pairs (width, height), used as they are; or the path of a file written by
    `write_anchors`: these are scaled to input_shape (H, W) and divided by area, the smallest to the finest
    head.
    """
    if isinstance(anchors, (str, Path)):
        sizes = scale_anchors(*read_anchors(anchors), input_shape, anchors)         # (M, 2)
        if len(sizes) % heads:
            raise UserError(
                f"{anchors} contains {len(sizes)} anchors, which cannot be divided evenly among the {heads} "
                "heads of this network. Make a file for it with tools/kmeans_anchors.py.")
        order = sizes.prod(1).argsort(stable=True)                                  # (M,)
        return sizes[order].view(heads, -1, 2)                                      # (heads, A, 2)

    # On the CPU, since the values are checked: while a network is tried on the device "meta" tensors have
    # none.
    try:
        sizes = torch.tensor(anchors, dtype=torch.float32, device="cpu")
    except (TypeError, ValueError, RuntimeError):
        sizes = torch.zeros(0, device="cpu")
    right_shape = sizes.ndim == 3 and len(sizes) == heads and sizes.shape[1] >= 1 and sizes.shape[2] == 2
    if not right_shape or not (sizes > 0).all() or not sizes.isfinite().all():
        raise UserError(
            f"anchors={anchors}: expected the same number of pairs (width, height) in px for each of the "
            f"{heads} heads, fine head first, or the path of a file of tools/kmeans_anchors.py.")
    return sizes                                                                    # (heads, A, 2)


def scale_anchors(sizes, made_for, input_shape, path):
    """Anchors (M, 2) px for an input of made_for (H, W) -> (M, 2) px for one of input_shape.

    Both sides grow by the square root of the areas, so that anchors keep their proportions as a letterboxed
    image does. Exact as long as the input keeps its own.
    """
    (h, w), (height, width) = made_for, input_shape
    if height * w != width * h:
        print(f"NOTE: the anchors in {path} were made for an input of {h} x {w}; {height} x {width} has "
              "other proportions. Better run tools/kmeans_anchors.py for it.")
    return sizes * math.sqrt(height * width / (h * w))                              # (M, 2)


def read_anchors(path):
    """A file of `write_anchors` -> (M, 2) float32 width, height px, and the input shape (H, W) of it."""
    file = find(path)
    if not file.is_file():
        raise UserError(f"There is no file of anchors {shown(file)}. tools/kmeans_anchors.py writes one.")

    # One pair a line: of an anchor, or after the word input_shape of the input.
    sizes, shape = [], None
    for line_number, line in enumerate(read_lines(file), 1):
        if not line or line.startswith("#"):
            continue
        pair = two_numbers(line.removeprefix("input_shape"))
        if pair is None:
            raise UserError(f"{shown(file)}, line {line_number}: {line!r}: "
                            'expected "input_shape height,width" or "width,height".')
        if line.startswith("input_shape"):
            shape = pair
        else:
            sizes.append(pair)

    # Both are needed: without the shape nobody knows what a pixel is.
    if not sizes or not shape:
        missing = "anchors" if shape else "line input_shape height,width"
        raise UserError(f"{shown(file)} contains no {missing}: tools/kmeans_anchors.py writes it again.")
    return torch.tensor(sizes), tuple(int(side) for side in shape)


def two_numbers(text):
    """"12.5,30" -> (12.5, 30.0); None where it is not two finite numbers above 0."""
    try:
        pair = tuple(float(word) for word in text.split(","))
    except ValueError:
        return None
    return pair if len(pair) == 2 and all(0 < value < math.inf for value in pair) else None


def write_anchors(path, sizes, input_shape, source):
    """Write anchors (M, 2) px, made for input_shape (H, W), from the list file `source`.

    -> the copy that is kept of an older file with other content, or None.
    """
    height, width = input_shape
    lines = [f"# Anchors of {source}, by tools/kmeans_anchors.py: "
             "width,height in px of the input, the smallest first.",
             f"input_shape {height},{width}"]
    lines += [f"{width:g},{height:g}" for width, height in sizes.tolist()]
    return replace_text(find(path), "".join(line + "\n" for line in lines))


def suitability(sizes, anchors):
    """How well anchors (M, 2) suit objects (N, 2), both px. -> best possible recall, mean IoU; both 0-1.

    Best possible recall: the share of the objects that some anchor reaches (see RATIO).
    Mean IoU: with the best anchor, by shape alone.
    """
    growth = sizes[:, None] / anchors                                               # (N, M, 2)
    stretch = torch.maximum(growth, 1 / growth).amax(2)                             # (N, M)
    reached = stretch.amin(1) < RATIO                                               # (N,)
    return float(reached.float().mean()), float(size_iou(sizes, anchors).amax(1).mean())
