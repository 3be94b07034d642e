"""Tables of boxes, one in each line: CSV with a line of names on top, in any order and spelling (TensorFlow's
filename,width,height,class,xmin,ymin,xmax,ymax; Open Images; Roboflow; Kaggle), or without names
(keras-retinanet's path,x1,y1,x2,y2,class and others, see LAYOUTS).

The columns are told by their names, the reading of the numbers by all of them together, see rows.py.
"""
import csv
import re
from pathlib import Path
from typing import NamedTuple

from utils.errors import UserError
from utils.findings import Finding
from utils.formats.foreign import SPLIT_NAMES, class_name, files_below, with_siblings
from utils.formats.objects import told_size
from utils.formats.rows import (
    CORNERS,
    BoxRow,
    find_named,
    images_near,
    index_images,
    lonely_images,
    numbers_of,
    samples_of_rows,
    split_by_folders,
)
from utils.images import SUFFIXES
from utils.lists import NUMBER
from utils.settings import shown
from utils.system.files import decode_text, printable, read_raw_lines

MAX_BYTES = 4_000_000_000       # the table of Open Images has 1.2 GB
START = 100_000                 # bytes of a file that table_of reads
TABLES = (".csv", ".tsv", ".txt")
DELIMITERS = (",", ";", "\t", "|")
ONLY = "object"                 # the class of a table without classes
PICTURE = (*SUFFIXES, ".ppm", ".pgm")                # what tables name, read or not

# What a column holds -> the names that it has in tables, in small letters without anything but a-z0-9.
COLUMNS = {
    "image": ("filename", "imagename", "imagefilename", "imagefile", "imagepath", "imgpath", "filepath",
              "imgname", "file", "image", "img", "path", "frame", "imageid", "imgid", "imageurl"),
    "class": ("classname", "labelname", "class", "label", "category", "categoryname", "object", "objectname",
              "objectclass", "objecttype", "type", "classid", "classidx", "categoryid", "labelid", "target",
              "name"),
    "x1": ("xmin", "x1", "left", "xtl", "minx", "bboxxmin", "bboxx1", "roix1", "bboxleft", "xleft",
           "startx"),
    "y1": ("ymin", "y1", "top", "ytl", "miny", "bboxymin", "bboxy1", "roiy1", "bboxtop", "ytop",
           "starty"),
    "x2": ("xmax", "x2", "right", "xbr", "maxx", "bboxxmax", "bboxx2", "roix2", "bboxright", "xright",
           "endx"),
    "y2": ("ymax", "y2", "bottom", "ybr", "maxy", "bboxymax", "bboxy2", "roiy2", "bboxbottom", "ybottom",
           "endy"),
    "x": ("x", "bboxx", "boxx", "bbx"),
    "y": ("y", "bboxy", "boxy", "bby"),
    "cx": ("xcenter", "centerx", "cx", "xc", "xcentre", "centrex"),
    "cy": ("ycenter", "centery", "cy", "yc", "ycentre", "centrey"),
    "w": ("w", "bboxwidth", "boxwidth", "bboxw", "boxw", "width"),
    "h": ("h", "bboxheight", "boxheight", "bboxh", "boxh", "height"),
    "box": ("bbox", "box", "boundingbox", "coordinates", "coords"),
    "width": ("imagewidth", "imgwidth", "imgw", "width"),
    "height": ("imageheight", "imgheight", "imgh", "height"),
    "difficult": ("difficult", "isgroupof", "iscrowd"),
    "split": ("split", "subset", "set", "usage"),
}
# The columns that hold a box, the first that are all there, and how they are read.
BOXES = ((("x1", "y1", "x2", "y2"), "xyxy"), (("x", "y", "w", "h"), "xywh"), (("x1", "y1", "w", "h"), "xywh"),
         (("cx", "cy", "w", "h"), "cxcywh"))
# Tables without names: the columns, and how the numbers are read if they make sense so.
LAYOUTS = ((("image", "x1", "y1", "x2", "y2", "class"), "xyxy"),                # keras-retinanet, GTSDB
           (("image", "class", "x1", "y1", "x2", "y2"), "xyxy"),
           (("image", "width", "height", "class", "x1", "y1", "x2", "y2"), "xyxy"),     # TensorFlow's
           (("class", "x1", "y1", "x2", "y2", "image", "width", "height"), "xywh"),     # makesense.ai
           (("split", "image", "class", "x1", "y1", "", "", "x2", "y2", "", ""), "xyxy"),       # AutoML
           (("image", "x1", "y1", "x2", "y2"), "xyxy"))


class Table(NamedTuple):
    """What the columns of a file hold."""
    delimiter: str
    columns: dict               # what a column holds -> its number
    box: tuple                  # the columns of a box: four, or one that holds four numbers
    layout: str                 # a key of rows.READINGS
    named: bool                 # the first line holds the names


