"""What the readers of boxes in rows share: tables (csv_table.py), a text file for each image (kitti.py,
visdrone.py) and lists of all images (wider_face.py).

A row is a box as it is written: its line, a class name and four numbers. Which image a row belongs to, and
whether its numbers can be what they should be (corners or a size, pixels or shares), is decided here, over
the whole set.
"""
import os
import re
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from utils.errors import UserError
from utils.findings import Finding
from utils.formats.foreign import SPLIT_NAMES, SPLIT_WORD, agreement, files_below, is_plain_part
from utils.formats.objects import keep_box, read_objects
from utils.formats.pairs import IMAGE_FOLDERS
from utils.formats.sweep import look_at_sample, sweep, with_truth
from utils.images import SUFFIXES
from utils.lists import NUMBER
from utils.settings import shown
from utils.system.files import printable

MISFITS = (3, 0.2)              # so many boxes, and such a share of all, that make no sense: wrongly read
CLEAR = 0.98                    # the share of the boxes that must make sense in the other reading
SLACK = (1, 0.02)               # a box may reach beyond its image by so many pixels, and such a share of it
SHARES = 0.8                    # of the rows with numbers from 0 to 1: they are shares of the image
CORNERS = ("x1", "y1", "x2", "y2")
READINGS = {"xyxy": "x1 y1 x2 y2", "xywh": "x y width height", "cxcywh": "centre and size"}


class BoxRow(NamedTuple):
    """A line of a label file."""
    line: int | None
    name: str = ""
    numbers: tuple = ()         # four, in the order of the layout
    difficult: bool = False
    error: UserError | None = None


class Names(NamedTuple):
    """The images of a dataset, to be found by what a label calls them."""
    root: Path
    by_name: dict               # name -> paths
    by_stem: dict               # name without its suffix, in small letters -> paths


def images_near(folder):
    """The folder of a dataset's images and the images: below the folder of its labels, else beside it."""
    images = files_below(folder)
    home = folder if images else folder.parent
    return home, images or files_below(home)


def index_images(root, images):
    """-> Names."""
    names = Names(root, defaultdict(list), defaultdict(list))
    for image in images:
        names.by_name[image.name].append(image)
        names.by_stem[image.stem.lower()].append(image)
    return names


def find_named(name, label, names):
    """The image that a label file calls `name`. label: the path of that file.

    It may be a path of another machine, perhaps with Windows: of several images with this name the one that
    agrees in most folders is meant. Only the dataset's own images can be found.
    Errors: not a plain name, no such image, several.
    """
    text = re.sub(r"^[A-Za-z]:(?=[\\/])", "", str(name).strip()).replace("\\", "/")
    parts = [part for part in text.split("/") if part not in ("", ".", "..")]
    if not parts or not is_plain_part(parts[-1]):
        raise UserError(f"{ascii(str(name)[:80])} is not a plain file name. Rename the file, here and on the "
                        "disk.", kind="bad_name")

    # The name itself; else another suffix, or none: Open Images and many tables write only an id.
    last = parts[-1]
    stem = last[:-len(Path(last).suffix)] if last.lower().endswith(SUFFIXES) else last
    found = names.by_name.get(last) or names.by_stem.get(stem.lower(), [])
    if not found:
        raise UserError(f"there is no image {printable(last)} in {shown(names.root)}",
                        kind="label_without_image")

    # The path as it is written, from the label's folder or the dataset's, counts more than any agreement.
    exact = {os.path.normpath(base / text) for base in (label.parent, names.root)}
    ranks = {image: (str(image) in exact, agreement(image.parts[-2::-1], parts[-2::-1])) for image in found}
    return only_one([image for image in found if ranks[image] == max(ranks.values())], last)


def only_one(images, name):
    """The only one of some images. Errors: there are several, called alike in one folder or in several."""
    if len(images) == 1:
        return images[0]
    which = ", ".join(shown(image) for image in images[:4])
    if len({image.parent for image in images}) == 1:
        raise UserError(f"{printable(name)} could be any of {which}", kind="stem_twice")
    raise UserError(f"several images are called {printable(name)}: {which}", kind="label_without_image")


def match_stems(images, files, findings):
    """dict image -> its label file, which is called alike: the image in the nearest folder.

    Findings: a label without an image, two images or two labels of one name.
    """
    stems = defaultdict(list)
    for image in images:
        stems[image.stem].append(image)

    owners = {}
    for file in files:
        # KITTI has the picture of a second camera, image_3, beside that of image_2, whose labels these are.
        ranks = {}
        for image in stems[file.stem]:
            usual = image.parent.name.lower() in (*IMAGE_FOLDERS, "image_2")
            ranks[image] = agreement(image.parts[:-1], file.parts[:-1]), usual
        try:
            if not ranks:
                raise UserError(f"there is no image {printable(file.stem)}", kind="label_without_image")
            image = only_one([image for image in ranks if ranks[image] == max(ranks.values())], file.stem)
            if image in owners:
                raise UserError(f"{shown(owners[image])} belongs to {printable(image.name)} too",
                                kind="label_twice")
            owners[image] = file
        except UserError as error:
            findings.append(Finding(error.kind, file, None, str(error)))
    return owners


def split_by_folders(path, root, with_name=False):
    """"train", "val", "test" or "all", by the folders between root and a file.

    with_name: by the name of the file first, as train_labels.csv. A whole name counts more than a word in
    one: VisDrone2019-DET-train.
    """
    parts = list(path.relative_to(root).parts[:-1])[::-1] if path.is_relative_to(root) else []
    for part in parts:
        if not with_name and part.lower() in SPLIT_NAMES:
            return SPLIT_NAMES[part.lower()]
    for part in [path.name, *parts] if with_name else parts:
        if word := SPLIT_WORD.search(part):
            return SPLIT_NAMES[word[0].lower()]
    return "all"


