"""Masks that have to be made -- from outlines, colours or other numbers -- in a folder of the repository,
prepared/<dataset>_<hash of its path>/masks/: nothing is written into the data.

A mask is made again only when what it is made from has changed. Those that earlier versions made in a folder
plainvision_masks/ beside the data are used as long as they are right.
"""
import hashlib
import json
import os
from pathlib import Path

import numpy as np

from utils.errors import UserError
from utils.findings import Finding, from_error
from utils.formats.foreign import MADE, relative
from utils.formats.outlines import run_length_mask
from utils.formats.sweep import sweep
from utils.images import IGNORED, open_mask
from utils.lists import prepared_folder
from utils.results.masks import index_png
from utils.settings import shown
from utils.system.files import printable, read_record, write_text

RECORD = "made_from.json"       # mask -> what it was made from and its size; marks the folder as ours
VERSION = 1                     # a new number makes all masks again: change it when painting changes
CORNERS_AT_ONCE = 2048
MOST = 253                      # classes beside the background


def paint_mask(size, objects, labels):
    """The mask of an image: (h, w) uint8, 0 where no object is. Later objects cover earlier ones.

    size: (w, h).  objects: dicts with name and outline.  labels: dict name -> number.
    """
    mask = np.zeros(size[::-1], np.uint8)
    for thing in objects:
        outline = thing["outline"]
        if isinstance(outline, dict):
            mask[run_length_mask(outline) > 0] = labels[thing["name"]]
        else:
            for polygon in outline:
                fill_polygon(mask, polygon, labels[thing["name"]])
    return mask


def fill_polygon(mask, points, value):
    """Paint the pixels whose centre is inside a polygon (even-odd rule), in place. points: (n, 2) px.

    cv2.fillPoly paints the border as well, which makes everything a pixel larger; small objects would double.
    """
    # The rows whose centre an edge crosses: from first to last, last excluded.
    height, width = mask.shape
    ends = np.roll(points, -1, axis=0)
    upper = np.minimum(points[:, 1], ends[:, 1])
    lower = np.maximum(points[:, 1], ends[:, 1])
    first = np.ceil(upper - 0.5).clip(0, height).astype(int)
    last = np.ceil(lower - 0.5).clip(0, height).astype(int)

    # Only the rectangle around the polygon is worked on.
    top, bottom = first.min(), last.max()
    if top >= bottom:
        return
    left = int(np.floor(points[:, 0].min()).clip(0, width))
    right = int(np.ceil(points[:, 0].max()).clip(left, width))

    # Each edge flips one pixel in every row that it crosses: the first whose centre is right of it.
    crossings = np.zeros((bottom - top, right - left + 1), np.uint8)
    for start in range(0, len(points), CORNERS_AT_ONCE):    # in pieces, to bound the memory
        some = slice(start, start + CORNERS_AT_ONCE)
        counts = last[some] - first[some]
        edge = np.repeat(np.arange(len(points))[some], counts)
        row = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]

        (x1, y1), (x2, y2) = points[edge].T, ends[edge].T
        crossed_at = x1 + (row + 0.5 - y1) * (x2 - x1) / (y2 - y1)
        column = np.ceil(crossed_at - 0.5).clip(left, right).astype(int)
        np.bitwise_xor.at(crossings, (row - top, column - left), 1)

    # A pixel is inside when the number of edges to its left is odd.
    inside = np.bitwise_xor.accumulate(crossings, axis=1)[:, :-1]
    mask[top:bottom, left:right][inside > 0] = value


def outline_jobs(lists, names, findings, ignored=(), empty=()):
    """What `make_masks` needs for the outlines of samples: dict image path -> (image path, fingerprint,
    function that gives the mask).

    lists: dict list name -> samples.  Label 0 is background.  ignored: names whose pixels become 255.
    empty: names that are background, in small letters.
    Findings: images with objects without an outline; they get no mask. Error: too many classes.
    """
    if len(names) > MOST:
        raise UserError(f"There are {len(names)} classes, a mask of 8 bits holds {MOST} "
                        "beside the background.")
    samples = [sample for some in lists.values() for sample in some]
    labels = {name: number for number, name in enumerate(names, 1)} | dict.fromkeys(ignored, IGNORED)
    labels |= {thing["name"]: 0 for sample in samples for thing in sample.truth
               if thing["name"].lower() in empty}

    jobs = {}
    for image, _, size, _, objects, *_ in samples:
        # A mask without one of the objects would teach that this object is background.
        bare = [thing["name"] for thing in objects if "outline" not in thing]
        if bare:
            detail = f"{len(bare)} of {len(objects)} objects ({printable(bare[0])} ...)"
            findings.append(Finding("no_outline", image, None, detail))
            continue

        def make(size=size, objects=objects):
            return paint_mask(size, objects, labels)

        numbers = [labels[thing["name"]] for thing in objects]
        jobs[image] = image, fingerprint_of(size, numbers, objects), make
    return jobs


