"""labelme: one JSON per image, {"shapes": [{"label", "shape_type", "points"}], "imagePath"}; versions 3 to 5.

Shapes with an area become objects: rectangle, polygon, circle, and mask (its rectangle). Lines and points
have none and are skipped. The label __ignore__ is ignored (255 in masks), _background_ is background.
"""
import contextlib
import math
from pathlib import PureWindowsPath

import numpy as np

from utils.errors import UserError
from utils.findings import Finding, from_error
from utils.formats.foreign import (
    by_stem,
    class_name,
    coordinate,
    field,
    files_below,
    folder_split,
    locate,
    read_json,
)
from utils.formats.objects import is_size, keep_box, read_objects, told_size
from utils.formats.sweep import look_at_sample, sweep, with_truth
from utils.images import SUFFIXES
from utils.settings import shown
from utils.system.files import printable

MAX_BYTES = 200_000_000         # the image itself may be in the file
NO_CLASS = ("__ignore__", "_background_")
FLAT = ("line", "linestrip", "point", "points")
WANTED = {"rectangle": "2 points", "circle": "2 points", "mask": "2 points", "polygon": "3 points or more"}
CORNERS = 72                    # of the polygon that replaces a circle


def read_labelme(folder, findings):
    """-> class names (sorted: labelme has no order), dict list name -> samples; see foreign.py."""
    images = files_below(folder)
    files = files_below(folder, (".json",))

    # VOC2007/Annotations was given: its images are beside it, in VOC2007/JPEGImages.
    home = folder if images else folder.parent
    stems = by_stem(images or files_below(home))

    lists, owners = {}, {}
    looked = sweep(lambda file: read_labelme_file(file, home, stems), [(file,) for file in files],
                   f"Checking {shown(folder)}")
    for file, (image, sample, found) in zip(files, looked):
        findings += found
        if not image and not found:                         # a JSON of another program
            continue
        some = lists.setdefault(folder_split(file, folder), [])
        if image in owners:
            detail = f"{owners[image].name} belongs to {printable(image.name)} too"
            findings.append(Finding("label_twice", file, None, detail))
        elif image:
            owners[image] = file
            some += [sample] if sample else []

    # An image whose JSON cannot be read is reported already, by that file.
    told = {file.stem for file in files}
    findings += [Finding("image_without_label", image) for image in images
                 if image not in owners and image.stem not in told]

    names = {thing["name"] for some in lists.values() for sample in some for thing in sample.truth}
    return sorted(names - set(NO_CLASS)), lists


def read_labelme_file(file, home, stems):
    """-> the image of a JSON file or None, its Sample or None when one of them is unusable, findings."""
    image, findings = None, []
    try:
        content = read_json(file, MAX_BYTES)
        if not isinstance(content, dict) or "shapes" not in content:
            return None, None, []                           # a JSON of another program
        image = find_image(file, content, home, stems)
        sample, findings = look_at_sample(image)
        shapes = field(content, "shapes", list)
    except UserError as error:
        return image, None, [*findings, from_error(error, file, "label_broken")]

    # The size in the JSON only serves to notice an image that was resized or turned since.
    size = sample.size if sample else None
    told = (content.get("imageWidth"), content.get("imageHeight"))
    if sample and is_size(told):
        findings += told_size(told, size, file, "imageWidth x imageHeight")

    records = ((None, f"shape {position}: ", shape) for position, shape in enumerate(shapes, 1))
    objects, found = read_objects(file, records, lambda shape, found: read_shape(shape, size, found))
    return image, with_truth(sample, file, objects, found), findings + found


def is_labelme(file):
    """Whether a JSON file looks like labelme's."""
    with open(file, "rb") as stream:
        start = stream.read(1_000_000)
    return b'"shapes"' in start and b'"imagePath"' in start


def find_image(file, content, folder, stems):
    """The image of a labelme file: imagePath, relative to the file, if it is in the dataset; else the image
    with the file's name."""
    name = content.get("imagePath")
    candidates = []
    if isinstance(name, str) and name:
        # The path may come from another machine, perhaps with Windows: then only its last part counts.
        named = locate(PureWindowsPath(name).name, file.parent, [folder], "imagePath")
        with contextlib.suppress(UserError):                # it leads out of the dataset
            candidates.append(locate(name, file.parent, [folder], "imagePath"))
        candidates += [named, stems.get(named.stem)]
    for image in candidates:
        if image and image.is_file() and image.name.lower().endswith(SUFFIXES):
            return image

    # No imagePath, or no such image: images are mostly beside their JSON, under the same name.
    for suffix in SUFFIXES:
        for image in (file.with_suffix(suffix), file.with_suffix(suffix.upper())):
            if image.is_file():
                return image
    image = stems.get(file.stem)
    if image is None:
        raise UserError(f"its image {printable(str(name)[:80])} is not in {shown(folder)}. Put it "
                        "beside the file.", kind="label_without_image")
    return image


def read_shape(shape, size, found):
    """A shape -> its object, or None when it has no area.

    size: (w, h) px of the image, None: not known.  found: gets (kind, detail).
    """
    label = class_name(field(shape, "label", str))
    kind = field(shape, "shape_type", str) if shape.get("shape_type") else "polygon"
    points = read_points(field(shape, "points", list), label)

    # What is no outline is skipped, what cannot be one is an error.
    if kind in FLAT:
        found.append(("shape_flat", f"{printable(label)}, a {kind}"))
        return None
    if kind not in WANTED:
        raise UserError(f"{printable(label)}: unknown shape {printable(kind)!r}, expected "
                        f"{', '.join(WANTED)}. Draw it again as a polygon")
    if kind in ("circle", "mask"):
        enough = len(points) == 2
    else:
        enough = len(points) >= (2 if kind == "rectangle" else 3)
    if not enough:
        raise UserError(f"{printable(label)}: a {kind} with {len(points)} points, expected {WANTED[kind]}")

    # Every kind becomes a box and a polygon; a circle is given by its centre and a point on its edge.
    outline = points
    (x1, y1), (x2, y2) = points.min(0).tolist(), points.max(0).tolist()
    if kind == "circle":
        (x, y), radius = points[0].tolist(), math.dist(*points)
        x1, y1, x2, y2 = x - radius, y - radius, x + radius, y + radius
        angles = np.arange(CORNERS) * (2 * np.pi / CORNERS)
        outline = points[0] + radius * np.stack([np.cos(angles), np.sin(angles)], 1)
    elif kind == "rectangle":
        outline = np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])

    box = keep_box((x1, y1, x2, y2), size, found)
    if box is None:
        return None
    thing = {"name": label, "box": box, "difficult": label in NO_CLASS}
    return thing if kind == "mask" else {**thing, "outline": [outline]}


def read_points(points, label):
    """A list of [x, y] -> (n, 2) px. label: for the message."""
    for point in points:
        if not isinstance(point, list) or len(point) != 2:
            raise UserError(f"{printable(label)}: {str(point)[:60]} is not a point, expected [x, y]")
    what = f"a coordinate of {printable(label)}"
    return np.array([[coordinate(v, what) for v in point] for point in points]).reshape(-1, 2)
