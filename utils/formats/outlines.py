"""Outlines of objects: COCO's "segmentation", and the masks inside labelme files.

An outline is a list of (n, 2) px polygons, or run lengths: dict(counts, size (h, w)), the lengths of the runs
of equal pixels, column by column from the left, the first run of zeros.
"""
import numpy as np

from utils.errors import UserError
from utils.formats.foreign import coordinate

NOTHING = (None, [], {}, "")    # how files say that there is no outline


def read_outline(value, size, found=None):
    """"segmentation" -> list of (n, 2) polygons, a dict of run lengths, or None when there is none.

    size: (w, h) px, None: not known.  found: gets (kind, detail) of polygons that are left out.
    """
    if value in NOTHING:
        return None
    if isinstance(value, dict):
        return read_runs_of(value, size) if size else None

    polygons = []
    for numbers in as_polygons(value):
        if not isinstance(numbers, list) or len(numbers) % 2:
            raise UserError(f"segmentation holds {str(numbers)[:60]}, expected polygons "
                            "[x1, y1, x2, y2, x3, y3, ...]")

        # A double click leaves a polygon of one or two points behind: it has no area, the others have one.
        if len(numbers) < 6:
            if numbers and found is not None:
                found.append(("shape_flat", f"a polygon with {len(numbers) // 2} points"))
            continue

        # COCO has millions of these: only where the quick test fails is each number looked at alone.
        plain = set(map(type, numbers)) <= {int, float} and -1e6 < min(numbers) <= max(numbers) < 1e6
        if not plain or any(v != v for v in numbers):       # v != v: NaN
            numbers = [coordinate(v, "a number of segmentation") for v in numbers]
        polygons.append(np.array(numbers, np.float64).reshape(-1, 2))
    return polygons or None


def as_polygons(value):
    """A list of lists of numbers; one polygon alone is also written as [x1, y1, ...] or [[x1, y1], ...]."""
    if not isinstance(value, list):
        return [value]
    if all(isinstance(number, (int, float)) for number in value):
        return [value]
    pairs = [part for part in value if isinstance(part, list) and len(part) == 2]
    if len(pairs) == len(value) >= 3:
        return [[number for pair in pairs for number in pair]]
    return value


def extent(outline):
    """(x1, y1, x2, y2) px edges of an outline; None when no pixel is in it."""
    if isinstance(outline, dict):
        mask = run_length_mask(outline)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        if not len(rows):
            return None
        return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)
    points = np.concatenate(outline)
    return (*points.min(0).tolist(), *points.max(0).tolist())


def read_runs_of(value, size):
    """{"size": [h, w], "counts": ...} -> dict(counts, size). size: (w, h) px of the image."""
    told = value.get("size")
    if told != [size[1], size[0]]:
        raise UserError(f"its run-length mask has the size {str(told)[:40]}, but its image "
                        f"{[size[1], size[0]]} (height, width)")
    return {"counts": run_lengths(value.get("counts"), size), "size": (size[1], size[0])}


def run_lengths(counts, size):
    """The runs of a mask, column by column, the first of zeros -> (n,) int64 that add up to the image.

    counts: list of int, or COCO's text for them, see read_runs.
    """
    if isinstance(counts, str):
        counts = read_runs(counts)
    whole = isinstance(counts, list) and all(type(run) is int and run >= 0 for run in counts)
    if not whole or sum(counts) != size[0] * size[1]:
        raise UserError("its run-length mask is damaged, or does not belong to an image of "
                        f"{size[0]} x {size[1]} pixels")
    return np.array(counts, np.int64)


def read_runs(text):
    """COCO's text for a list of run lengths -> the list; None when it is damaged.

    A number is written in groups of 5 bits, the lowest first, and each group as one letter from "0" on,
    with 32 added when another group follows. From the third number on it is the difference to the number
    before the last. Written here because pycocotools trusts the text (measured: an empty one gives a mask
    of whatever was in the memory), and so that it need not be installed.
    """
    runs, value, shift = [], 0, 0
    for letter in text:
        code = ord(letter) - 48
        if not 0 <= code < 64 or shift > 30:
            return None
        value |= (code & 31) << shift
        shift += 5

        # The last group of a number: its highest bit is the sign.
        if not code & 32:
            sign = 1 << shift if code & 16 else 0
            before = runs[-2] if len(runs) > 2 else 0
            runs.append(value - sign + before)
            value, shift = 0, 0
    return runs if not shift else None


def run_length_mask(outline):
    """dict(counts, size (h, w)) -> (h, w) uint8 of 0 and 1."""
    height, width = outline["size"]
    values = np.arange(len(outline["counts"])) % 2          # 0, 1, 0, 1 ...: the first run is of zeros
    return np.repeat(values, outline["counts"]).astype(np.uint8).reshape(width, height).T


def runs_of(mask):
    """(h, w) of 0 and 1 -> dict(counts, size (h, w))."""
    pixels = mask.astype(bool).T.ravel()
    changes = np.flatnonzero(np.diff(pixels)) + 1
    edges = np.concatenate([[0], changes, [pixels.size]])
    counts = np.diff(edges).astype(np.int64)
    if pixels.size and pixels[0]:
        counts = np.concatenate([[0], counts])              # the first run is of zeros
    return {"counts": counts, "size": mask.shape}
