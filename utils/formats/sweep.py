"""Reading every file of a dataset once: is the image whole, what does its label say. Many files at a time,
with a progress bar.

Threads, no processes: decoding, reading and hashing leave Python's lock free, and nothing has to be started
or sent. What was seen can be kept in a file, so that the next time only changed files are read.
"""
import contextlib
import hashlib
import json
import os
import re
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from utils import settings
from utils.depth import choose_range, words_of_range
from utils.errors import UserError
from utils.findings import Finding, from_error
from utils.formats.alike import ENOUGH, look_of
from utils.formats.objects import SPOILING
from utils.formats.voc_xml import read_annotation
from utils.images import HUGE_PIXELS, ORIENTATION, open_image, open_mask, open_values, opened, pages_of
from utils.settings import find
from utils.system.bars import progress
from utils.system.files import write_text
from utils.system.machine import cores

SAME = 2                        # values so near to each other are one colour
CHUNK = 16                      # files that a thread takes at a time
SAMPLED = 64                    # pictures of a dataset whose values are looked at
DEEP_SUFFIXES = (".png", ".tif", ".tiff")       # of pictures that may have more than 8 bits a channel
VERSION = 2                     # of what a cache file holds; another one is not used


class Sample(NamedTuple):
    """An image and its label, both read."""
    image: Path
    label: Path | None
    size: tuple                 # width, height of the image as it is shown, px
    digest: str                 # "<hash of the file>.<what it looks like, see alike.py>"
    truth: object               # list of dict(name, box, difficult), or of a mask (256,) pixels per value
    flat: bool = False          # whether all of the image has the same colour


def look_at_image(path):
    """-> width, height, digest (see Sample) of an image file. Every byte is decoded. Errors: open_image's."""
    return look_closely(path)[:3]


def look_closely(path):
    """As look_at_image, and whether the image has one colour only.

    A JPEG is decoded in grey at an eighth of its size, which takes two thirds of the time: all its data are
    read and unpacked, only the pixels are not computed. That is enough to see what it looks like.
    """
    with opened(path) as image:
        digest = hashlib.sha1(image.fp.getbuffer()).hexdigest()         # `opened` has read the whole file
        if image.format == "JPEG":
            width, height = image.size
            if image.getexif().get(ORIENTATION, 1) in (5, 6, 7, 8):     # to be shown turned by 90 degrees
                width, height = height, width
            image.draft("L", (ENOUGH, ENOUGH))
            grey = np.asarray(image if image.mode == "L" else image.convert("L"))
            flat = is_flat(grey) and is_flat(open_image(path))
            return width, height, f"{digest}.{look_of(grey)}", flat

    # Other formats have no quick way: the image is read as training will read it.
    pixels = open_image(path)
    height, width = pixels.shape[:2]
    look = look_of(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))
    return width, height, f"{digest}.{look}", is_flat(pixels)


def is_flat(pixels):
    """Whether (h, w) or (h, w, C) pixels have one colour only, or nearly, as a lossy format leaves it."""
    return bool((np.ptp(pixels, (0, 1)) <= SAME).all())


def look_at_mask(path):
    """-> width, height, {value: pixels} of a mask file. Errors: those of open_mask."""
    values = open_mask(path)
    height, width = values.shape
    counts = np.bincount(values.ravel(), minlength=256)
    return width, height, {int(value): int(counts[value]) for value in np.flatnonzero(counts)}


def look_at_pair(task, image, label):
    """An image and its label, an xml file or a mask -> Sample, or None when one cannot be used; findings."""
    sample, findings = look_at_sample(image)

    # The label is read even if the image cannot be used: everything that is wrong is reported in one go.
    try:
        if task == "detection":
            truth, found = read_annotation(label, *(sample.size if sample else ()))
        else:
            *size, values = look_at_mask(label)
            found = size_finding(label, tuple(size), sample.size) if sample else []
            truth = all_counts(values)
    except UserError as error:
        kind = "xml_broken" if task == "detection" else "image_damaged"
        return None, [*findings, from_error(error, label, kind)]
    return with_truth(sample, label, truth, found), findings + found


def look_at_sample(image):
    """An image -> Sample that has no truth yet, or None when it cannot be used, and findings."""
    image = Path(image)
    if re.search("[\x00-\x1f\x7f\ud800-\udfff]", str(image)):
        return None, [Finding("bad_name", image)]
    try:
        *size, digest, flat = look_closely(image)
        found = [Finding("image_pages", image)] if pages_of(image) > 1 else []
        if size[0] * size[1] > HUGE_PIXELS:
            found.append(Finding("image_huge", image, None, f"{size[0]} x {size[1]} pixels"))
        return Sample(image, None, tuple(size), digest, None, flat), found
    except UserError as error:
        return None, [from_error(error, image)]


