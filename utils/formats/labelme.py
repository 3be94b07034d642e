"""labelme: one JSON per image, {"shapes": [{"label", "shape_type", "points"}], "imagePath"}; versions 3 to 5.

Shapes with an area become objects: rectangle, polygon, circle, mask, and the turned rectangles of
X-AnyLabeling (their corners). Lines and points have none and are skipped. The label __ignore__ is ignored
(255 in masks), _background_ is background.
"""
import base64
import contextlib
import math
import os
from collections import defaultdict
from pathlib import PureWindowsPath

import numpy as np

from utils.errors import UserError
from utils.findings import Finding, from_error
from utils.formats.foreign import (
    STEERING,
    by_stem,
    class_name,
    coordinate,
    field,
    files_below,
    folder_split,
    locate,
    read_json,
)
from utils.formats.image_names import images_named, index_names
from utils.formats.objects import (
    IGNORE,
    flat_shape,
    is_flagged,
    is_size,
    keep_box,
    read_objects,
    told_size,
)
from utils.formats.outlines import extent, runs_of
from utils.formats.sweep import look_at_sample, sweep, with_truth
from utils.images import SUFFIXES, mask_in_text
from utils.lists import prepared_folder
from utils.settings import counted, shown
from utils.system.files import printable

MAX_BYTES = 200_000_000         # the image itself may be in the file
NO_CLASS = (IGNORE, "_background_")
FLAT = ("line", "linestrip", "point", "points")
# The least points of a shape with an area. The last three are X-AnyLabeling's and of newer versions: corners.
WANTED = {"rectangle": 2, "circle": 2, "mask": 2, "polygon": 3, "rotation": 3, "quadrilateral": 3,
          "oriented_rectangle": 3}
NAMES_FILE = "label_names.txt"  # in a folder that labelme_json_to_dataset made
IMAGE_FOLDERS = ("JPEGImages", "images", "image", "imgs")   # beside a folder of labels
CORNERS = 72                    # of the polygon that replaces a circle


def read_labelme(folder, findings):
    """-> class names (sorted: labelme has no order), dict list name -> samples; see foreign.py."""
    # Folders that labelme_json_to_dataset made beside a file hold copies of its image.
    images = [image for image in files_below(folder) if not (image.parent / NAMES_FILE).is_file()]
    files = files_below(folder, (".json",))

    # VOC2007/Annotations was given: its images are beside it, in VOC2007/JPEGImages.
    home = folder
    if not images:
        home = next((home for name in IMAGE_FOLDERS if (home := folder.parent / name).is_dir()), folder)
    places = Places(folder, home, images or files_below(home), files)

    lists, owners, renamed = {}, {}, []
    looked = sweep(lambda file: read_labelme_file(file, places), [(file,) for file in files],
                   f"Checking {shown(folder)}")
    for file, (image, sample, found) in zip(files, looked):
        findings += [finding for finding in found if finding.kind != "other_image_path"]
        renamed += [finding for finding in found if finding.kind == "other_image_path"]
        if not image and not found:                         # a JSON of another program
            continue
        some = lists.setdefault(folder_split(file, folder), [])
        if image in owners:
            detail = f"{owners[image].name} belongs to {printable(image.name)} too"
            findings.append(Finding("label_twice", file, None, detail))
        elif image:
            owners[image] = file
            some += [sample] if sample else []

    inside = sum(image.is_relative_to(places.made) for image in owners)
    if inside:
        print(f"{shown(folder)}: only inside the labelme files: {counted(inside, 'image')}; written to "
              f"{shown(places.made)}")

    # Whoever renames a folder renames all its files: that is one thing to say.
    if renamed:
        more = f", and so on in {counted(len(renamed), 'file')} of {len(owners)}"
        findings.append(renamed[0]._replace(detail=renamed[0].detail + more))

    # An image whose JSON cannot be read is reported already, by that file.
    told = {file.stem for file in files}
    findings += [Finding("image_without_label", image) for image in images
                 if image not in owners and image.stem not in told]

    names = {thing["name"] for some in lists.values() for sample in some for thing in sample.truth}
    return sorted(names - set(NO_CLASS)), lists


