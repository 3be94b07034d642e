"""What the colours or numbers in the masks of other programs mean: a text file with one line per colour or number.

    128,64,128 road          colour (red, green, blue), then the class; also  name,r,g,b  (CamVid), name:r,g,b:: (CVAT), #804080 name
    7 road                   number, then the class; also  road 7
    0 ignored                counts nowhere
    * ignored                so does every colour or number that has no line

Several lines may give the same class. The classes are numbered in the order of the lines.
"""
import re

import numpy as np

from utils.errors import UserError
from utils.formats.foreign import class_name
from utils.images import IGNORED, open_colours, open_mask
from utils.settings import shown
from utils.system.files import printable, read_raw_lines

KEY_FILES = ("palette.txt", "labelmap.txt", "class_dict.csv", "mask_values.txt", "label_colors.txt", "mapping.txt")
NOWHERE = ("ignored", "ignore", "__ignore__")
MAX_BYTES = 1_000_000
MOST = 254                                                  # classes of a mask of 8 bits: 255 is ignored, 254 means nothing
HEX = r"#([0-9a-fA-F]{6})[\s,;:]+"
GAP = r"[\s,;:]+"
COLOUR = rf"(\d{{1,3}}){GAP}(\d{{1,3}}){GAP}(\d{{1,3}})"
NAME = r"(?P<name>[^\s\d,;:].*)"                            # behind a number: "128,64 road" is no number 128 with the name "64 road"
LINES = (rf"{COLOUR}{GAP}{NAME}", rf"(?P<name>.*?\S){GAP}{COLOUR}(?:\s*[:;,].*)?", rf"(\d{{1,5}}){GAP}{NAME}",
         rf"(?P<name>.*?\S){GAP}(\d{{1,5}})")
CITYSCAPES = {7: "road", 8: "sidewalk", 11: "building", 12: "wall", 13: "fence", 17: "pole", 19: "traffic light", 20: "traffic sign",
              21: "vegetation", 22: "terrain", 23: "sky", 24: "person", 25: "rider", 26: "car", 27: "truck", 28: "bus", 31: "train",
              32: "motorcycle", 33: "bicycle"}              # the 19 classes of its benchmark, labels.py of cityscapesScripts


def read_key(path):
    """-> class names, dict colour number (red * 65536 + green * 256 + blue) or value -> label, and "*" -> IGNORED; whether it is of colours."""
    names, key, kinds, lines, first = [], {}, set(), {}, True
    for number, line in enumerate(read_raw_lines(path, MAX_BYTES), 1):
        where, line = f"{shown(path)}, line {number}", line.strip()
        if not line or line.startswith("#") and not re.match(HEX, line):
            continue
        heading, first = first and not re.search("[0-9*]", line), False
        if heading:                                         # of a table: name,r,g,b
            continue
        what, name = read_line(line, where)
        if what in lines:
            raise UserError(f"{where}: its colour or number stands in line {lines[what]} already. Delete one of them.")
        lines[what] = number
        if what != "*":
            kinds.add(isinstance(what, tuple))
        if name in NOWHERE:
            key[as_number(what)] = IGNORED
        elif what == "*":
            raise UserError(f"{where}: * stands for all the others and can only be ignored. Write  * ignored")
        else:
            name = class_name(name, f"{where}: ")
            names += [] if name in names else [name]
            key[as_number(what)] = names.index(name)
    if not names:
        raise UserError(f"{shown(path)} names no class. Expected lines like  128,64,128 road  (a colour) or  7 road  (a number in the masks).")
    if len(kinds) > 1 or len(names) > MOST:
        raise UserError(f"{shown(path)} has " + ("colours in some lines and numbers in others: give one kind." if len(kinds) > 1
                                                  else f"{len(names)} classes, a mask holds at most {MOST}."))
    return names, key, kinds.pop()


def read_line(line, where):
    """-> (r, g, b), a number, or "*"; and the name."""
    if match := re.fullmatch(rf"{HEX}(.*)", line):
        return tuple(bytes.fromhex(match[1])), match[2]
    if match := re.fullmatch(rf"\*{GAP}(.*\S)", line):
        return "*", match[1]
    for pattern in LINES:
        if match := re.fullmatch(pattern, line):
            numbers = [int(text) for text in match.groups() if text is not None and text != match["name"]]
            numbers = [int(match[n]) for n in range(1, 5) if n <= len(match.groups()) and n != match.re.groupindex["name"]] or numbers
            if max(numbers) > (255 if len(numbers) == 3 else 65535):
                raise UserError(f"{where}: {max(numbers)} is too large, a colour has three numbers from 0 to 255, a value of a mask up to 65535.")
            return tuple(numbers) if len(numbers) == 3 else numbers[0], match["name"].strip("\"'")
    raise UserError(f"{where}: {printable(line[:60])!r} is not understood, expected  128,64,128 road  or  7 road")


def as_number(what):
    """A colour as one number; a value and "*" as they are."""
    return what[0] << 16 | what[1] << 8 | what[2] if isinstance(what, tuple) else what


def translate(path, key, of_colours, key_path):
    """A mask file -> (H, W) uint8 labels by the key. Errors: a colour or number without a line; the three most frequent are named."""
    if of_colours:
        values = open_colours(path).astype(np.int64) @ (65536, 256, 1)
    else:
        values = open_mask(path, top=65535).astype(np.int64)
    known = np.array(sorted(number for number in key if number != "*"), np.int64)
    labels = np.array([key[number] for number in known.tolist()], np.uint8)
    places = np.searchsorted(known, values).clip(0, len(known) - 1)
    result, strange = labels[places], known[places] != values
    if strange.any() and "*" not in key:
        found, counts = np.unique(values[strange], return_counts=True)
        most = [(f"{v >> 16},{v >> 8 & 255},{v & 255}" if of_colours else f"{v}") + f" ({n} pixels)"
                for v, n in sorted(zip(found.tolist(), counts.tolist()), key=lambda pair: -pair[1])[:3]]
        raise UserError(f"{shown(path)} holds {len(found)} {'colours' if of_colours else 'numbers'} that {shown(key_path)} has no line for: "
                        f"{', '.join(most)}. Add them there, or the line  * ignored", kind="palette_lacks")
    result[strange] = IGNORED
    return result
