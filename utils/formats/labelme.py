"""labelme: one JSON per image, {"shapes": [{"label", "shape_type", "points"}], "imagePath"}; versions 3 to 5.

Shapes with an area become objects: rectangle, polygon, circle, and mask (its rectangle). Lines and points have none and are left out.
The label __ignore__ counts nowhere (255 in masks), _background_ is background.
"""
import math
from pathlib import PureWindowsPath

import numpy as np

from utils.errors import UserError
from utils.findings import Finding, from_error
from utils.formats.foreign import by_stem, class_name, files_below, folder_split, locate, number, part, read_json
from utils.formats.objects import is_size, keep_box, read_objects, told_size
from utils.formats.sweep import look_at_sample, sweep, with_truth
from utils.images import SUFFIXES
from utils.settings import shown
from utils.system.files import printable

MAX_BYTES = 200_000_000                                     # the image itself may be in the file
NO_CLASS = ("__ignore__", "_background_")
FLAT = ("line", "linestrip", "point", "points")
WANTED = {"rectangle": "2 points", "circle": "2 points", "mask": "2 points", "polygon": "3 points or more"}
CORNERS = 72                                                # of the polygon that stands for a circle


def read_labelme(folder, findings):
    """-> class names (sorted: labelme has no order), dict list name -> samples; see foreign.py."""
    images, files = files_below(folder), files_below(folder, (".json",))
    home = folder if images else folder.parent              # VOC2007/Annotations, whose images are in VOC2007/JPEGImages
    stems = by_stem(images or files_below(home))
    lists, owners = {}, {}
    looked = sweep(lambda file: read_file(file, home, stems), [(file,) for file in files], f"Checking {shown(folder)}")
    for file, (image, sample, found) in zip(files, looked):
        findings += found
        some = lists.setdefault(folder_split(file, folder), []) if image or found else []
        if image and image in owners:
            findings.append(Finding("label_twice", file, None, f"{owners[image].name} belongs to {printable(image.name)} too"))
        elif image:
            owners[image] = file
            some += [sample] if sample else []
    told = {file.stem for file in files}
    findings += [Finding("image_without_label", image) for image in images if image not in owners and image.stem not in told]
    return sorted({thing["name"] for some in lists.values() for sample in some for thing in sample.truth} - set(NO_CLASS)), lists


def read_file(file, home, stems):
    """-> the image of a JSON file, None when it has none; its Sample, None when one of the two cannot be used; findings."""
    image, sample, findings = None, None, []
    try:
        content = read_json(file, MAX_BYTES)
        if not isinstance(content, dict) or "shapes" not in content:
            return None, None, []                           # another program's
        image = image_of(file, content, home, stems)
        sample, findings = look_at_sample(image)
        shapes = part(content, "shapes", list)
    except UserError as error:
        return image, None, [*findings, from_error(error, file, "label_broken")]
    told, size = (content.get("imageWidth"), content.get("imageHeight")), sample.size if sample else None
    if sample and is_size(told):
        findings += told_size(told, size, file, "imageWidth x imageHeight")
    objects, found = read_objects(file, ((None, f"shape {number}: ", shape) for number, shape in enumerate(shapes, 1)),
                                  lambda shape, found: read_shape(shape, size, found))
    return image, with_truth(sample, file, objects, found), findings + found


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
        named = locate(plain, file.parent, [folder], "imagePath")
        try:
            image = locate(name, file.parent, [folder], "imagePath")
        except UserError:
            image = named
        image = next((one for one in (image, named, stems.get(named.stem)) if one and one.is_file() and one.name.lower().endswith(SUFFIXES)), None)
        if image:
            return image
    image = next((one for suffix in SUFFIXES for one in (file.with_suffix(suffix), file.with_suffix(suffix.upper())) if one.is_file()), None) \
        or stems.get(file.stem)
    if image is None:
        raise UserError(f"its image {printable(str(name)[:80])} is not in {shown(folder)}. Put it beside the file.", kind="label_without_image")
    return image


def read_shape(shape, size, found):
    """A shape -> its object, or None when it has no area. size: (w, h) of the image, None: not known. found: gets (kind, detail)."""
    label = class_name(part(shape, "label", str))
    kind = part(shape, "shape_type", str) if shape.get("shape_type") else "polygon"
    points = part(shape, "points", list)
    for point in points:
        if not isinstance(point, list) or len(point) != 2:
            raise UserError(f"{printable(label)}: {str(point)[:60]} is not a point, expected [x, y]")
    points = np.array([[number(v, f"a coordinate of {printable(label)}") for v in point] for point in points]).reshape(-1, 2)
    if kind in FLAT:
        found.append(("shape_flat", f"{printable(label)}, a {kind}"))
        return None
    if kind not in WANTED:
        raise UserError(f"{printable(label)}: the shape {printable(kind)!r} is not known, expected {', '.join(WANTED)}. Draw it anew as a polygon")
    if len(points) != 2 if kind in ("circle", "mask") else len(points) < (2 if kind == "rectangle" else 3):
        raise UserError(f"{printable(label)}: a {kind} with {len(points)} points, expected {WANTED[kind]}")
    outline, (x1, y1), (x2, y2) = points, points.min(0).tolist(), points.max(0).tolist()
    if kind == "circle":
        (x, y), radius = points[0].tolist(), math.dist(*points)
        x1, y1, x2, y2 = x - radius, y - radius, x + radius, y + radius
        angles = np.arange(CORNERS) * (2 * np.pi / CORNERS)
        outline = points[0] + radius * np.stack([np.cos(angles), np.sin(angles)], 1)
    elif kind == "rectangle":
        outline = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])
    box = keep_box((x1, y1, x2, y2), size, found)
    return box and {"name": label, "box": box, "difficult": label in NO_CLASS, **({"outline": [outline]} if kind != "mask" else {})}
