"""COCO JSON: {"images": [...], "annotations": [...], "categories": [...]}, with boxes [x, y, w, h] in px
and outlines as polygons or run lengths.

Source: https://cocodataset.org/#format-data. iscrowd = 1 (a group that no detector is asked to take apart)
becomes difficult.
"""
import re
from pathlib import Path

import numpy as np

from utils.errors import UserError, did_you_mean
from utils.findings import Finding
from utils.formats.foreign import (
    SPLIT_NAMES,
    class_name,
    class_names,
    coordinate,
    field,
    files_below,
    locate,
    read_json,
)
from utils.formats.objects import is_size, keep_box, read_objects, told_size
from utils.formats.sweep import look_at_sample, sweep, with_truth
from utils.settings import shown
from utils.system.files import printable

GUESSES = 10                    # missing images for which a similar name is searched: the search is slow
START = 4_000_000               # bytes at each end of a large file that has_boxes reads
WORDS = re.compile(r"(?<![a-z])(train|training|val|valid|validation|test|testing)(?![a-z])", re.IGNORECASE)


def read_coco(path, findings):
    """-> class names, dict list name -> samples; see foreign.py. path: a JSON file, or a folder of them."""
    names, lists = [], {}
    files = coco_files(path)
    root = data_root(path)
    for file in files:
        own_names, samples = read_coco_file(file, root, findings)
        names += [name for name in own_names if name not in names]
        split = split_of(file) if len(files) > 1 else "all"
        lists.setdefault(split, []).extend(samples)
    return names, lists


def coco_files(path):
    """The files of one dataset: those of a folder, or the file that is named and its siblings, as
    instances_val.json beside instances_train.json."""
    if path.is_dir():
        return files_of_folder(path)

    files = [path]
    word = WORDS.search(path.name)
    if not word or SPLIT_NAMES[word[0].lower()] != "train":
        return files

    # A train file is named: its siblings have the same name but for this one word.
    for other in ("val", "valid", "validation", "test"):
        file = path.with_name(path.name[:word.start()] + other + path.name[word.end():])
        if file.is_file() and has_boxes(file):
            print(f"{shown(path)}: {file.name} beside it is used as the {SPLIT_NAMES[other]} list")
            files.append(file)
    return files


def files_of_folder(folder):
    """The COCO files in a folder, one for each list; without such names the first one alone."""
    every = files_below(folder, (".json",))
    files = [file for file in every if split_of(file) != "all" and is_instances(file)]
    if not files:
        return [file for file in every if is_instances(file)][:1]

    # Two versions of one list, perhaps an old one and a new one: only the user knows which is meant.
    by_split = {}
    for file in files:
        by_split.setdefault(split_of(file), []).append(file)
    for some in by_split.values():
        if len(some) > 1:
            raise UserError(f"{shown(folder)} has several COCO files for one list: "
                            f"{', '.join(shown(file) for file in some[:5])}. Set dataset to one of them.")
    return files


def is_instances(file):
    """Whether a JSON file may hold boxes: no key points, captions or stuff of COCO, no package.json."""
    others = "(captions|person_keypoints|image_info|stuff|panoptic)"
    return not re.match(others, file.name) and has_boxes(file)


def has_boxes(file):
    """Whether a file looks like COCO's; only both ends of a large one are read."""
    with open(file, "rb") as stream:
        text = stream.read(START)
        if len(text) == START:
            stream.seek(-START, 2)
            text += stream.read()
    known = [word in text for word in (b'"images"', b'"annotations"', b'"categories"', b'"bbox"')]
    return sum(known) >= 2 and b'"shapes"' not in text


def split_of(file):
    """train, val or test by the file's name (instances_train2017.json) or its folder
    (train/_annotations.coco.json), else all."""
    for name in (file.name, file.parent.name):
        word = WORDS.search(name)
        if word:
            return SPLIT_NAMES[word[0].lower()]
    return "all"


def data_root(path):
    """The folder of a dataset: that of annotations/instances_train.json is one level higher."""
    if path.is_dir() or path.suffix.lower() != ".json":
        return path
    if path.parent.name.lower() in ("annotations", "annotation", "labels"):
        return path.parent.parent
    return path.parent


