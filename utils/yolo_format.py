"""YOLO txt labels: a data.yaml, or folders images/ and labels/ with a classes.txt, or txt files beside the images (LabelImg).

A line is `class x y w h`, the centre and the size of a box as shares of the image, or `class x1 y1 x2 y2 x3 y3 ...`, an outline.
An image without a txt file has no objects.
"""
import os
import re
from collections import Counter
from pathlib import Path

import numpy as np

from utils.errors import UserError, did_you_mean
from utils.foreign import SPLIT_NAMES, class_names, clip_box, files_below, folder_split, locate, raise_all, readable_size, tell_lost
from utils.images import SUFFIXES
from utils.plain_yaml import read_yaml
from utils.settings import shown
from utils.voc import NUMBER, read_lines, read_raw_lines

KEYS = ("path", "train", "val", "valid", "test", "names", "nc")
BEYOND = 0.01                                               # a share may lie this much outside 0 to 1: rounding of the program that wrote it
MAX_LABEL_BYTES = 20_000_000
CLASSES = ("classes.txt", "obj.names", "predefined_classes.txt")


def read_yolo(path, notes=None):
    """-> class names, dict list name -> [(image path, objects)]; see foreign.py. path: a data.yaml, or a folder with a classes.txt."""
    notes = Counter() if notes is None else notes
    names, images, where = read_data_yaml(path) if path.is_file() else read_folder(path)
    errors, lost, lists, read, without = [], [], {}, {}, 0
    for split, paths in images.items():
        lists[split] = []
        for image in paths:
            if image not in read:
                label, size = label_of(image), readable_size(image, lost)
                without += not label.is_file()
                try:
                    read[image] = None if size is None else read_label(label, size, names, where, notes) if label.is_file() else []
                except UserError as error:
                    errors.append(str(error))
                    read[image] = None
            if read[image] is not None:
                lists[split].append((image, read[image]))
    raise_all(errors, path if path.is_dir() else path.parent)
    tell_lost(lost, path)
    if without == len(read):
        first = next(iter(read))
        raise UserError(f"{shown(path)}: none of the {without} images has a txt file of labels; that of {shown(first)} should be "
                        f"{shown(label_of(first))}. Labels belong into a folder labels beside the folder images, or beside the images.")
    if without:
        print(f"{shown(path)}: {without} of {len(read)} images have no txt file, they count as images without objects")
    return names, lists


def read_data_yaml(path):
    """-> class names, dict list name -> image paths, where the names stand."""
    content = read_yaml(path, KEYS)
    if "names" not in content:
        raise UserError(f"{shown(path)} has no names: of the classes, like  names: [cat, dog]")
    values, line = content["names"]
    where = f"{shown(path)}, line {line}"
    if isinstance(values, dict):
        numbers = [int(key) if re.fullmatch("[0-9]{1,6}", str(key)) else -1 for key in values]
        if sorted(numbers) != list(range(len(numbers))):
            raise UserError(f"{where}: the numbers of the names must be 0, 1, 2 ... without gaps, found {', '.join(map(str, list(values)[:10]))}.")
        values = [values[key] for _, key in sorted(zip(numbers, values))]
    if not isinstance(values, list):
        raise UserError(f"{where}: names is {values!r}, expected a list like [cat, dog].")
    names = class_names(values, where)
    if "nc" in content and str(content["nc"][0]) != str(len(names)):
        raise UserError(f"{shown(path)}, line {content['nc'][1]}: nc is {content['nc'][0]}, but there are {len(names)} names. Correct one of them.")
    root = yaml_root(path, content)
    lists = {}
    for key in ("train", "val", "valid", "test"):
        value, line = content.get(key, (None, 0))
        if value:
            lists.setdefault(SPLIT_NAMES[key], images_of(value, root, path, f"{shown(path)}, line {line}"))
    if not lists:
        raise UserError(f"{shown(path)} has no train: and val:, the folders of the images.")
    return names, lists, where


def yaml_root(path, content=None):
    """The folder that the names in a data.yaml are relative to."""
    value, line = (content or read_yaml(path, KEYS)).get("path", (None, 0))
    if not value:
        return path.parent
    if not isinstance(value, str) or "\x00" in value:
        raise UserError(f"{shown(path)}, line {line}: path is {value!r}, expected one folder.")
    for place in (path.parent / value, Path(os.path.expanduser(value)), path.parent / Path(value).name):
        if os.path.isdir(place):
            return place.resolve()
    return path.parent                                      # often it is a folder of another machine, and the images are here


