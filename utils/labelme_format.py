"""labelme: one JSON per image, {"shapes": [{"label", "shape_type", "points"}], "imagePath"}; versions 3 to 5.

Shapes with an area become objects: rectangle, polygon, circle, and mask (its rectangle). Lines and points have none and are left out.
The label __ignore__ counts nowhere (255 in masks), _background_ is background.
"""
import math
from collections import Counter
from pathlib import PureWindowsPath

import numpy as np

from utils.errors import UserError
from utils.foreign import (
    by_stem,
    class_name,
    clip_box,
    files_below,
    folder_split,
    locate,
    number,
    part,
    raise_all,
    read_json,
    readable_size,
    tell_lost,
)
from utils.images import SUFFIXES
from utils.settings import shown
from utils.voc import printable

MAX_BYTES = 200_000_000                                     # the image itself may be in the file
NO_CLASS = ("__ignore__", "_background_")
FLAT = ("line", "linestrip", "point", "points")
CORNERS = 72                                                # of the polygon that stands for a circle


def read_labelme(folder, notes=None):
    """-> class names (sorted: labelme has no order), dict list name -> [(image path, objects)]; see foreign.py."""
    notes = Counter() if notes is None else notes
    images = files_below(folder)
    home = folder if images else folder.parent              # VOC2007/Annotations, whose images are in VOC2007/JPEGImages
    stems = by_stem(images or files_below(home))
    lists, errors, lost, owners, flat = {}, [], [], {}, Counter()
    for file in files_below(folder, (".json",)):
        try:
            content = read_json(file, MAX_BYTES)
            if not isinstance(content, dict) or "shapes" not in content:
                continue                                    # another program's
            image = image_of(file, content, home, stems)
            if image in owners:
                raise UserError(f"{shown(file)} and {owners[image].name} both belong to {shown(image)}. Delete one of them.")
            owners[image] = file
            size = readable_size(image, lost)
            if size:
                lists.setdefault(folder_split(file, folder), []).append((image, read_shapes(file, content, size, notes, flat)))
        except UserError as error:
            errors.append(str(error))
    raise_all(errors, folder)
    tell_lost(lost, folder)
    for kind, count in sorted(flat.items()):
        print(f"{shown(folder)}: {count} shapes of the kind {printable(kind)} have no area and are left out")
    names = {thing["name"] for some in lists.values() for _, objects in some for thing in objects} - set(NO_CLASS)
    if not names:
        raise UserError(f"{shown(folder)}: there is no shape with a label in the {len(owners)} labelme files.")
    return sorted(names), lists


def is_labelme(file):
    """Whether a JSON file looks like labelme's."""
    with open(file, "rb") as stream:
        start = stream.read(1_000_000)
    return b'"shapes"' in start and b'"imagePath"' in start


def image_of(file, content, folder, stems):
    """The image of a labelme file: imagePath, relative to the file, if it lies in the data set; else the one with the file's name."""
    name = content.get("imagePath")
    if isinstance(name, str) and name:
        plain = PureWindowsPath(name).name                  # it may have been written on Windows; folders of another machine do not count
        named = locate(plain, file.parent, [folder], f"{shown(file)}, imagePath")
        try:
            image = locate(name, file.parent, [folder], f"{shown(file)}, imagePath")
        except UserError:
            image = named
        image = next((one for one in (image, named, stems.get(named.stem)) if one and one.is_file() and one.name.lower().endswith(SUFFIXES)), None)
        if image:
            return image
    image = next((one for suffix in SUFFIXES for one in (file.with_suffix(suffix), file.with_suffix(suffix.upper())) if one.is_file()), None) \
        or stems.get(file.stem)
    if image is None:
        raise UserError(f"{shown(file)}: its image {printable(str(name)[:80])} is not in {shown(folder)}. Put it beside the file.")
    return image


def read_shapes(file, content, size, notes, flat):
    """The objects of a file. size: (w, h) of the image. flat: a Counter that is told which shapes have no area."""
    told = (content.get("imageWidth"), content.get("imageHeight"))
    notes["size"] += all(isinstance(side, int) and side > 0 for side in told) and told != tuple(size)
    objects = []
    for position, shape in enumerate(part(content, "shapes", list, shown(file)), 1):
        where = f"{shown(file)}, shape {position}"
        kind = part(shape, "shape_type", str, where) if isinstance(shape, dict) and shape.get("shape_type") else "polygon"
        label = class_name(part(shape, "label", str, where), where)
        points = part(shape, "points", list, where)
        for point in points:
            if not isinstance(point, list) or len(point) != 2:
                raise UserError(f"{where} ({printable(label)}): {str(point)[:60]} is not a point, expected [x, y].")
        points = np.array([[number(v, where, f"a coordinate of {printable(label)}") for v in point] for point in points]).reshape(-1, 2)
        if kind in FLAT:
            flat[kind] += 1
            continue
        outline = outline_of(kind, points, f"{where} ({printable(label)})")
        box = clip_box((*outline.min(0).tolist(), *outline.max(0).tolist()), size, notes)
        if kind == "circle":
            (x, y), radius = points[0], math.dist(*points)
            box = clip_box((x - radius, y - radius, x + radius, y + radius), size, Counter())
        if box:
            objects.append({"name": label, "box": box, "difficult": label in NO_CLASS, **({"outline": [outline]} if kind != "mask" else {})})
    return objects


def outline_of(kind, points, where):
    """(n, 2) polygon of a shape."""
    wanted = {"rectangle": "2 points", "circle": "2 points", "mask": "2 points", "polygon": "3 points or more"}
    if kind not in wanted:
        raise UserError(f"{where}: the shape {printable(kind)!r} is not known, expected {', '.join(wanted)}. Draw it anew as a polygon.")
    if len(points) != 2 if kind in ("circle", "mask") else len(points) < (2 if kind == "rectangle" else 3):
        raise UserError(f"{where}: a {kind} with {len(points)} points, expected {wanted[kind]}.")
    if kind == "circle":
        angles = np.arange(CORNERS) * (2 * np.pi / CORNERS)
        return points[0] + math.dist(*points) * np.stack([np.cos(angles), np.sin(angles)], 1)
    if kind == "rectangle" or kind == "mask":
        (x1, y1), (x2, y2) = points.min(0), points.max(0)
        return np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])
    return points
