"""The objects of a label file, whatever its format: kept, clipped to their image or skipped, and everything
that is odd about them."""
from pathlib import Path

from utils.errors import UserError
from utils.findings import Finding
from utils.settings import counted
from utils.system.files import printable

# With such a fault nothing that is labelled in the image can be used.
SPOILING = ("tag_missing", "rotated_box", "bad_number", "bad_difficult", "label_broken", "share_beyond",
            "mask_size", "mask_turned")
# What <difficult>, iscrowd and the like hold; a missing one is not difficult.
DIFFICULT = {"0": False, "false": False, "": False, "unspecified": False, "1": True, "true": True}
# Labels that are no class: of a region where nothing is labelled, and of what is around the objects.
IGNORE, BACKGROUND = "__ignore__", ("background", "_background_")
LEFT = 0.2                      # a box with a smaller share inside its image is skipped


def read_objects(path, records, read_one, spoils=True):
    """The objects of one image, and findings about them.

    path: the label file.  records: (line or None, words that say where, record).
    read_one: (record, list that gets (kind, detail)) -> dict(name, box, ...), or None when no box is left.
    Its UserErrors become findings.
    spoils: whether an object that cannot be read costs its whole image, or only itself.
    """
    objects, findings, seen = [], [], set()
    for line, where, record in records:
        found = []
        try:
            thing = read_one(record, found)

            # A double click in the label program: both boxes are kept, and reported.
            if thing:
                key = (thing["name"], thing["box"])
                if key in seen:
                    found.append(("box_twice", "the same box of the same class"))
                seen.add(key)
                objects.append(thing)
        except UserError as error:
            kind = error.kind or "label_broken"
            found.append((kind if spoils or kind not in SPOILING else "label_line", str(error).rstrip(".")))

        findings += [Finding(kind, Path(path), line, where + detail) for kind, detail in found]
    return objects, findings


def keep_box(whole, size, found, detail=""):
    """A box clipped to its image; None, and a finding, when less than a pixel or than LEFT of it is inside.

    whole: (x1, y1, x2, y2) px edges.  size: (w, h) px of the image, None: not known.
    found: gets (kind, detail).
    """
    x1, y1, x2, y2 = whole
    detail = detail or f"from {x1:.6g}, {y1:.6g} to {x2:.6g}, {y2:.6g}"
    if size:
        detail += f" in an image of {size[0]} x {size[1]}"

    if min(x2 - x1, y2 - y1) < 1:
        found.append(("box_empty", detail))
        return None

    box = whole
    if size:
        box = tuple(min(max(edge, 0.0), float(limit)) for edge, limit in zip(whole, (*size, *size)))
    if min(box[2] - box[0], box[3] - box[1]) < 1 or area(box) < LEFT * area(whole):
        found.append(("box_outside", detail))
        return None

    # One pixel beyond is only another way to count pixels: from 1, or with the last one included.
    if max(abs(inside - edge) for inside, edge in zip(box, whole)) > 1:
        found.append(("box_clipped", detail))
    return box


def flat_shape(name, kind, corners=None):
    """(kind, detail) of a shape without an area; it may be without a class too. corners: how many it has."""
    named = f"{printable(name[:40])}, " if isinstance(name, str) and name else ""
    few = "" if corners is None else f" with {counted(corners, 'point')}"
    return "shape_flat", f"{named}a {kind}{few}"


def is_flagged(value, what):
    """Whether an object is marked as difficult, a crowd or the like: 0 or 1, in the words of many programs.

    Error: something else.
    """
    if value is None:
        return False
    word = f"{value:g}" if isinstance(value, float) else str(value).strip().lower()
    if word not in DIFFICULT:
        raise UserError(f"{what} is {str(value)[:40]}, expected 0 or 1", kind="bad_difficult")
    return DIFFICULT[word]


def area(box):
    """The area of a box (x1, y1, x2, y2) in px, 0 where it is turned inside out."""
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])


def is_size(told):
    """Whether what a JSON gives as (width, height) can be the size of an image."""
    return all(isinstance(side, int) and 0 < side < 1e9 for side in told)


def told_size(told, size, path, what):
    """A list of one finding when the size that a label gives is not that of the image, else an empty one.

    Sizes: (w, h); a 0 means "not known".  what: the words for what gives it.
    """
    if 0 in told or tuple(told) == tuple(size):
        return []
    kind = "size_turned" if tuple(told) == tuple(size)[::-1] else "size_wrong"
    detail = f"{what} is {told[0]:g} x {told[1]:g}, the image {size[0]} x {size[1]}"
    return [Finding(kind, Path(path), None, detail)]