def read_coco_file(path, root, findings):
    """One JSON file -> class names, samples."""
    content, here = read_json(path), f"{shown(path)}: "
    images = field(content, "images", list, here)
    annotations = field(content, "annotations", list, here)
    categories = field(content, "categories", list, here)
    labels = read_categories(categories, annotations, here)

    # The three lists refer to one another by ids: each image gets the annotations that name it.
    known, records = read_images(images, path, root, findings)
    looked = sweep(look_at_sample, [(image,) for image in records], f"Checking {shown(path)}")
    groups = group_annotations(annotations, known, path, findings)

    samples = []
    for (image, (key, record)), (sample, found) in zip(records.items(), looked):
        findings += found

        # The image itself says how large it is; what the JSON says is compared, or used without an image.
        told = (record.get("width"), record.get("height"))
        size = told if is_size(told) else None
        if sample and size:
            findings += told_size(told, sample.size, path, f"the size of {name_of(record, key)}")
        if sample:
            size = sample.size

        # (no line, words that say where, record): a JSON file has no line that would help.
        numbered = ((None, f"{name_of(annotation, position, 'annotation')} in {image.name}: ", annotation)
                    for position, annotation in groups[key])
        objects, found = read_objects(path, numbered, lambda annotation, found, size=size:
                                      make_object(annotation, labels, size, found))
        findings += found
        samples.append(with_truth(sample, None, objects, found))
    return list(labels.values()), [sample for sample in samples if sample]


def read_images(images, path, root, findings):
    """"images" -> the set of ids, dict image path -> (id, record).

    Findings: broken records, missing images.
    """
    known, records, find_image = set(), {}, image_finder(path, root)
    for position, record in enumerate(images, 1):
        where = f"image {position} of the list: "
        try:
            key = identity(record, "id")
            where = f"image id {key!r}: "
            if key in known:
                raise UserError("this id is used twice", kind="label_twice")
            known.add(key)

            # Two records of one image would put it into the list twice.
            image = find_image(field(record, "file_name", str))
            if image in records:
                raise UserError(f"{printable(image.name)} also has the id {records[image][0]!r}",
                                kind="label_twice")
            records[image] = key, record
        except UserError as error:
            detail = where + str(error).rstrip(".")
            findings.append(Finding(error.kind or "label_broken", Path(path), None, detail))
    return known, records


def group_annotations(annotations, known, path, findings):
    """dict image id -> list of (position, annotation). known: the ids of the images.

    Findings: annotations of no image.
    """
    groups = {key: [] for key in known}

    # One broken annotation costs only itself; that of an image is looked at later, in make_object.
    for position, record in enumerate(annotations, 1):
        try:
            key = identity(record, "image_id")
            if key not in known:
                raise UserError(f"image_id {key!r} is not among the {len(known)} images")
            groups[key].append((position, record))
        except UserError as error:
            where = name_of(record, position, "annotation")
            detail = f"{where}: {str(error).rstrip('.')}"
            findings.append(Finding("label_without_image", Path(path), None, detail))
    return groups


def name_of(record, position, what="image"):
    """Words for a record: by its id, if it has one."""
    key = record.get("id") if isinstance(record, dict) else None
    if isinstance(key, (int, str)):
        return f"{what} id {key!r}"[:80]
    return f"{what} {position} of the list"


def identity(record, name, where=""):
    """An id: a whole number or a word. where: as in `field`."""
    value = field(record, name, (int, str), where)
    if isinstance(value, bool):
        raise UserError(f'{where}"{name}" is {value}, expected a number.')
    return value


def read_categories(categories, annotations, here):
    """dict category id -> class name, in the order of the file."""
    labels = {}
    for position, category in enumerate(categories, 1):
        where = f"{here}category {position} of the list: "
        key = identity(category, "id", where)
        if key in labels:
            raise UserError(f"{where}the id {key!r} is used twice.")
        labels[key] = class_name(field(category, "name", (str, int), where), where)

    # Roboflow writes a first category that is the parent of all others and has no objects: no class.
    parents = {str(category.get("supercategory")) for category in categories}
    if len(labels) > 1 and len(parents - {"none"}) == 1 and categories[0].get("supercategory") == "none":
        first = categories[0]["id"]
        used = any(isinstance(record, dict) and record.get("category_id") == first for record in annotations)
        if labels[first] in parents and not used:
            print(f"{here}the category {printable(labels[first])} is the parent of all others and has no "
                  "objects: it is skipped")
            del labels[first]
    class_names(labels.values(), here.removesuffix(": "))
    return labels


