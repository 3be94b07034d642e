"""COCO JSON: {"images": [...], "annotations": [...], "categories": [...]}, boxes [x, y, w, h] px, outlines as polygons or run lengths.

Source: https://cocodataset.org/#format-data. iscrowd = 1 (a group, which no detector is asked to take apart) becomes difficult.
"""
import re
from pathlib import Path

import numpy as np

from utils.errors import UserError, did_you_mean
from utils.findings import Finding
from utils.formats.foreign import SPLIT_NAMES, class_name, class_names, files_below, locate, number, part, read_json
from utils.formats.objects import is_size, keep_box, read_objects, told_size
from utils.formats.sweep import look_at_sample, sweep, with_truth
from utils.settings import shown
from utils.system.files import printable

GUESSES = 10                                                # images that are not there for which a similar name is looked for: that is slow
WORDS = re.compile(r"(?<![a-z])(train|training|val|valid|validation|test|testing)(?![a-z])", re.IGNORECASE)


def read_coco(path, findings):
    """-> class names, dict list name -> samples; see foreign.py. path: a JSON file, or a folder with train and val files."""
    names, lists = [], {}
    files = coco_files(path)
    root = home(path)
    for file in files:
        own, samples = read_file(file, root, findings)
        names += [name for name in own if name not in names]
        lists.setdefault(split_of(file) if len(files) > 1 else "all", []).extend(samples)
    return names, lists


def coco_files(path):
    """The files of one data set: a folder's, or the one that is named and its siblings: instances_train.json and instances_val.json."""
    if path.is_dir():
        files = [file for file in files_below(path, (".json",)) if split_of(file) != "all" and is_instances(file)]
        if not files:
            files = [file for file in files_below(path, (".json",)) if is_instances(file)][:1]
        by_split = {}
        for file in files:
            by_split.setdefault(split_of(file), []).append(file)
        several = next((some for some in by_split.values() if len(some) > 1), None)
        if several:
            raise UserError(f"{shown(path)} has several COCO files for one list: {', '.join(shown(file) for file in several[:5])}. "
                            "Set dataset to one of them.")
        return files
    others = [path]
    word = WORDS.search(path.name)
    if word and SPLIT_NAMES[word[0].lower()] == "train":
        for other in ("val", "valid", "validation", "test"):
            file = path.with_name(path.name[:word.start()] + other + path.name[word.end():])
            if file.is_file() and has_boxes(file):
                print(f"{shown(path)}: {file.name} beside it is the {SPLIT_NAMES[other]} list")
                others.append(file)
    return others


def is_instances(file):
    """Whether a JSON file may hold boxes: not COCO's key points, captions or stuff, and not a package.json."""
    return not re.match("(captions|person_keypoints|image_info|stuff|panoptic)", file.name) and has_boxes(file)


def has_boxes(file):
    """Whether a file looks like COCO's; of a large one only its ends are looked at."""
    with open(file, "rb") as stream:
        start = stream.read(4_000_000)
        if len(start) == 4_000_000:
            stream.seek(-4_000_000, 2)
            start += stream.read()
    known = [word in start for word in (b'"images"', b'"annotations"', b'"categories"', b'"bbox"')]
    return sum(known) >= 2 and b'"shapes"' not in start


def split_of(file):
    """train, val or test by the file's name (instances_train2017.json) or its folder (train/_annotations.coco.json), else all."""
    for name in (file.name, file.parent.name):
        word = WORDS.search(name)
        if word:
            return SPLIT_NAMES[word[0].lower()]
    return "all"


def home(path):
    """The folder of a data set: beside annotations/instances_train.json lie the images."""
    if path.is_dir() or path.suffix.lower() != ".json":
        return path
    return path.parent.parent if path.parent.name.lower() in ("annotations", "annotation", "labels") else path.parent