class Places:
    """Where the images of labelme files are looked for.

    folder: of the dataset.  home: of the images.  images: all of them.  files: the labelme files.
    """

    def __init__(self, folder, home, images, files):
        self.folder, self.home, self.made = folder, home, prepared_folder(folder) / "images"
        self.index, self.stems = index_names(images), by_stem(images)
        self.beside = defaultdict(list)
        for image in images:
            self.beside[image.with_suffix("")].append(image)

        # Mostly image and file have one name; only then a name counts as far as in another folder.
        named_alike = sum(bool(self.stems.get(file.stem)) for file in files)
        self.named_alike = 2 * named_alike >= len(files)


def read_labelme_file(file, places):
    """-> the image of a JSON file or None, its Sample or None when one of them is unusable, findings."""
    image, findings = None, []
    try:
        content = read_json(file, MAX_BYTES)
        if not isinstance(content, dict) or "shapes" not in content:
            return None, None, []                           # a JSON of another program
        image, findings = find_image(file, content, places)
        sample, found = look_at_sample(image)
        findings += found
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


def find_image(file, content, places):
    """The image of a labelme file, and findings: the one with the name of the file, else the one that
    imagePath says.

    imagePath is of the day of labelling: whoever renamed images and files since did not change it.
    """
    name = content.get("imagePath")
    name = name if isinstance(name, str) and name.strip() else ""
    if STEERING.search(name):
        locate(name, file.parent, [places.home], "imagePath")           # an error, which says what is allowed

    # Two images of the file's name: only imagePath can say which.
    named = image_of_path(name, file, places) if name else None
    beside = places.beside.get(file.with_suffix(""), [])
    if len(beside) > 1 and named not in beside:
        raise UserError(f"{' and '.join(image.name for image in beside)} have the name of this file",
                        kind="stem_twice")

    own = beside[0] if len(beside) == 1 else None
    if own is None and (places.named_alike or named is None):
        own = places.stems.get(file.stem)
    if own and named and named.stem == own.stem:
        return named, []                                    # perhaps in another folder, which only it says
    if own:
        other = PureWindowsPath(name).stem if name else own.stem
        detail = f"it names {printable(PureWindowsPath(name).name)}, {printable(own.name)} is used"
        return own, [Finding("other_image_path", file, None, detail)] if other != own.stem else []
    named = named or picture_inside(file, content, places)
    if named is None:
        raise UserError(f"its image {printable(str(name or None)[:80])} is not in {shown(places.home)}. Put "
                        "it beside the file.", kind="label_without_image")
    return named, []


def image_of_path(name, file, places):
    """The image of the dataset that imagePath says, or None."""
    with contextlib.suppress(UserError):                    # it leads out of the dataset
        image = locate(name, file.parent, [places.home], "imagePath")
        if image.is_file() and image.name.lower().endswith(SUFFIXES):
            return image

    # The path of another computer; or the image was converted, and its suffix is another one now.
    images = images_named(name, places.index, places.home)
    return images[0] if len(images) == 1 else places.stems.get(PureWindowsPath(name).stem)


def picture_inside(file, content, places):
    """The picture that a labelme file holds itself as base64, written into the project; None without one."""
    text = content.get("imageData")
    try:
        data = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except ValueError:
        return None
    if not data:
        return None

    # Not into the dataset, which may be read-only. A file that is there already keeps its time.
    suffix = ".png" if data.startswith(b"\x89PNG") else ".jpg"
    path = places.made / file.relative_to(places.folder).with_suffix(suffix)
    temporary = path.with_name(f"{path.stem}.{os.getpid()}.tmp{suffix}")
    try:
        if not path.is_file() or path.read_bytes() != data:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(data)
            os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"{shown(path)}, the picture inside {file.name}, cannot be written: "
                        f"{error.strerror}.", kind="file_missing") from None
    finally:
        with contextlib.suppress(OSError):                  # after a success it is gone already
            temporary.unlink()
    return path