def image_finder(path, root):
    """-> function file name -> the image's path.

    Searched are the folder of the JSON and root, and in them images, train2017 and the like; at last the
    image of this name anywhere below root, if there is only one.
    """
    words = [word for word in re.split(r"[_.\-]", path.stem)
             if WORDS.match(word) or re.match(r"(train|val|test)\d+", word)]
    names = ["", "images", *words, *(f"images/{word}" for word in words), "JPEGImages", "data"]
    places = [parent / name for parent in dict.fromkeys((path.parent, root)) for name in names]
    places = [place for place in places if place.is_dir()]
    anywhere, missed = {}, []

    def find_image(name):
        for at, place in enumerate(places):
            image = locate(name, place, [place], "file_name")
            if image.is_file():
                places.insert(0, places.pop(at))            # the next image is probably here too
                return image

        # The whole tree is read once, at the first image that is in none of the usual places.
        if not anywhere:
            anywhere[""] = None                             # not empty any more, even if nothing is found
            for other in files_below(root):
                anywhere[other.name] = other if other.name not in anywhere else None
        if anywhere.get(image.name):
            return anywhere[image.name]

        missed.append(name)
        near = ""
        if len(missed) <= GUESSES and image.parent.is_dir():
            near = did_you_mean(image.name, [other.name for other in image.parent.iterdir()][:5000])
        raise UserError(f"there is no image {printable(name)} in "
                        f"{', '.join(shown(place) for place in places[:4])}.{near}",
                        kind="label_without_image")

    return find_image


def make_object(record, labels, size, found):
    """One annotation -> its object, or None when no box is left.

    size: (w, h) px, None: not known.  found: gets (kind, detail).
    """
    category = identity(record, "category_id")
    if category not in labels:
        raise UserError(f"category_id {category!r} is not among the {len(labels)} categories",
                        kind="class_number")

    # An outline alone is enough: its extent is the box.
    outline = read_outline(record.get("segmentation"), size)
    box = record.get("bbox")
    if isinstance(box, list) and len(box) == 4:
        x, y, w, h = (coordinate(value, "a number of bbox") for value in box)
        if w < 0 or h < 0:
            raise UserError(f"bbox has the size {w:g} x {h:g}, expected [x, y, width, height]")
        edges = (x, y, x + w, y + h)
    elif box in (None, []) and isinstance(outline, list):
        points = np.concatenate(outline)
        edges = (*points.min(0).tolist(), *points.max(0).tolist())
    else:
        raise UserError(f"bbox is {str(box)[:60]}, expected [x, y, width, height] in pixels")

    crowd = record.get("iscrowd", 0)
    if crowd not in (0, 1):
        raise UserError(f"iscrowd is {str(crowd)[:40]}, expected 0 or 1", kind="bad_difficult")

    box = keep_box(edges, size, found)
    if box is None:
        return None
    thing = {"name": labels[category], "box": box, "difficult": bool(crowd)}
    return {**thing, "outline": outline} if outline else thing


def read_outline(value, size):
    """"segmentation" -> list of (n, 2) polygons, a dict of run lengths, or None when there is none."""
    if value in (None, [], [[]]):
        return None
    if isinstance(value, dict):
        if size is None:
            return None
        told = value.get("size")
        if told != [size[1], size[0]]:
            raise UserError(f"its run-length mask has the size {str(told)[:40]}, but its image "
                            f"{[size[1], size[0]]} (height, width)")
        return {"counts": run_lengths(value.get("counts"), size), "size": (size[1], size[0])}

    polygons = []
    for numbers in value if isinstance(value, list) else [value]:
        if not isinstance(numbers, list) or len(numbers) % 2 or len(numbers) < 6:
            raise UserError(f"segmentation holds {str(numbers)[:60]}, expected polygons "
                            "[x1, y1, x2, y2, x3, y3, ...]")

        # COCO has millions of these: only where the quick test fails is each number looked at alone.
        plain = set(map(type, numbers)) <= {int, float} and -1e6 < min(numbers) <= max(numbers) < 1e6
        if not plain or any(v != v for v in numbers):       # v != v: NaN
            numbers = [coordinate(v, "a number of segmentation") for v in numbers]
        polygons.append(np.array(numbers, np.float64).reshape(-1, 2))
    return polygons


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
