"""A VOC annotation: an XML file -> objects, whatever its encoding, and everything that is odd about it."""
import re
import xml.etree.ElementTree as ElementTree

from utils.errors import UserError
from utils.formats.objects import DIFFICULT, keep_box, read_objects, told_size
from utils.formats.sniff import FORMATS, XML
from utils.lists import NUMBER
from utils.settings import shown
from utils.system.files import decode_text, printable, read_bytes

MAX_XML_BYTES = 5_000_000       # a page of annotations has a few kB; entity bombs need MB


def read_annotation(path, width=None, height=None):
    """The objects of a VOC annotation, list of dict(name, box, difficult), and findings about them.

    box: (x1, y1, x2, y2) pixel edges, floats. VOC counts pixels from 1 and xmax is the last pixel inside,
    hence (xmin - 1, ymin - 1, xmax, ymax). Clipped to the image when its width and height are given.
    Errors: see parse_tree.
    """
    root, text = parse_tree(path)
    size = (width, height) if width else None

    # Many programs write no size, or a 0: only a real one is compared with the image.
    findings = []
    told = [root.findtext(f"size/{tag}", "").strip() for tag in ("width", "height")]
    if size and all(NUMBER.fullmatch(side) for side in told):
        findings = told_size([float(side) for side in told], size, path, "<size>")

    nodes = object_nodes(root, text)
    objects, found = read_objects(path, nodes, lambda node, found: read_object(node, size, found))

    # A slip of the mouse among good boxes is no file that was written in shares of the image.
    if objects:
        found = [finding._replace(kind="box_empty") if finding.kind == "shares_for_pixels" else finding
                 for finding in found]
    return objects, findings + found


def object_nodes(root, text):
    """(line, words that say where, node) of every <object>."""
    # ElementTree keeps no lines: the tags are found in the text once more, in the same order.
    line, end = 1, 0
    places = re.finditer(r"<object[\s/>]", text)
    for position, node in enumerate(root.findall("object"), 1):
        place = next(places, None)
        if place:
            line += text.count("\n", end, place.start())
            end = place.start()

        label = " ".join(node.findtext("name", "").split())
        where = f"object {position} ({printable(label)}): " if label else f"object {position}: "
        yield line if place else None, where, node


def read_object(node, size, found):
    """An <object> -> dict(name, box, difficult), or None when no box is left.

    size: (w, h) px, None: not known.  found: gets (kind, detail).
    """
    if not any(text.strip() for text in node.itertext()):
        found.append(("shape_flat", "an empty <object>"))
        return None
    name = " ".join(node.findtext("name", "").split())
    if not name:
        raise UserError("<name> is missing or empty", kind="tag_missing")

    # Missing, empty and Unspecified mean not difficult; 1.0 is a 1.
    difficult = node.findtext("difficult", "").strip().lower()
    if NUMBER.fullmatch(difficult):
        difficult = f"{float(difficult):g}"
    if difficult not in DIFFICULT:
        raise UserError(f"<difficult> is {difficult[:40]!r}, expected 0 or 1", kind="bad_difficult")

    # Corners in the wrong order: if they make sense as x, y, width, height inside the image, they are that.
    x1, y1, x2, y2 = parse_corners(node)
    detail = f"from {x1:g}, {y1:g} to {x2:g}, {y2:g}"
    corners = (x1, y1, x2, y2)
    if min(corners) >= 0 and max(corners) <= 1 and not all(map(float.is_integer, corners)):
        found.append(("shares_for_pixels", detail))
        return None
    if x1 > x2 or y1 > y2:
        fits = size and x2 > 0 and y2 > 0 and x1 + x2 <= size[0] + 1 and y1 + y2 <= size[1] + 1
        found.append(("corner_is_size" if fits else "box_swapped", detail))
        x1, x2 = min(x1, x2), max(x1, x2)
        y1, y2 = min(y1, y2), max(y1, y2)

    # A line is no box, though VOC's way of counting would make it a pixel wide.
    whole = (x1 - 1, y1 - 1, x2, y2) if x1 < x2 and y1 < y2 else (x1, y1, x1, y1)
    box = keep_box(whole, size, found, detail)
    return box and {"name": name, "box": box, "difficult": DIFFICULT[difficult]}