def images_of(value, root, path, where):
    """The images of train:, val: or test: -- a folder, a text file of names, or a list of these; sorted folders, lists in their order."""
    images = []
    for entry in value if isinstance(value, list) else [value]:
        if not isinstance(entry, str) or "\x00" in entry:
            raise UserError(f"{where}: expected a folder or a list file, found {entry!r}.")
        entry = entry.replace("\\", "/")
        tries = [base / name for name in dict.fromkeys((entry, re.sub(r"^(\.\./)+", "", entry))) for base in (root, path.parent)]
        place = next((place for place in tries if os.path.exists(place)), None)       # unlike Path.exists: False for any impossible name
        if place is None:
            near = did_you_mean(entry, [other.relative_to(root).as_posix() for level in ("*", "*/*") for other in root.glob(level)][:5000])
            raise UserError(f"{where}: there is no {entry} in {shown(root)}.{near} Correct it, or path: above it.")
        images += files_below(place.resolve()) if place.is_dir() else listed(place.resolve(), root, path)
    if not images:
        raise UserError(f"{where}: there are no images in {value}.")
    return list(dict.fromkeys(images))


def listed(file, root, path):
    """The images that a text file names. Errors: those of foreign.locate, or one is not there."""
    if file.suffix.lower() != ".txt":
        raise UserError(f"{shown(file)}: expected a folder of images or a .txt file of their names.")
    roots = [root.resolve(), path.parent.resolve(), file.parent]
    images, lost = [], []
    for number, name in enumerate(read_lines(file), 1):
        if not name:
            continue
        where = f"{shown(file)}, line {number}"
        tries = [locate(name, base, roots, where) for base in ([file.parent, *roots[:2]] if not name.startswith("/") else roots[:1])]
        image = next((image for image in tries if image.is_file()), None)
        if image is None:
            lost.append(f"{where}: there is no image {name}.")
        elif not image.name.lower().endswith(SUFFIXES):
            raise UserError(f"{where}: {name!r} is no image; expected one of {', '.join(SUFFIXES)}.")
        images.append(image)
    raise_all(lost, file.parent)
    return images


def read_folder(folder):
    """A folder without a data.yaml -> class names, dict list name -> image paths, where the names stand."""
    file = next((file for file in files_below(folder, CLASSES) if file.name in CLASSES), None)
    if file is None:
        raise UserError(f"{shown(folder)} has YOLO labels but no classes.txt: write one, the class names in the order of their numbers.")
    names, lists = class_names(read_lines(file), shown(file)), {}
    for image in files_below(folder):
        lists.setdefault(folder_split(image, folder), []).append(image)
    return names, lists, shown(file)


def label_of(image):
    """The label file of an image: the last folder `images` in its path becomes `labels`, the suffix txt; else beside the image."""
    parts = image.parts
    places = [number for number, part in enumerate(parts[:-1]) if part.lower() == "images"]
    if places:
        other = Path(*parts[:places[-1]], "labels", *parts[places[-1] + 1:]).with_suffix(".txt")
        if other.is_file() or not image.with_suffix(".txt").is_file():
            return other
    return image.with_suffix(".txt")


def read_label(path, size, names, where, notes):
    """The objects of a txt file. size: (w, h) px of its image. where: the place of the class names, for the message."""
    objects, scale = [], np.array(size, np.float64)
    for number, line in enumerate(read_raw_lines(path, MAX_LABEL_BYTES), 1):
        words = line.split()
        if not words:
            continue
        here = f"{shown(path)}, line {number}"
        wrong = next((word for word in words if not NUMBER.fullmatch(word)), None)
        if wrong is not None:
            raise UserError(f"{here}: {wrong[:40]!r} is not a number.")
        if len(words) == 6:
            raise UserError(f"{here}: six numbers, a prediction with its score? Labels have five: class x y w h. Save them without scores.")
        if len(words) < 5 or len(words) % 2 == 0:
            raise UserError(f"{here}: {len(words)} numbers, expected  class x y w h  or  class x1 y1 x2 y2 x3 y3 ...")
        label, shares = float(words[0]), np.array(words[1:], np.float64)
        if not label.is_integer() or not 0 <= label < len(names):
            raise UserError(f"{here}: class {words[0]}, but there are {len(names)} class names in {where} (numbers 0 to {len(names) - 1}).")
        if shares.min() < -BEYOND or shares.max() > 1 + BEYOND:
            far = shares[np.argmax(np.abs(shares - 0.5))]
            raise UserError(f"{here}: {far:g} is not a share of the image, expected 0 to 1. If these are pixels, divide x and w by the width, "
                            "y and h by the height.")
        if len(words) == 5:
            x, y, w, h = (shares.reshape(2, 2) * scale).ravel().tolist()
            edges, outline = (x - w / 2, y - h / 2, x + w / 2, y + h / 2), {}
        else:
            points = shares.reshape(-1, 2) * scale
            edges, outline = (*points.min(0).tolist(), *points.max(0).tolist()), {"outline": [points]}
        box = clip_box(edges, size, notes)
        if box:
            objects.append({"name": names[int(label)], "box": box, "difficult": False, **outline})
    return objects