def read_csv(path, findings):
    """-> class names, dict list name -> samples; see foreign.py. path: a table, or a folder of them."""
    folder = path if path.is_dir() else path.parent
    files = with_siblings(path, table_of) if path.is_file() else tables_below(folder)
    home, images = images_near(folder)
    known = index_images(home, images)
    keys = read_keys(folder, files)

    lists, found, missing = {}, {}, set()
    for file in files:
        table = table_of(file)
        entries, splits, sizes = rows_of_table(file, table, known, keys, found, findings, missing)
        samples = samples_of_rows(file, entries, table.layout, findings, table.named and len(table.box) == 4)
        found |= dict.fromkeys(samples, file)

        # The list of an image: what its row says, else the name of the table or its folder, else its own.
        default = split_by_folders(file, home, with_name=True)
        for image, sample in samples.items():
            split = splits.get(image, default)
            some = lists.setdefault(split_by_folders(image, home) if split == "all" else split, [])
            if sample:
                told = sizes.get(image, (0, 0))
                findings += told_size(told, sample.size, file, f"the size of {image.name}")
                some.append(sample)

    lonely_images(images, found, findings, missing)
    names = {thing["name"] for some in lists.values() for sample in some for thing in sample.truth}
    order = [name for name in dict.fromkeys(keys.values()) if name in names]
    return [*order, *sorted(names - set(order), key=by_number)], lists


def tables_below(folder):
    """The tables of boxes in a folder and the folders in it."""
    return [file for file in files_below(folder, TABLES) if table_of(file)]


def by_number(name):
    """Numbers by their value, then words by the alphabet."""
    return (0, int(name), "") if re.fullmatch("[0-9]{1,8}", name) else (1, 0, name)


def table_of(file):
    """The Table of a file by its first lines, None when it holds no boxes."""
    # Only the beginning is read, up to its last whole line, and never a pipe.
    if not file.is_file():
        return None
    try:
        with open(file, "rb") as stream:
            start = stream.read(START)
    except OSError:
        return None
    text = decode_text(start if len(start) < START else start[:start.rfind(b"\n") + 1], ["utf-8", "gb18030"])
    lines = [line for line in (text or "").split("\n") if line.strip()][:50]

    # The delimiter is the one with which the columns make sense.
    for delimiter in DELIMITERS:
        try:
            rows = list(csv.reader((line.rstrip("\r") for line in lines), delimiter=delimiter))
        except csv.Error:
            continue
        if rows and len(rows[0]) > 2 and (table := named_table(rows[0], delimiter)
                                          or bare_table(rows, delimiter)):
            return table
    return None


def named_table(header, delimiter):
    """The Table whose columns have these names, None when a box or the image is not among them."""
    plain = [re.sub("[^a-z0-9]", "", name.lower()) for name in header]
    columns = {}
    for meaning, names in COLUMNS.items():
        here = [plain.index(name) for name in names if name in plain]
        columns |= {meaning: here[0]} if here else {}
    if "image" not in columns:
        return None

    # width and height belong to the image, unless x and y have no other size.
    for box, layout in BOXES:
        if columns.keys() >= set(box):
            sizes = [columns[name] for name in box]
            columns = {meaning: place for meaning, place in columns.items()
                       if meaning in box or place not in sizes}
            return Table(delimiter, columns, box, layout, True)
    return Table(delimiter, columns, ("box",), "xywh", True) if "box" in columns else None


def bare_table(rows, delimiter):
    """The Table of rows without names: that of LAYOUTS which four fifths of them fit, else None."""
    for names, layout in LAYOUTS:
        if 5 * sum(fits_layout(row, names) for row in rows) >= 4 * len(rows):
            columns = {name: place for place, name in enumerate(names) if name}
            return Table(delimiter, columns, CORNERS, layout, False)
    return None


def fits_layout(row, names):
    """Whether a row can have these columns: an image, numbers or nothing, a class that is no image."""
    if len(row) != len(names):
        return False

    # Cells may be empty: an image without objects.
    for name, cell in zip(names, row):
        cell = cell.strip()
        picture = cell.lower().endswith(PICTURE)
        if name == "image" and not picture or name in ("class", "split") and picture:
            return False
        if name == "split" and split_named(cell) is None:
            return False
        if name in (*CORNERS, "width", "height") and cell and not NUMBER.fullmatch(cell):
            return False
    return True


def split_named(cell):
    """TRAIN -> train, UNASSIGNED -> all; None for other words."""
    return {**SPLIT_NAMES, "unassigned": "all", "": "all"}.get(cell.strip().lower())


