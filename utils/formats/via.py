"""VGG Image Annotator, versions 1 and 2: a saved project, or exported annotations as JSON or CSV.

    {"f00.jpg1234": {"filename": "f00.jpg", "regions": [{"shape_attributes": {"name": "rect", "x": 10, ...},
                                                         "region_attributes": {"type": "red"}}]}}

Rectangles, polygons, circles and ellipses become objects; points and open lines have no area. One of the
region attributes is the class: the only one that is filled in, else the one called like that.
Source: https://www.robots.ox.ac.uk/~vgg/software/via/
"""
import csv
import json
import math
from collections import Counter
from pathlib import Path

import numpy as np

from utils.errors import UserError
from utils.findings import Finding, from_error
from utils.formats.foreign import class_name, coordinate, field, files_below, read_json, with_siblings
from utils.formats.objects import flat_shape, keep_box, read_objects
from utils.formats.rows import (
    find_named,
    images_near,
    index_images,
    into_lists,
    lonely_images,
    split_by_folders,
)
from utils.formats.sniff import format_of
from utils.formats.sweep import look_at_sample, sweep, with_truth
from utils.settings import shown
from utils.system.files import printable, read_raw_lines

CLASS_WORDS = ("class", "label", "category", "type", "name", "object")      # likely names of that attribute
ONLY = "object"                 # the class of regions without any attribute
CORNERS = 72                    # of the polygon that replaces a circle or an ellipse
LINES = ("point", "polyline", "line")
SUFFIXES = (".json", ".csv")
MAX_BYTES = 1_000_000_000


def read_via(path, findings):
    """-> class names, dict list name -> samples; see foreign.py. path: a file of VIA, or a folder of them."""
    folder = path if path.is_dir() else path.parent
    if path.is_dir():
        files = [file for file in files_below(path, SUFFIXES) if format_of(file) == "via"]
    else:
        files = with_siblings(path, lambda file: format_of(file) == "via")
    home, images = images_near(folder)
    known = index_images(home, images)

    # All files first: the attribute that is the class is the same in all of them.
    contents = {file: read_images_of(file, known, findings) for file in files}
    regions = [region for found in contents.values() for some in found.values() for region in some]
    attribute = class_attribute(path, regions)

    lists, taken = {}, {}
    for file, found in contents.items():
        twice = [image for image in found if image in taken]
        findings += [Finding("label_twice", file, None, f"{printable(image.name)} is also in "
                             f"{shown(taken[image])}") for image in twice]
        taken |= dict.fromkeys(found, file)
        samples = read_samples(file, found, attribute, findings)
        split = split_by_folders(file, home, with_name=True)
        for name, some in into_lists(samples, lambda image, split=split: split if split != "all" else
                                     split_by_folders(image, home)).items():
            lists.setdefault(name, []).extend(some)

    lonely_images(images, taken, findings)
    names = {thing["name"] for some in lists.values() for sample in some for thing in sample.truth}
    return sorted(names), lists


def read_images_of(file, known, findings):
    """dict image -> its regions, of a file of VIA. Findings: the file or one of its records is no use."""
    try:
        records = csv_records(file) if file.suffix.lower() == ".csv" else json_records(file)
    except UserError as error:
        findings.append(from_error(error, file, "label_broken"))
        return {}

    found = {}
    for where, record in records:
        try:
            image = find_named(field(record, "filename", str), file, known)
            if image in found:
                raise UserError(f"{printable(image.name)} has two records", kind="label_twice")
            regions = record.get("regions") or []

            # Version 1 numbers them: {"0": {...}, "1": {...}}.
            if isinstance(regions, dict):
                regions = list(regions.values())
            found[image] = field({"regions": regions}, "regions", list)
        except UserError as error:
            findings.append(Finding(error.kind or "label_broken", file, None, where + str(error).rstrip(".")))
    return found


def json_records(file):
    """(words that say where, record of an image) of a project or of exported annotations."""
    content = read_json(file, MAX_BYTES)
    if isinstance(content, dict) and "_via_img_metadata" in content:
        content = content["_via_img_metadata"]
    if not isinstance(content, (dict, list)):
        raise UserError(f"expected images {{...}}, found {str(content)[:60]!r}", kind="label_broken")
    records = content.values() if isinstance(content, dict) else content
    return [(f"image {number}: ", record) for number, record in enumerate(records, 1)]


def csv_records(file):
    """As json_records, of exported CSV: a line for each region, with JSON in its cells."""
    records = {}
    reader = csv.DictReader(line for line in read_raw_lines(file, MAX_BYTES) if line.strip())
    for row in reader:
        # The rows of an image belong together.
        name = row.get("filename") or row.get("#filename") or ""
        new = f"line {reader.line_num}: ", {"filename": name, "regions": []}
        record = records.setdefault(name, new)[1]

        cells = [row.get(key) or "{}" for key in ("region_shape_attributes", "region_attributes")]
        try:
            shape, attributes = map(json.loads, cells)
        except (ValueError, RecursionError):
            shape, attributes = {"name": f"line {reader.line_num} is no JSON"}, {}
        if shape:
            record["regions"].append({"shape_attributes": shape, "region_attributes": attributes})
    return list(records.values())


