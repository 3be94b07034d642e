"""A VOC annotation: an XML file -> objects, whatever its encoding, and all that is odd about it."""
import re
import xml.etree.ElementTree as ElementTree

from utils.errors import UserError
from utils.formats.objects import keep_box, read_objects, told_size
from utils.lists import NUMBER
from utils.settings import shown
from utils.system.files import decode_text, printable, read_bytes

MAX_XML_BYTES = 5_000_000                                   # a page of annotations has a few kB; entity bombs need MB
DIFFICULT = {"0": False, "false": False, "": False, "unspecified": False, "1": True, "true": True}


def read_annotation(path, width=None, height=None):
    """The objects of a VOC annotation, list of dict(name, box, difficult), and findings: all that is odd about it.

    box: (x1, y1, x2, y2) pixel edges, floats. VOC counts pixels from 1 and xmax is the last pixel inside, hence
    (xmin - 1, ymin - 1, xmax, ymax). Clipped to the image when its width and height are given. Errors: see parse_tree.
    """
    root, text = parse_tree(path)
    size = (width, height) if width else None
    told = [root.findtext(f"size/{tag}", "").strip() for tag in ("width", "height")]
    findings = told_size([float(side) for side in told], size, path, "<size>") if size and all(map(NUMBER.fullmatch, told)) else []
    objects, found = read_objects(path, object_nodes(root, text), lambda node, found: read_object(node, size, found))
    return objects, findings + found


def object_nodes(root, text):
    """(line, words that say where, node) of every <object>."""
    line, end, places = 1, 0, re.compile(r"<object[\s/>]").finditer(text)
    for number, node in enumerate(root.findall("object"), 1):
        place = next(places, None)
        if place:
            line, end = line + text.count("\n", end, place.start()), place.start()
        label = " ".join(node.findtext("name", "").split())
        yield line if place else None, f"object {number}" + (f" ({printable(label)})" if label else "") + ": ", node


def read_object(node, size, found):
    """An <object> -> dict(name, box, difficult), or None when no box is left. size: (w, h) or None. found: list that gets (kind, detail)."""
    name = " ".join(node.findtext("name", "").split())
    if not name:
        raise UserError("<name> is missing or empty", kind="tag_missing")
    difficult = node.findtext("difficult", "").strip().lower()
    if NUMBER.fullmatch(difficult):
        difficult = f"{float(difficult):g}"
    if difficult not in DIFFICULT:
        raise UserError(f"<difficult> is {difficult[:40]!r}, expected 0 or 1", kind="bad_difficult")
    x1, y1, x2, y2 = told = parse_corners(node)
    detail = "from {:g}, {:g} to {:g}, {:g}".format(*told)
    if x1 > x2 or y1 > y2:
        fits = size and x2 > 0 and y2 > 0 and x1 + x2 <= size[0] + 1 and y1 + y2 <= size[1] + 1
        found.append(("corner_is_size" if fits else "box_swapped", detail))
        x1, x2, y1, y2 = min(x1, x2), max(x1, x2), min(y1, y2), max(y1, y2)
    whole = (x1 - 1, y1 - 1, x2, y2) if x1 < x2 and y1 < y2 else (x1, y1, x1, y1)      # a line is no box, though VOC calls it a pixel wide
    box = keep_box(whole, size, found, detail)
    return box and {"name": name, "box": box, "difficult": DIFFICULT[difficult]}


def parse_tree(path):
    """The outermost element of a VOC XML, whatever its encoding, and its text. Errors: too large, entities, not XML, not VOC."""
    data = read_bytes(path, MAX_XML_BYTES)
    if not data.strip():
        raise UserError(f"{shown(path)} is empty. Without objects: write <annotation></annotation> into it. Unlabelled: delete it.",
                        kind="xml_empty")
    if data[:2] in (b"<\x00", b"\x00<"):                    # utf-16 without a BOM
        guesses = ["utf-16-le" if data[0] else "utf-16-be"]
    else:
        declared = re.match(rb"\s*<\?xml[^>]*?encoding\s*=\s*[\"']([\w.:-]+)", data)
        declared = declared.group(1).decode("ascii").lower() if declared else "utf-8"
        if declared.startswith(("utf-16", "utf-32", "utf16", "utf32", "ucs")) or "punycode" in declared:
            declared = "utf-8"                              # some declare utf-16 and save utf-8; Python takes half an hour for 5 MB of punycode
        guesses = [declared, "utf-8", "gb18030"]
    text = decode_text(data, guesses)
    if text is None:
        raise UserError(f"{shown(path)} is not text in {', '.join(dict.fromkeys(guesses))}: save it as utf-8.", kind="label_encoding")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise UserError(f"{shown(path)} holds a DOCTYPE or ENTITY: no annotation needs it and it can do harm. Delete it.", kind="xml_harmful")
    try:
        root = ElementTree.fromstring(text.lstrip())        # of text the parser ignores the declared encoding, of bytes it refuses gbk
    except (ElementTree.ParseError, UnicodeError) as error:
        raise UserError(f"{shown(path)} is not complete XML: {error}.", kind="xml_broken") from None
    if root.tag != "annotation":
        raise UserError(f"{shown(path)} is not a VOC annotation: its outermost tag is <{printable(root.tag)[:40]}>, expected <annotation>.",
                        kind="xml_schema")
    return root, text


def parse_corners(node):
    """xmin, ymin, xmax, ymax of an <object>, as they stand."""
    box = node.find("bndbox")
    if box is None:
        others = [tag for tag in ("robndbox", "polygon", "segmentation") if node.find(tag) is not None]
        raise UserError("<bndbox> is missing" + "".join(f"; convert its <{tag}> to an upright box" for tag in others),
                        kind="rotated_box" if others else "tag_missing")
    values = []
    for tag in ("xmin", "ymin", "xmax", "ymax"):
        text = box.findtext(tag)
        if text is None:
            there = ", ".join(f"<{printable(child.tag)[:20]}>" for child in box)
            raise UserError(f"<bndbox> has no <{tag}>" + (f", only {there}" if there else ""), kind="tag_missing")
        if not NUMBER.fullmatch(text.strip()) or abs(float(text)) >= 1e6:
            raise UserError(f"<{tag}> is {text.strip()[:40]!r}, expected a number of pixels", kind="bad_number")
        values.append(float(text))
    return values