def fingerprint_of(size, numbers, objects):
    """A word that changes whenever the mask of these outlines would. numbers: the label of each object."""
    digest = hashlib.sha256(repr((VERSION, size, numbers)).encode())
    for thing in objects:
        outline = thing["outline"]
        for array in [outline["counts"]] if isinstance(outline, dict) else outline:
            digest.update(array.tobytes() + b"|")
    return digest.hexdigest()


def make_masks(home, jobs, findings):
    """Write the masks of the images of the dataset `home`, see above.
    -> dict image path -> (mask path, pixels per value (256,)).

    jobs: dict image path -> (the file the mask is made from, fingerprint of what it is made from, function
    that gives it).
    Findings: a mask cannot be made. Errors: the folder is not ours, a mask cannot be written.
    """
    if not jobs:
        return {}
    folder, former = prepared_folder(home) / "masks", Path(home) / MADE
    record, older = open_folder(folder), read_record(former / RECORD)
    places = mask_names(jobs, home)

    def make_one(image):
        source, fingerprint, make = jobs[image]
        name = places[image]

        # The same source and a file of the same size: the mask of the last time is still good.
        path = folder / name
        for place, known in ((folder, record), (former, older)):
            if known.get(name) == [fingerprint, bytes_of(place / name)]:
                path = place / name
                break
        else:
            try:
                mask = make()
            except UserError as error:
                return from_error(error, source)
            index_png(path, mask)
        return path, [fingerprint, bytes_of(path)], np.bincount(open_mask(path).ravel(), minlength=256)

    made = {}
    for image, result in zip(jobs, sweep(make_one, [(image,) for image in jobs], "Making masks")):
        if isinstance(result, Finding):
            findings.append(result)
        else:
            made[image] = result

    # Written at the end: after a crash the masks are made again rather than trusted.
    ours = {image: known for image, (path, known, _) in made.items() if path.is_relative_to(folder)}
    record |= {places[image]: known for image, known in ours.items()}
    write_text(folder / RECORD, json.dumps(record, ensure_ascii=True, indent=0, sort_keys=True) + "\n")
    return {image: (path, counts) for image, (path, _, counts) in made.items()}


def bytes_of(path):
    """Bytes of a file, None when it is not there."""
    return path.stat().st_size if path.is_file() else None


def mask_names(images, home):
    """dict image path -> name of its mask in the folder; a.jpg and a.png get a.png and a.png.png."""
    names, taken = {}, set()
    for image in sorted(images):
        # An image from elsewhere, by the path in a data.yaml, gets a folder named after its own.
        name = relative(image, home)
        if name.startswith("../") or os.path.isabs(name):
            parent = str(Path(image).parent).encode("utf-8", "replace")
            name = f"{hashlib.sha256(parent).hexdigest()[:8]}/{Path(image).name}"

        short = Path(name).with_suffix(".png").as_posix()
        names[image] = short if short not in taken else f"{name}.png"
        taken.add(names[image])
    return names


def open_folder(folder):
    """The record of a folder of made masks, {} of a new one. Error: it holds something else."""
    has_record = (folder / RECORD).is_file()
    strange = folder.is_dir() and not has_record and any(folder.iterdir())
    if strange or folder.is_symlink() or folder.exists() and not folder.is_dir():
        raise UserError(f"{shown(folder)} exists already and was not made by this program: rename it. The "
                        "masks that have to be made go there.")

    # A new folder is marked as ours before the first mask.
    if not has_record:
        write_text(folder / RECORD, "{}\n")
    return read_record(folder / RECORD)