def parse_tree(path):
    """The outermost element of a VOC XML, whatever its encoding, and its text.

    Errors: too large, entities, not XML, not VOC.
    """
    data = read_bytes(path, MAX_XML_BYTES)
    if not data.strip():
        raise UserError(f"{shown(path)} is empty. If the image contains no objects, write "
                        "<annotation></annotation> to it; if it is not labelled yet, delete the file.",
                        kind="xml_empty")
    guesses = xml_encodings(data)
    text = decode_text(data, guesses)
    if text is None:
        raise UserError(f"{shown(path)} is not text in {', '.join(dict.fromkeys(guesses))}: save "
                        "it as utf-8.",
                        kind="label_encoding")

    # A few entities that refer to one another unfold to gigabytes, others read files of this computer.
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise UserError(f"{shown(path)} holds a DOCTYPE or ENTITY: no annotation needs it and it can do "
                        "harm. Delete it.", kind="xml_harmful")

    # Given text the parser ignores the declared encoding; given bytes it would refuse gbk.
    try:
        root = ElementTree.fromstring(text.lstrip())
    except (ElementTree.ParseError, UnicodeError) as error:
        raise UserError(f"{shown(path)} is not complete XML: {error}.", kind="xml_broken") from None
    if root.tag != "annotation":
        looks = f" It looks like {FORMATS[XML[root.tag]].title}." if root.tag in XML else ""
        raise UserError(f"{shown(path)} is not a VOC annotation: its outermost tag is "
                        f"<{printable(root.tag)[:40]}>, expected <annotation>.{looks}", kind="xml_schema")
    return root, text


def xml_encodings(data):
    """The encodings to try for the bytes of an XML file, in this order."""
    if data[:2] in (b"<\x00", b"\x00<"):                    # utf-16 without a BOM
        return ["utf-16-le" if data[0] else "utf-16-be"]
    declaration = re.match(rb"\s*<\?xml[^>]*?encoding\s*=\s*[\"']([\w.:-]+)", data)
    declared = declaration.group(1).decode("ascii").lower() if declaration else "utf-8"

    # Some declare utf-16 and save utf-8; and Python takes half an hour for 5 MB of punycode.
    if declared.startswith(("utf-16", "utf-32", "utf16", "utf32", "ucs")) or "punycode" in declared:
        declared = "utf-8"
    return [declared, "utf-8", "gb18030"]


def parse_corners(node):
    """xmin, ymin, xmax, ymax of an <object>, as they are written."""
    box = node.find("bndbox")
    if box is None:
        others = [tag for tag in ("robndbox", "polygon", "segmentation") if node.find(tag) is not None]
        advice = "".join(f"; convert its <{tag}> to an upright box" for tag in others)
        raise UserError(f"<bndbox> is missing{advice}", kind="rotated_box" if others else "tag_missing")

    # NUMBER first: float() would also read "inf", "1_000" and other digits than 0 to 9.
    values = []
    for tag in ("xmin", "ymin", "xmax", "ymax"):
        text = box.findtext(tag)
        if text is None:
            there = ", ".join(f"<{printable(child.tag)[:20]}>" for child in box)
            only = f", only {there}" if there else ""
            raise UserError(f"<bndbox> has no <{tag}>{only}", kind="tag_missing")
        if not NUMBER.fullmatch(text.strip()) or abs(float(text)) >= 1e6:
            raise UserError(f"<{tag}> is {text.strip()[:40]!r}, expected a number of pixels",
                            kind="bad_number")
        values.append(float(text))
    return values