def read_shape(shape, size, found):
    """A shape -> its object, or None when it has no area.

    size: (w, h) px of the image, None: not known.  found: gets (kind, detail).
    """
    # A click too many leaves a shape behind that is nothing; what has no area needs no class either.
    told = shape if isinstance(shape, dict) else {}
    if told.get("points", 0) in (None, []):
        found.append(("shape_flat", "a shape without points"))
        return None
    if told.get("shape_type") in FLAT:
        found.append(flat_shape(told.get("label"), told["shape_type"]))
        return None
    label = class_name(field(shape, "label", str))
    kind = field(shape, "shape_type", str) if shape.get("shape_type") else "polygon"
    points = read_points(field(shape, "points", list), label)

    # What has no area is skipped, what cannot be understood is an error.
    if kind not in WANTED:
        raise UserError(f"{printable(label)}: unknown shape {printable(kind)!r}, expected "
                        f"{', '.join(WANTED)}. Draw it again as a polygon")
    if len(points) < WANTED[kind]:
        found.append(flat_shape(label, kind, len(points)))
        return None
    if kind in ("circle", "mask") and len(points) != 2:
        raise UserError(f"{printable(label)}: a {kind} with {len(points)} points, expected 2 points")

    # X-AnyLabeling has a word of its own for difficult, in labelme people use a flag.
    flags = shape.get("flags") if isinstance(shape.get("flags"), dict) else {}
    difficult = is_flagged(shape.get("difficult"), "difficult") or flags.get("difficult") is True

    edges, outline = OUTLINES[kind](points) if kind in OUTLINES else (extent([points]), [points])
    if kind == "mask":
        edges, outline = read_mask(shape.get("mask"), points, size, found)
    box = keep_box(edges, size, found)
    if box is None:
        return None
    thing = {"name": label, "box": box, "difficult": difficult or label in NO_CLASS}
    return {**thing, "outline": outline} if outline else thing


def circle(points):
    """The centre and a point on the edge -> edges of the box, list of one polygon."""
    (x, y), radius = points[0].tolist(), math.dist(*points)
    angles = np.arange(CORNERS) * (2 * np.pi / CORNERS)
    outline = points[0] + radius * np.stack([np.cos(angles), np.sin(angles)], 1)
    return (x - radius, y - radius, x + radius, y + radius), [outline]


def rectangle(points):
    """Two corners, in other programs four -> edges of the box, list of one polygon."""
    x1, y1, x2, y2 = extent([points])
    return (x1, y1, x2, y2), [np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])]


OUTLINES = {"circle": circle, "rectangle": rectangle}


def read_mask(text, points, size, found):
    """A mask shape: a PNG as base64 text, its first and its last pixel -> edges of the box, outline or None.

    Findings: a PNG that cannot be used; then the box alone is.
    """
    (x1, y1), (x2, y2) = np.sort(np.rint(points).astype(int), axis=0).tolist()
    edges = (x1, y1, x2 + 1, y2 + 1)                        # the last pixel is inside
    try:
        pixels = mask_in_text(text if isinstance(text, str) else "", (x2 + 1 - x1, y2 + 1 - y1))
    except UserError as error:
        found.append(("outline_broken", f"the mask: {str(error).rstrip('.')}"))
        return edges, None
    if size is None:
        return edges, None

    # What lies beyond the image is cut off.
    whole = np.zeros(size[::-1], bool)
    top, left = max(y1, 0), max(x1, 0)
    inside = pixels[top - y1:max(size[1] - y1, 0), left - x1:max(size[0] - x1, 0)]
    whole[top:top + inside.shape[0], left:left + inside.shape[1]] = inside
    return edges, runs_of(whole)


def read_points(points, label):
    """A list of [x, y] -> (n, 2) px. label: for the message."""
    for point in points:
        if not isinstance(point, list) or len(point) != 2:
            raise UserError(f"{printable(label)}: {str(point)[:60]} is not a point, expected [x, y]")
    what = f"a coordinate of {printable(label)}"
    return np.array([[coordinate(v, what) for v in point] for point in points]).reshape(-1, 2)