def read_file(path, root, findings):
    """One JSON file -> class names, samples."""
    content, here = read_json(path), f"{shown(path)}: "
    images, annotations, categories = (part(content, name, list, here) for name in ("images", "annotations", "categories"))
    labels = read_categories(categories, annotations, here)
    known, records = read_images(images, path, root, findings)
    looked = sweep(look_at_sample, [(image,) for image in records], f"Checking {shown(path)}")
    groups = group_annotations(annotations, known, path, findings)
    samples = []
    for (image, (key, record)), (sample, found) in zip(records.items(), looked):
        findings += found
        told = (record.get("width"), record.get("height"))
        sides = is_size(told)
        size = sample.size if sample else told if sides else None
        if sample and sides:
            findings += told_size(told, size, path, f"the size of {name_of(record, key)}")
        numbered = ((None, f"{name_of(annotation, place, 'annotation')} in {image.name}: ", annotation) for place, annotation in groups[key])
        objects, found = read_objects(path, numbered, lambda annotation, found, size=size: read_annotation(annotation, labels, size, found))
        findings += found
        samples.append(with_truth(sample, None, objects, found))
    return list(labels.values()), list(filter(None, samples))


def read_images(images, path, root, findings):
    """"images" -> the ids in it, dict image path -> (id, record); findings: records that are none, images that are not there."""
    known, records, finder = set(), {}, image_finder(path, root)
    for position, record in enumerate(images, 1):
        where = f"image {position} of the list: "
        try:
            key = identity(record, "id")
            where = f"image id {key!r}: "
            if key in known:
                raise UserError("the id stands there twice", kind="label_twice")
            known.add(key)
            image = finder(part(record, "file_name", str))
            if image in records:
                raise UserError(f"{printable(image.name)} has the id {records[image][0]!r} too", kind="label_twice")
            records[image] = key, record
        except UserError as error:
            findings.append(Finding(error.kind or "label_broken", Path(path), None, where + str(error).rstrip(".")))
    return known, records


def group_annotations(annotations, known, path, findings):
    """dict image id -> list of (position, annotation); findings: annotations of no image. known: ids of the images."""
    groups = {key: [] for key in known}
    for position, record in enumerate(annotations, 1):
        try:
            key = identity(record, "image_id")
            if key not in known:
                raise UserError(f"image_id {key!r} is none of the {len(known)} images")
            groups[key].append((position, record))
        except UserError as error:
            where = name_of(record, position, "annotation")
            findings.append(Finding("label_without_image", Path(path), None, f"{where}: {str(error).rstrip('.')}"))
    return groups


def name_of(record, position, what="image"):
    """Words for a record: by its id, if it has one."""
    key = record.get("id") if isinstance(record, dict) else None
    return f"{what} id {key!r}"[:80] if isinstance(key, (int, str)) else f"{what} {position} of the list"


def identity(record, name, where=""):
    """An id: a whole number or a word. where: as in `part`."""
    value = part(record, name, (int, str), where)
    if isinstance(value, bool):
        raise UserError(f'{where}"{name}" is {value}, expected a number.')
    return value


def read_categories(categories, annotations, here):
    """dict category id -> class name, in the order of the file. Roboflow's category over all others, which has no objects, is left out."""
    labels = {}
    for position, category in enumerate(categories, 1):
        where = f"{here}category {position} of the list: "
        key = identity(category, "id", where)
        if key in labels:
            raise UserError(f"{where}the id {key!r} stands there twice.")
        labels[key] = class_name(part(category, "name", (str, int), where), where)
    above = {str(category.get("supercategory")) for category in categories}
    if len(labels) > 1 and len(above - {"none"}) == 1 and categories[0].get("supercategory") == "none":
        first = categories[0]["id"]
        used = any(isinstance(record, dict) and record.get("category_id") == first for record in annotations)
        if labels[first] in above and not used:
            print(f"{here}the category {printable(labels[first])} stands above all others and has no objects, it is left out")
            del labels[first]
    class_names(labels.values(), here.removesuffix(": "))
    return labels