def class_attribute(path, regions):
    """The name of the region attribute that is the class, None when no region has any.

    Errors: several are filled in, and none is called like a class.
    """
    filled = Counter(name for region in regions for name, value in attributes_of(region).items() if value)
    if not filled:
        if regions:
            print(f'{shown(path)}: no region says what it is, so all are of one class, "{ONLY}"')
        return None
    if len(filled) == 1:
        return next(iter(filled))

    # Without regard to capitals: Class, LABEL.
    for word in CLASS_WORDS:
        for name in filled:
            if name.lower().replace(" ", "_") in (word, f"{word}_name"):
                print(f"{shown(path)}: of the attributes {', '.join(map(printable, filled))} "
                      f"{printable(name)} is the class")
                return name
    raise UserError(f"{shown(path)}: its regions have the attributes {', '.join(map(printable, filled))}; "
                    "which is the class? Call that one class.")


def attributes_of(region):
    """The attributes of a region, {} where there are none."""
    attributes = region.get("region_attributes") if isinstance(region, dict) else None
    return attributes if isinstance(attributes, dict) else {}


def read_samples(file, found, attribute, findings):
    """dict image -> Sample or None. found: dict image -> regions, of one file."""
    samples = {}
    looked = sweep(look_at_sample, [(image,) for image in found], f"Checking {shown(file)}")
    for (image, regions), (sample, more) in zip(found.items(), looked):
        size = sample.size if sample else None
        records = ((None, f"region {number} of {image.name}: ", region)
                   for number, region in enumerate(regions, 1))
        objects, faults = read_objects(Path(file), records, lambda region, faults, size=size:
                                       read_region(region, attribute, size, faults), spoils=False)
        findings += more + faults
        samples[image] = with_truth(sample, file, objects, faults)
    return samples


def read_region(region, attribute, size, found):
    """A region -> its object, or None when it has no area. found: gets (kind, detail)."""
    shape = field(region, "shape_attributes", dict)
    kind = field(shape, "name", str)

    # What has no area needs no class either.
    corners = shape.get("all_points_x")
    few = kind == "polygon" and isinstance(corners, list) and len(corners) < 3
    if few or kind in LINES:
        found.append(flat_shape(attributes_of(region).get(attribute), kind, len(corners) if few else None))
        return None
    name = name_of_region(region, attribute)

    # The box is the extent of the outline; that of a circle is a little more than its corners'.
    outline = outline_of(shape, kind)
    (x1, y1), (x2, y2) = outline.min(0).tolist(), outline.max(0).tolist()
    if kind in ("circle", "ellipse"):
        x1, y1, x2, y2 = box_of_ellipse(*ellipse_of(shape, kind))
    box = keep_box((x1, y1, x2, y2), size, found)
    return box and {"name": name, "box": box, "difficult": False, "outline": [outline]}


def name_of_region(region, attribute):
    """The class of a region: a text, or the only ticked one of some boxes {"red": true, "blue": false}."""
    if attribute is None:
        return ONLY
    value = attributes_of(region).get(attribute)
    if isinstance(value, dict):
        ticked = [name for name, tick in value.items() if tick]
        value = ticked[0] if len(ticked) == 1 else None
    if value in (None, ""):
        raise UserError(f"its attribute {printable(attribute)} names no class, or several")
    return class_name(value)


def outline_of(shape, kind):
    """The corners of a region, (n, 2) px. Errors: an unknown shape, a number is missing."""
    def number(name):
        return coordinate(shape.get(name), name)

    # The corners as they are written.
    if kind in ("rect", "rectangle"):
        x1, y1 = number("x"), number("y")
        x2, y2 = x1 + number("width"), y1 + number("height")
        return np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]])
    if kind == "polygon":
        columns = [[coordinate(value, name) for value in field(shape, name, list)]
                   for name in ("all_points_x", "all_points_y")]
        if len(columns[0]) != len(columns[1]) or len(columns[0]) < 3:
            raise UserError(f"a polygon with {len(columns[0])} x and {len(columns[1])} y, expected 3 or more "
                            "of each")
        return np.array(columns).T

    # A circle is an ellipse with equal half axes.
    if kind not in ("circle", "ellipse"):
        raise UserError(f"unknown shape {printable(kind[:40])!r}, expected rect, polygon, circle or ellipse")
    x, y, wide, high, turn = ellipse_of(shape, kind)
    angles = np.arange(CORNERS) * (2 * np.pi / CORNERS)
    across, along = wide * np.cos(angles), high * np.sin(angles)
    return np.stack([x + across * np.cos(turn) - along * np.sin(turn),
                     y + across * np.sin(turn) + along * np.cos(turn)], 1)


def ellipse_of(shape, kind):
    """Centre, half axes px and turn in radians of a circle or an ellipse."""
    x, y = coordinate(shape.get("cx"), "cx"), coordinate(shape.get("cy"), "cy")
    if kind == "circle":
        radius = coordinate(shape.get("r"), "r")
        return x, y, radius, radius, 0.0
    return (x, y, coordinate(shape.get("rx"), "rx"), coordinate(shape.get("ry"), "ry"),
            coordinate(shape.get("theta", 0), "theta"))


def box_of_ellipse(x, y, wide, high, turn):
    """The box of an ellipse: exactly, not that of its corners."""
    across = math.hypot(wide * math.cos(turn), high * math.sin(turn))
    along = math.hypot(wide * math.sin(turn), high * math.cos(turn))
    return x - across, y - along, x + across, y + along
