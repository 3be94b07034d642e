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
    SPLIT_WORD,
    class_name,
    class_names,
    coordinate,
    field,
    files_below,
    locate,
    read_json,
    with_siblings,
)
from utils.formats.image_names import images_named, index_names
from utils.formats.objects import is_flagged, is_size, keep_box, read_objects, told_size
from utils.formats.outlines import NOTHING, extent, read_outline
from utils.formats.sweep import look_at_sample, sweep, with_truth
from utils.settings import shown
from utils.system.files import printable

GUESSES = 10                    # missing images for which a similar name is searched: the search is slow
MISREAD = (3, 0.2)              # so many boxes, and such a share of all, must look like corners
START = 4_000_000               # bytes at each end of a large file that has_boxes reads


def read_coco(path, findings):
    """-> class names, dict list name -> samples; see foreign.py. path: a JSON file, or a folder of them."""
    names, lists = [], {}
    files = coco_files(path)
    root = data_root(path)
    for file in files:
        # Test files are often given away without annotations: only that list is left out.
        split = split_of(file) if len(files) > 1 else "all"
        content = read_json(file)
        if split in ("val", "test") and isinstance(content, dict) and not content.get("annotations"):
            findings.append(Finding("part_without_labels", file, None, f"the {split} list"))
            continue

        own_names, samples = read_coco_file(file, content, root, findings)
        names += [name for name in own_names if name not in names]
        lists.setdefault(split, []).extend(samples)
    return names, lists


def coco_files(path):
    """The files of one dataset: those of a folder, or the file that is named and its siblings, as
    instances_val.json beside instances_train.json."""
    return files_of_folder(path) if path.is_dir() else with_siblings(path, has_boxes)


def files_of_folder(folder):
    """The COCO files in a folder, one for each list; without such names the first one alone."""
    every = [file for file in files_below(folder, (".json",)) if is_instances(file) or is_keypoints(file)]

    # Key points have boxes too, but the same ones: they are read where there is nothing else.
    every = [file for file in every if is_instances(file)] or every
    if every and is_keypoints(every[0]):
        print(f"{shown(folder)}: its key points are left out, the boxes are used")
    files = [file for file in every if split_of(file) != "all"]
    if not any(split_of(file) == "train" for file in files):
        files += [file for file in every if split_of(file) == "all"][:1]

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


def is_keypoints(file):
    """Whether a JSON file is one of COCO's with key points."""
    return file.name.startswith("person_keypoints") and has_boxes(file)


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
        word = SPLIT_WORD.search(name)
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


def read_coco_file(path, content, root, findings):
    """One JSON file and its content -> class names, samples."""
    here = f"{shown(path)}: "
    images = field(content, "images", list, here)
    annotations = field(content, "annotations", list, here)
    categories = field(content, "categories", list, here)
    labels = read_categories(categories, annotations, here)

    # The three lists refer to one another by ids: each image gets the annotations that name it.
    known, records = read_images(images, path, root, findings)
    looked = sweep(look_at_sample, [(image,) for image in records], f"Checking {shown(path)}")
    groups = group_annotations(annotations, known, path, findings)

    samples, boxes = [], []
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
        boxes += [(annotation.get("bbox"), size) for _, annotation in groups[key] if size]
        samples.append(with_truth(sample, None, objects, found))
    findings += misread_boxes(path, boxes)
    return list(labels.values()), [sample for sample in samples if sample]


def misread_boxes(path, boxes):
    """A list of one finding when the boxes of a whole file make more sense as [x1, y1, x2, y2], or as shares
    of the image, than as [x, y, width, height] in pixels; else an empty one.

    boxes: ("bbox", (w, h) px of the image).
    """
    plain = [(*box, *size) for box, size in boxes if isinstance(box, list) and len(box) == 4
             and all(type(value) in (int, float) and abs(value) < 1e6 for value in box)]
    least, share = MISREAD
    if len(plain) < least:
        return []
    x, y, w, h, width, height = np.array(plain, np.float64).T

    # Many are read beyond their image, and none is as a pair of corners. The first of them as an example.
    beyond = (x + w > width + 1) | (y + h > height + 1)
    corners = (w > x) & (h > y) & (w <= width + 1) & (h <= height + 1)
    if corners.all() and beyond.sum() >= max(least, share * len(plain)):
        first = [f"{value:g}" for value in plain[int(np.argmax(beyond))]]
        return [Finding("size_is_corner", Path(path), None,
                        f"{int(beyond.sum())} of {len(plain)} boxes reach beyond their image, as "
                        f"[{', '.join(first[:4])}] in one of {first[4]} x {first[5]}; none would as corners")]
    if max(w.max(), h.max()) <= 1 and min(w.min(), h.min()) > 0:
        return [Finding("shares_for_pixels", Path(path), None, f"no side of {len(plain)} boxes is above 1")]
    return []


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
    """An id: a whole number or a word. "1", 1 and 1.0 are one id. where: as in `field`."""
    value = field(record, name, (int, float, str), where)
    if isinstance(value, bool) or isinstance(value, float) and not value.is_integer():
        raise UserError(f'{where}"{name}" is {value}, expected a number.')
    return plain_id(value)