def image_finder(path, root):
    """-> function file name -> the image's path: beside the JSON, in root, in their folders images, train2017 ...; else the only
    image below root that is called so."""
    words = [word for word in re.split(r"[_.\-]", path.stem) if WORDS.match(word) or re.match(r"(train|val|test)\d+", word)]
    bases = [base / name for base in dict.fromkeys((path.parent, root)) for name in
             ("", "images", *words, *(f"images/{word}" for word in words), "JPEGImages", "data")]
    bases, anywhere, missed = [base for base in bases if base.is_dir()], {}, []

    def find_image(name):
        for at, base in enumerate(bases):
            image = locate(name, base, [base], "file_name")
            if image.is_file():
                bases.insert(0, bases.pop(at))              # the next one is likely to lie there too
                return image
        if not anywhere:
            anywhere[""] = None                             # looked for once, even if there is nothing
            for path in files_below(root):
                anywhere[path.name] = path if path.name not in anywhere else None
        if anywhere.get(image.name):
            return anywhere[image.name]
        missed.append(name)
        near = did_you_mean(image.name, [other.name for other in image.parent.iterdir()][:5000]) \
            if len(missed) <= GUESSES and image.parent.is_dir() else ""
        raise UserError(f"there is no image {printable(name)} in {', '.join(shown(base) for base in bases[:4])}.{near}", kind="label_without_image")

    return find_image


def read_annotation(record, labels, size, found):
    """One annotation -> its object, or None when no box is left. size: (w, h), None: not known. found: gets (kind, detail)."""
    category = identity(record, "category_id")
    if category not in labels:
        raise UserError(f"category_id {category!r} is none of the {len(labels)} categories", kind="class_number")
    outline = read_outline(record.get("segmentation"), size)
    box = record.get("bbox")
    if isinstance(box, list) and len(box) == 4:
        x, y, w, h = (number(value, "a number of bbox") for value in box)
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
    return box and {"name": labels[category], "box": box, "difficult": bool(crowd), **({"outline": outline} if outline else {})}


def read_outline(value, size):
    """"segmentation" -> list of (n, 2) polygons, a mask (h, w) of 0 and 1, or None when there is none."""
    if value in (None, [], [[]]) or size is None and isinstance(value, dict):
        return None
    if isinstance(value, dict):
        told = value.get("size")
        if told != [size[1], size[0]]:
            raise UserError(f"its run-length mask has the size {str(told)[:40]}, but its image {[size[1], size[0]]} (height, width)")
        return {"counts": run_lengths(value.get("counts"), size), "size": (size[1], size[0])}
    polygons = []
    for numbers in value if isinstance(value, list) else [value]:
        if not isinstance(numbers, list) or len(numbers) % 2 or len(numbers) < 6:
            raise UserError(f"segmentation holds {str(numbers)[:60]}, expected polygons [x1, y1, x2, y2, x3, y3, ...]")
        if not set(map(type, numbers)) <= {int, float} or not -1e6 < min(numbers) <= max(numbers) < 1e6 or any(v != v for v in numbers):
            numbers = [number(v, "a number of segmentation") for v in numbers]      # says which one is wrong
        polygons.append(np.array(numbers, np.float64).reshape(-1, 2))
    return polygons


def run_lengths(counts, size):
    """The runs of a mask, column by column, the first of zeros: list of int, or COCO's text of them -> (n,) int64, which fill the image.

    The text: each number in groups of 5 bits, the lowest first, a letter from "0" on per group, 32 more when another follows; from the
    third number on the difference to the one before the last. Written here because pycocotools trusts it (measured: an empty text gives
    a mask of whatever was in the memory), and so that it need not be installed.
    """
    if isinstance(counts, str):
        runs, value, shift = [], 0, 0
        for letter in counts:
            code = ord(letter) - 48
            if not 0 <= code < 64 or shift > 30:
                break
            value, shift = value | (code & 31) << shift, shift + 5
            if not code & 32:
                runs.append(value - (1 << shift if code & 16 else 0) + (runs[-2] if len(runs) > 2 else 0))
                value, shift = 0, 0
        else:
            counts = runs if not shift else None
    if not isinstance(counts, list) or any(type(run) is not int or run < 0 for run in counts) or sum(counts) != size[0] * size[1]:
        raise UserError(f"its run-length mask is damaged, or not of an image of {size[0]} x {size[1]} pixels")
    return np.array(counts, np.int64)


def run_length_mask(outline):
    """dict(counts, size (h, w)) -> (h, w) uint8 of 0 and 1."""
    height, width = outline["size"]
    return np.repeat(np.arange(len(outline["counts"])) % 2, outline["counts"]).astype(np.uint8).reshape(width, height).T