def rows_of_table(file, table, known, keys, found, findings, missing):
    """The rows of a table -> dict image -> (file, list of BoxRow), dict image -> list name, dict image ->
    (w, h).

    found: dict image -> table, of the tables before.  missing: gets the stems of images in a finding.
    Findings: rows without an image.
    """
    entries, splits, sizes, names, refused = {}, {}, {}, {}, set()
    for line, cells in cells_of(file, table, findings):
        name = cells["image"]
        try:
            image = find_named(name, file, known)
            first = names.setdefault(image, name)
            if image in found or first != name:
                other = shown(found[image]) if image in found else printable(first)
                raise UserError(f"{printable(name)}: this image is in {other} too", kind="label_twice")
        except UserError as error:
            if name not in refused:                         # once, not for each of its rows
                findings.append(Finding(error.kind, file, line, str(error)))
            refused.add(name)
            missing.add(Path(name.replace("\\", "/")).stem)
            continue

        # An image without objects has one row, with empty cells for the box.
        rows = entries.setdefault(image, (file, []))[1]
        if any(cells[column].strip() for column in table.box):
            rows.append(table_row(line, cells, table, keys))

        size = [cells.get(side, "").strip() for side in ("width", "height")]
        if all(re.fullmatch("[0-9]{1,8}", side) for side in size):
            sizes[image] = tuple(map(int, size))
        if (split := cells.get("split", "").strip()) and split_named(split):
            splits[image] = split_named(split)
    return entries, splits, sizes


def cells_of(file, table, findings):
    """The rows of a table: (line, dict what a column holds -> its cell).

    Findings: rows with too few cells.
    """
    lines = read_raw_lines(file, MAX_BYTES)
    reader = csv.reader(lines, delimiter=table.delimiter)
    needed = max(table.columns[name] for name in ("image", *table.box)) + 1
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            findings.append(Finding("label_line", file, reader.line_num, str(error)))
            continue

        # The line of names, and blank ones.
        if row is None:
            return
        if not any(cell.strip() for cell in row) or table.named and reader.line_num == 1:
            continue
        if len(row) < needed or not row[table.columns["image"]].strip():
            short = f"{len(row)} cells, expected at least {needed}"
            detail = short if len(row) < needed else "it names no image"
            findings.append(Finding("label_line", file, reader.line_num, detail))
            continue
        cells = {name: row[place] for name, place in table.columns.items() if place < len(row)}
        yield reader.line_num, cells


def table_row(line, cells, table, keys):
    """The cells of a row -> BoxRow; one with the error when it cannot be read."""
    try:
        words = [cells[name] for name in table.box]
        if len(words) == 1:                                 # "[10, 8, 40, 30]" in one cell
            words = re.split(r"[\s,;]+", words[0].strip(" []()\t"))
            if len(words) != 4:
                raise UserError(f"{cells[table.box[0]][:40]!r}, expected four numbers")

        # Without a comma between the cells one in a number is a decimal point.
        if table.delimiter != ",":
            words = [word.replace(",", ".") for word in words]

        name = ONLY
        if "class" in table.columns:
            name = class_name(cells.get("class", "").strip())
        difficult = cells.get("difficult", "").strip().lower() in ("1", "1.0", "true", "yes")
        numbers = numbers_of(words, table.box if len(table.box) == 4 else CORNERS)
        return BoxRow(line, keys.get(name, name), numbers, difficult)
    except UserError as error:
        return BoxRow(line, error=error)


def read_keys(folder, tables):
    """Files with the names of the classes -> dict what a table writes -> class name, in their order.

    keras-retinanet's  red,0  and Open Images'  /m/0k4j,Car  and a classes.txt with a name in each line.
    """
    keys = {}
    for file in files_below(folder, (".csv", ".txt", ".names")):
        if file in tables or not re.search("class|label|names", file.stem, re.IGNORECASE):
            continue
        rows = [row for row in csv.reader(read_raw_lines(file, START)) if any(cell.strip() for cell in row)]
        if not rows or len({len(row) for row in rows}) > 1 or len(rows[0]) > 2:
            continue
        keys |= keys_of([[" ".join(cell.split()) for cell in row] for row in rows])
    return keys


def keys_of(rows):
    """The rows of a file of class names -> dict what a table writes -> class name."""
    if len(rows[0]) == 1:
        rows = [[name, str(number)] for number, (name,) in enumerate(rows)]

    # A number and a name, in either order; a line of names on top has no number.
    numbered = [(int(cell), other) for row in rows for cell, other in (row, row[::-1])
                if re.fullmatch("[0-9]{1,8}", cell)]
    if len(numbered) >= len(rows) - 1:
        names = dict(sorted(numbered))
        return {str(number): name for number, name in names.items()} | {name: name for name in names.values()}
    return dict(rows)
