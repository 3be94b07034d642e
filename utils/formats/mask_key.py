"""What the colours or numbers in the masks of other programs mean: a text file with one line for each.

    128,64,128 road          colour (red, green, blue), then the class; also  name,r,g,b  (CamVid),
                             name:r,g,b::  (CVAT),  #804080 name
    7 road                   number, then the class; also  road 7
    0 ignored                is ignored: counts neither in training nor in evaluation
    * ignored                so is every colour or number that has no line

Several lines may give the same class. The classes are numbered in the order of the lines.
"""
import re

import numpy as np

from utils.errors import UserError
from utils.formats.foreign import class_name
from utils.images import IGNORED, open_colours, open_mask
from utils.settings import shown
from utils.system.files import printable, read_raw_lines

KEY_FILES = ("palette.txt", "labelmap.txt", "class_dict.csv", "mask_values.txt", "label_colors.txt",
             "mapping.txt")
NOWHERE = ("ignored", "ignore", "__ignore__")
MAX_BYTES = 1_000_000
MOST = 254                      # classes in a mask of 8 bits: 255 is ignored, 254 means nothing

# The forms of a line. A name behind a number may not begin with a digit: "128,64 road" is not 128 "64 road".
GAP = r"[\s,;:]+"
HEX = rf"#([0-9a-fA-F]{{6}}){GAP}"
COLOUR = rf"(?P<red>\d{{1,3}}){GAP}(?P<green>\d{{1,3}}){GAP}(?P<blue>\d{{1,3}})"
VALUE = r"(?P<value>\d{1,5})"
NAME_BEHIND = r"(?P<name>[^\s\d,;:].*)"
NAME_BEFORE = r"(?P<name>.*?\S)"
LINES = (rf"{COLOUR}{GAP}{NAME_BEHIND}",
         rf"{NAME_BEFORE}{GAP}{COLOUR}(?:\s*[:;,].*)?",
         rf"{VALUE}{GAP}{NAME_BEHIND}",
         rf"{NAME_BEFORE}{GAP}{VALUE}")

# The 19 classes of its benchmark, labels.py of cityscapesScripts.
CITYSCAPES = {7: "road", 8: "sidewalk", 11: "building", 12: "wall", 13: "fence", 17: "pole",
              19: "traffic light", 20: "traffic sign", 21: "vegetation", 22: "terrain", 23: "sky",
              24: "person", 25: "rider", 26: "car", 27: "truck", 28: "bus", 31: "train", 32: "motorcycle",
              33: "bicycle"}


def read_key(path):
    """-> class names, dict colour as one number (see as_number) or value -> label, "*" -> IGNORED; whether it
    is of colours."""
    names, key, kinds, lines = [], {}, set(), {}
    for line_number, what, name in key_lines(path):
        where = f"{shown(path)}, line {line_number}"
        if what in lines:
            raise UserError(f"{where}: its colour or number is already in line {lines[what]}. Delete "
                            "one of them.")
        lines[what] = line_number
        if what != "*":
            kinds.add(isinstance(what, tuple))

        # A class gets the next label when it is named for the first time.
        if name in NOWHERE:
            key[as_number(what)] = IGNORED
        elif what == "*":
            raise UserError(f"{where}: * means all the others, and they can only be ignored. Write  "
                            "* ignored")
        else:
            name = class_name(name, f"{where}: ")
            if name not in names:
                names.append(name)
            key[as_number(what)] = names.index(name)

    if not names:
        raise UserError(f"{shown(path)} names no class. Expected lines like  128,64,128 road  (a colour) or  "
                        "7 road  (a number in the masks).")
    if len(kinds) > 1:
        raise UserError(f"{shown(path)} has colours in some lines and numbers in others: use one kind.")
    if len(names) > MOST:
        raise UserError(f"{shown(path)} has {len(names)} classes, a mask holds at most {MOST}.")
    return names, key, kinds.pop()


def key_lines(path):
    """(line number, colour, value or "*", name) of every line that says something."""
    first = True
    for line_number, line in enumerate(read_raw_lines(path, MAX_BYTES), 1):
        line = line.strip()
        if not line or line.startswith("#") and not re.match(HEX, line):
            continue

        # The first line of a table has words only: name,r,g,b
        heading = first and not re.search("[0-9*]", line)
        first = False
        if not heading:
            yield line_number, *read_line(line, f"{shown(path)}, line {line_number}")


def read_line(line, where):
    """-> (r, g, b), a number, or "*"; and the name."""
    if match := re.fullmatch(rf"{HEX}(.*)", line):
        return tuple(bytes.fromhex(match[1])), match[2]
    if match := re.fullmatch(rf"\*{GAP}(.*\S)", line):
        return "*", match[1]

    # The first form that fits counts, and the form says what the numbers are.
    match = next(filter(None, (re.fullmatch(form, line) for form in LINES)), None)
    if not match:
        raise UserError(f"{where}: {printable(line[:60])!r} is not understood, expected  "
                        "128,64,128 road  or  7 road")
    found = match.groupdict()
    name = found.pop("name").strip("\"'")
    numbers = tuple(int(text) for text in found.values())
    if max(numbers) > (255 if len(numbers) == 3 else 65535):
        raise UserError(f"{where}: {max(numbers)} is too large, a colour has three numbers from 0 to 255, a "
                        "value of a mask is at most 65535.")
    return (numbers if len(numbers) == 3 else numbers[0]), name


def as_number(what):
    """A colour as one number, red * 65536 + green * 256 + blue; a value and "*" as they are."""
    return what[0] << 16 | what[1] << 8 | what[2] if isinstance(what, tuple) else what


def translate(path, key, of_colours, key_path):
    """A mask file -> (H, W) uint8 labels by the key. Errors: a colour or number without a line."""
    if of_colours:
        values = open_colours(path).astype(np.int64) @ (65536, 256, 1)
    else:
        values = open_mask(path, top=65535).astype(np.int64)

    # The key as a sorted table: each pixel finds its place there, or a neighbour that differs.
    known = np.array(sorted(number for number in key if number != "*"), np.int64)
    labels = np.array([key[number] for number in known.tolist()], np.uint8)
    places = np.searchsorted(known, values).clip(0, len(known) - 1)
    result, strange = labels[places], known[places] != values

    # The three most frequent ones are named: mostly they are what was forgotten.
    if strange.any() and "*" not in key:
        found, counts = np.unique(values[strange], return_counts=True)
        by_count = sorted(zip(found.tolist(), counts.tolist()), key=lambda pair: -pair[1])
        most = []
        for value, count in by_count[:3]:
            word = f"{value >> 16},{value >> 8 & 255},{value & 255}" if of_colours else f"{value}"
            most.append(f"{word} ({count} pixels)")
        raise UserError(f"{shown(path)} holds {len(found)} {'colours' if of_colours else 'numbers'} that "
                        f"{shown(key_path)} has no line for: {', '.join(most)}. Add them there, or "
                        "the line  * ignored", kind="palette_lacks")
    result[strange] = IGNORED
    return result
