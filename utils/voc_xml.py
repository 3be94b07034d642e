"""A VOC annotation: an XML file -> objects, whatever its encoding, and all that is odd about it."""
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from utils.errors import UserError
from utils.findings import Finding, as_error
from utils.settings import shown
from utils.voc import NUMBER, decode, printable, read_bytes

MAX_XML_BYTES = 5_000_000                                   # a page of annotations has a few kB; entity bombs need MB
SPOILING = ("tag_missing", "rotated_box", "bad_number", "bad_difficult")   # an object with such a fault cannot be read, so its file is of no use
LEFT = 0.2                                                  # a box with a smaller share inside its image is left out
DIFFICULT = {"0": False, "false": False, "": False, "unspecified": False, "1": True, "true": True}


def parse_xml(path, width=None, height=None):
    """The objects of a VOC annotation, see `read_annotation`. Errors: what makes the file useless; file, line, object and tag are named."""
    objects, findings = read_annotation(path, width, height)
    spoiling = [finding for finding in findings if finding.kind in SPOILING]
    if spoiling:
        raise as_error(spoiling[0])
    return objects


def read_annotation(path, width=None, height=None):
    """The objects of a VOC annotation, list of dict(name, box, difficult), and findings: all that is odd about it.

    box: (x1, y1, x2, y2) pixel edges, floats. VOC counts pixels from 1 and xmax is the last pixel inside, hence
    (xmin - 1, ymin - 1, xmax, ymax). Clipped to the image when its width and height are given.
    Left out: boxes of less than 1 pixel, or with less than LEFT of them inside the image. Errors: see parse_tree.
    """
    root, text = parse_tree(path)
    findings = size_findings(root, path, width, height) if width else []
    objects, seen, line, end = [], set(), 1, 0
    places = re.compile(r"<object[\s/>]").finditer(text)
    for number, node in enumerate(root.findall("object"), 1):
        place, found = next(places, None), []
        if place:
            line, end = line + text.count("\n", end, place.start()), place.start()
        try:
            one = read_object(node, width, height, found)
            if one and (one["name"], one["box"]) in seen:
                found.append(("box_twice", "the same box of the same class"))
            if one:
                objects.append(one)
                seen.add((one["name"], one["box"]))
        except UserError as error:
            found.append((error.kind, str(error)))
        label = " ".join(node.findtext("name", "").split())
        where = f"object {number}" + (f" ({printable(label)})" if label else "")
        findings += [Finding(kind, Path(path), line if place else None, f"{where}: {detail}") for kind, detail in found]
    return objects, findings


def size_findings(root, path, width, height):
    """Whether the <size> in the xml is that of the image; 0 means that the program did not know it."""
    told = [root.findtext(f"size/{tag}", "").strip() for tag in ("width", "height")]
    if not all(NUMBER.fullmatch(text) for text in told):
        return []
    told = [float(text) for text in told]
    if 0 in told or told == [width, height]:
        return []
    kind = "size_turned" if told == [height, width] else "size_wrong"
    return [Finding(kind, Path(path), None, f"<size> is {told[0]:g} x {told[1]:g}, the image {width} x {height}")]


def read_object(node, width, height, found):
    """An <object> -> dict(name, box, difficult), or None when no box is left. found: list that gets (kind, detail)."""
    name = " ".join(node.findtext("name", "").split())
    if not name:
        raise UserError("<name> is missing or empty", kind="tag_missing")
    difficult = node.findtext("difficult", "").strip().lower()
    if NUMBER.fullmatch(difficult):
        difficult = f"{float(difficult):g}"
    if difficult not in DIFFICULT:
        raise UserError(f"<difficult> is {difficult[:40]!r}, expected 0 or 1", kind="bad_difficult")
    x1, y1, x2, y2 = told = parse_corners(node)
    if x1 > x2 or y1 > y2:
        fits = width and x2 > 0 and y2 > 0 and x1 + x2 <= width + 1 and y1 + y2 <= height + 1
        found.append(("corner_is_size" if fits else "box_swapped", "from {:g}, {:g} to {:g}, {:g}".format(*told)))
        x1, x2, y1, y2 = min(x1, x2), max(x1, x2), min(y1, y2), max(y1, y2)
    box = whole = (x1 - 1, y1 - 1, x2, y2)
    if width:
        box = tuple(min(max(edge, 0.0), float(limit)) for edge, limit in zip(whole, (width, height, width, height)))
    detail = "from {:g}, {:g} to {:g}, {:g}".format(*told) + (f" in an image of {width} x {height}" if width else "")
    if x1 == x2 or y1 == y2 or min(whole[2] - whole[0], whole[3] - whole[1]) < 1:
        found.append(("box_empty", detail))
        return None
    if min(box[2] - box[0], box[3] - box[1]) < 1 or area(box) < LEFT * area(whole):
        found.append(("box_outside", detail))
        return None
    if max(abs(inside - edge) for inside, edge in zip(box, whole)) > 1:     # one pixel more is only another way to count
        found.append(("box_clipped", detail))
    return {"name": name, "box": box, "difficult": DIFFICULT[difficult]}


def area(box):
    """Of a box (x1, y1, x2, y2) in px, 0 where it is turned inside out."""
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


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
        if declared.startswith(("utf-16", "utf-32", "utf16", "utf32", "ucs")):
            declared = "utf-8"                              # some programs declare utf-16 and save utf-8
        guesses = [declared, "utf-8", "gb18030"]
    text = decode(data, guesses)
    if text is None:
        raise UserError(f"{shown(path)} is not text in {', '.join(dict.fromkeys(guesses))}: save it as utf-8.", kind="xml_encoding")
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