def plain_id(value):
    """A whole number, however it is written; everything else as it is."""
    if isinstance(value, str) and re.fullmatch(r"\s*-?[0-9]{1,15}(\.0*)?\s*", value):
        return int(float(value))
    return int(value) if isinstance(value, float) and value.is_integer() else value


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
        first = next(iter(labels))
        used = any(isinstance(record, dict) and plain_id(record.get("category_id")) == first
                   for record in annotations)
        if labels[first] in parents and not used:
            print(f"{here}the category {printable(labels[first])} is the parent of all others and has no "
                  "objects: it is skipped")
            del labels[first]
    class_names(labels.values(), here.removesuffix(": "))
    return labels


def image_finder(path, root):
    """-> function file name -> the image's path.

    Searched are the folder of the JSON and root, and in them images, train2017 and the like; at last the
    images anywhere below root, see image_names.py.
    """
    words = [word for word in re.split(r"[_.\-]", path.stem)
             if SPLIT_WORD.match(word) or re.match(r"(train|val|test)\d+", word)]
    names = ["", "images", *words, *(f"images/{word}" for word in words), "JPEGImages", "data"]
    places = [parent / name for parent in dict.fromkeys((path.parent, root)) for name in names]
    places = [place for place in places if place.is_dir()]
    index, missed = {}, []

    def find_image(name):
        refused = None
        for at, place in enumerate(places):
            try:
                image = locate(name, place, [place], "file_name")
            except UserError as error:
                refused = error                             # a path of another computer, perhaps
                break
            if image.is_file():
                places.insert(0, places.pop(at))            # the next image is probably here too
                return image

        # The whole tree is read once, at the first image that is in none of the usual places.
        if not index:
            index.update({"": []} | index_names(files_below(root)))     # not empty, even without images
        images = images_named(name, index, root)
        if len(images) == 1:
            return images[0]
        if images:
            raise UserError(f"several images are called {printable(name)}: "
                            f"{', '.join(shown(image) for image in images[:3])}", kind="label_without_image")
        if refused:
            raise refused

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
    # One without a place, left behind by an export, is no object.
    box = record.get("bbox")
    segmentation = record.get("segmentation")
    if box in NOTHING and segmentation in (*NOTHING, [[]]):
        found.append(("box_empty", "neither bbox nor segmentation"))
        return None

    category = identity(record, "category_id")
    if category not in labels:
        raise UserError(f"category_id {category!r} is not among the {len(labels)} categories",
                        kind="class_number")

    # An outline alone is enough, and so is a box: what is odd about its outline costs only the outline.
    outline = None
    try:
        outline = read_outline(segmentation, size, found)
    except UserError as error:
        if box in NOTHING:
            raise
        found.append(("outline_broken", str(error).rstrip(".")))
    if outline is None and is_turned(record):
        raise UserError("its box is rotated, and it has no outline", kind="rotated_box")
    edges = read_box(box, outline, size, found)
    if edges is None:
        return None

    # In some exports difficult objects have "ignore" or "difficult", as in VOC.
    crowd = any(is_flagged(record.get(name), name) for name in ("iscrowd", "ignore", "difficult"))
    box = keep_box(edges, size, found)
    if box is None:
        return None
    thing = {"name": labels[category], "box": box, "difficult": crowd}
    return {**thing, "outline": outline} if outline else thing


def is_turned(record):
    """Whether CVAT says that the bbox is that of a rectangle before it was rotated, in degrees."""
    attributes = record.get("attributes")
    rotation = attributes.get("rotation") if isinstance(attributes, dict) else None
    return isinstance(rotation, (int, float)) and rotation % 180 != 0


def read_box(box, outline, size, found):
    """"bbox", or the extent of the outline where there is none -> (x1, y1, x2, y2) px edges.

    None, and a finding, when nothing is in it.
    """
    if box in NOTHING or outline and box == [0, 0, 0, 0]:
        if outline is None and size is None:
            return None                                     # run lengths, and no size to unfold them to
        edges = outline and extent(outline)
        if edges is None:
            found.append(("box_empty", "no bbox, and no pixel in its segmentation"))
        return edges

    # What is no box costs the whole image: the object is there, and nobody knows where.
    if not isinstance(box, list) or len(box) != 4:
        raise UserError(f"bbox is {str(box)[:60]}, expected [x, y, width, height] in pixels")
    x, y, w, h = (coordinate(value, "a number of bbox") for value in box)
    if w < 0 or h < 0:
        raise UserError(f"bbox has the size {w:g} x {h:g}, expected [x, y, width, height]")
    return x, y, x + w, y + h