def with_truth(sample, label, truth, findings):
    """The sample with what its label says; None without a sample or when the label is useless."""
    if sample is None or any(finding.kind in SPOILING for finding in findings):
        return None
    return sample._replace(label=label, truth=truth)


def size_finding(mask, size, image_size):
    """A list of one finding when a mask has another size than its image, else an empty one.

    Sizes: (width, height).
    """
    if size == image_size:
        return []
    kind = "mask_turned" if size == image_size[::-1] else "mask_size"
    detail = "the mask is {} x {} pixels, its image {} x {}".format(*size, *image_size)
    return [Finding(kind, Path(mask), None, detail)]


def range_of_set(paths, known=None, say=print):
    """The value_range of a list of pictures, see utils/depth.py; None when they have 8 bits.

    What was found is said in a line.

    known: the one that is set, or that the weights were trained with; it is not looked for then.
    """
    if known is not None:
        return known
    candidates = [path for path in paths if str(path).lower().endswith(DEEP_SUFFIXES)]
    step = max(1, -(-len(candidates) // SAMPLED))
    looked = sweep(values_or_none, [(path,) for path in candidates[::step]], "Looking at the depth")
    found = [values for values in looked if values is not None and len(values)]
    if not found:
        return None

    # The same weight for each of them, whatever its size.
    values = np.concatenate(found)
    chosen = choose_range(values)
    numbers = ",".join(f"{number:.10g}" for number in chosen)
    say(f"Depth       more than 8 bits a channel; {len(found)} of {len(paths)} pictures were looked at: "
        f"values {values.min():.6g} to {values.max():.6g}. In all pictures {words_of_range(chosen)} "
        f"(value_range={numbers})")
    return chosen


def values_or_none(path):
    """See open_values; None as well of a file that cannot be read, which is reported elsewhere."""
    with contextlib.suppress(UserError):
        return open_values(find(path))
    return None


def all_counts(values):
    """{value: pixels} -> (256,) pixels per value."""
    counts = np.zeros(256, np.int64)
    counts[[int(value) for value in values]] = list(values.values())
    return counts


def sweep(function, jobs, title):
    """[function(*job) for job in jobs], by several threads; a progress bar where there is a terminal."""
    def run_chunk(chunk):
        return [function(*job) for job in chunk]

    # Chunks, because handing over every single file would cost more than reading it.
    jobs = list(jobs)
    chunks = [jobs[start:start + CHUNK] for start in range(0, len(jobs), CHUNK)]

    results = []
    pool = ThreadPoolExecutor(cores())                      # more threads would only wait for one another
    try:
        with warnings.catch_warnings():
            # Pillow warns about odd EXIF entries; what matters becomes a finding.
            warnings.filterwarnings("ignore", module="PIL")
            for done in progress(pool.map(run_chunk, chunks), title, total=len(jobs), size=len):
                results += done
    finally:
        pool.shutdown(cancel_futures=True)                  # after Ctrl-C: no chunk is started any more
    return results


def remembered(function, paths, memory, title):
    """What function(path) said about every path. -> dict path -> its result as a list, or [kind, sentence] of
    its UserError; how many files were read.

    memory: dict path -> [size, time, result] of an earlier time, changed in place; a file that did not change
    since is not read again.
    """
    def look(path, stamp):
        try:
            result = list(function(find(path)))
        except UserError as error:
            result = [error.kind, str(error)]
        return path, [*stamp, result]

    # A file with the same size and time has not changed.
    stamps = {path: stamp_of(path) for path in dict.fromkeys(paths)}
    changed = [(path, stamp) for path, stamp in stamps.items() if stamp != memory.get(path, [None])[:2]]
    new = sweep(look, changed, title)
    memory.update(new)
    return {path: memory[path][2] for path in stamps}, len(new)


def stamp_of(path):
    """[size in bytes, time of the last change in ns] of a file in a list; [-1, 0] when it is missing."""
    for place in (os.path.join(settings.ROOT, path), None):
        try:
            found = os.stat(place or find(path))            # find() is slow, and seldom needed
            return [found.st_size, found.st_mtime_ns]
        except (OSError, ValueError):
            continue
    return [-1, 0]


def read_memory(path):
    """{"images": {...}, "masks": {...}}, see `remembered`, from a file; empty when it is missing, damaged or
    of another version."""
    with contextlib.suppress(OSError, ValueError, KeyError):
        digest, _, text = Path(path).read_text(encoding="utf-8").partition("\n")
        content = json.loads(text) if digest == digest_of(text) else {}
        if content.get("version") == VERSION:
            return content["memory"]
    return {"images": {}, "masks": {}}


def write_memory(path, memory):
    """Keep what was seen; a disk that is full or write-protected is no reason to stop."""
    text = json.dumps({"version": VERSION, "memory": memory})
    with contextlib.suppress(UserError):
        write_text(path, f"{digest_of(text)}\n{text}")


def digest_of(text):
    return hashlib.sha1(text.encode()).hexdigest()