def numbers_of(words, names=CORNERS):
    """Four finite numbers out of words. names: for the message. Errors: one is no number of pixels."""
    values = []
    for name, word in zip(names, words):
        word = word.strip()
        if not NUMBER.fullmatch(word) or abs(float(word)) >= 1e6:
            raise UserError(f"{name} is {word[:40]!r}, expected a number")
        values.append(float(word))
    return tuple(values)


def samples_of_rows(path, entries, layout, findings, sure=True):
    """-> dict image path -> Sample, None when it cannot be used.

    path: for the messages.  entries: dict image path -> (label file, list of BoxRow).
    layout: a key of READINGS.  sure: whether the file itself says that these are its numbers; else the
    corners may be a size, or the other way round, if only that makes sense.
    """
    looked = sweep(look_at_sample, [(image,) for image in entries], f"Checking {shown(path)}")
    sizes = {image: sample.size for image, (sample, _) in zip(entries, looked) if sample}

    # What the numbers are is decided once, by all of them.
    boxes = [(row.numbers, sizes[image]) for image, (_, rows) in entries.items() if image in sizes
             for row in rows if row.numbers]
    shares = are_shares(boxes)
    if shares:
        print(f"{shown(path)}: its numbers are from 0 to 1: shares of the image, no pixels")
        boxes = [(in_pixels(numbers, size), size) for numbers, size in boxes]
    layout = settle_layout(path, boxes, layout, sure, findings)

    samples = {}
    for (image, (label, rows)), (sample, found) in zip(entries.items(), looked):
        size = sizes.get(image)

        def make(row, found, size=size):
            if row.error:
                raise row.error
            numbers = in_pixels(row.numbers, size) if shares and size else row.numbers
            return row_object(row, edges_of(numbers, layout), None if shares and not size else size, found)

        records = ((row.line, f"{image.name}: ", row) for row in rows)
        objects, more = read_objects(label, records, make, spoils=False)
        findings += found + more
        samples[image] = with_truth(sample, label, objects, more)
    return samples


def row_object(row, edges, size, found):
    """A row -> its object, or None when no box is left. found: gets (kind, detail)."""
    x1, y1, x2, y2 = edges
    if x1 > x2 or y1 > y2:
        found.append(("box_swapped", f"from {x1:g}, {y1:g} to {x2:g}, {y2:g}"))
    whole = (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))
    box = keep_box(whole, size, found)
    return box and {"name": row.name, "box": box, "difficult": row.difficult}


def edges_of(numbers, layout):
    """Four numbers -> x1, y1, x2, y2."""
    x, y, a, b = numbers
    if layout == "xywh":
        return x, y, x + a, y + b
    if layout == "cxcywh":
        return x - a / 2, y - b / 2, x + a / 2, y + b / 2
    return numbers


def in_pixels(numbers, size):
    """Shares of an image -> pixels. size: (w, h)."""
    return tuple(number * side for number, side in zip(numbers, (*size, *size)))


def are_shares(boxes):
    """Whether the numbers of (numbers, size) are shares of the image: as pixels they would be no boxes."""
    small = sum(max(numbers) <= 1 + SLACK[1] for numbers, _ in boxes)
    return bool(boxes) and small >= SHARES * len(boxes)


def settle_layout(path, boxes, layout, sure, findings):
    """The layout in which the boxes of a set make sense: what is said or, if nothing says it, the other.

    boxes: list of (numbers in px, size of the image).
    Findings: what is said makes no sense, but another reading does; or both do, and nothing says which.
    """
    if layout == "cxcywh" or not boxes:
        return layout
    other = "xywh" if layout == "xyxy" else "xyxy"
    good = {name: sum(fits(edges_of(numbers, name), size) for numbers, size in boxes)
            for name in (layout, other)}

    # The first box that is not in its image shows what is meant.
    told = "; ".join(f"read as  {READINGS[name]}  {count} of {len(boxes)} boxes are in their image"
                     for name, count in good.items())
    misfits = len(boxes) - good[layout]
    wrong = misfits >= MISFITS[0] and misfits >= MISFITS[1] * len(boxes) and good[other] >= CLEAR * len(boxes)
    if wrong and not sure:
        print(f"{shown(path)}: {told}; so they are read as the latter")
        return other
    if wrong:
        kind = "corner_is_size" if layout == "xyxy" else "size_is_corner"
        findings.append(Finding(kind, Path(path), None, told))
    elif not sure and good[other] == len(boxes):
        findings.append(Finding("two_readings", Path(path), None, f"{told}; the first is used"))
    return layout


def fits(edges, size):
    """Whether a box has an area and is inside its image, but for a rounding. size: (w, h) px."""
    x1, y1, x2, y2 = edges
    beyond_x, beyond_y = (SLACK[0] + SLACK[1] * side for side in size)
    return -beyond_x <= x1 < x2 <= size[0] + beyond_x and -beyond_y <= y1 < y2 <= size[1] + beyond_y


def lonely_images(images, samples, findings, told=()):
    """Findings: images without a label. told: stems that a finding named already."""
    findings += [Finding("image_without_label", image) for image in images
                 if image not in samples and image.stem not in told]


def into_lists(samples, split_of_sample):
    """dict image -> Sample or None, function image -> list name  ->  dict list name -> samples."""
    lists = {}
    for image, sample in samples.items():
        some = lists.setdefault(split_of_sample(image), [])
        some += [sample] if sample else []
    return lists
