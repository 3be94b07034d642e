"""How many objects are in a region of the picture, and how many cross a line: the variables regions and
lines.

A region is a polygon, a line has two ends. Both are lists of points (x, y), in px or, when none is above 1,
in shares of the picture's width and height. Of an object the middle of its box counts.
"""
from collections import Counter, defaultdict

import cv2
import numpy as np
from PIL import Image, ImageDraw

from utils.errors import UserError
from utils.results.draw import line_and_font_size, open_font, text_font
from utils.settings import brief

SHADE, INK = (255, 255, 255), (20, 20, 20)
WAYS = ("to the right", "to the left")          # for one who walks from a line's first end to the other


def read_shapes(value, what, corners):
    """The variable regions or lines -> dict name -> (n, 2) float points.

    value: a list of points, or a dict name -> list of points.  what: the variable's name.
    corners: how many points there must be, (least, most).
    """
    shapes = value if isinstance(value, dict) else {what.removesuffix("s"): value} if value else {}
    found = {}

    # What is no list of pairs of numbers cannot become such an array.
    for name, given in shapes.items():
        try:
            points = np.array(given, float)
            good = points.shape[1:] == (2,) and np.isfinite(points).all() and points.min() >= 0
        except (TypeError, ValueError):
            good = False
        if not good or not corners[0] <= len(points) <= corners[1]:
            example = "[[0.1,0.5],[0.9,0.5]]" if corners[1] == 2 else "[[0.1,0.5],[0.9,0.5],[0.5,0.9]]"
            raise UserError(f'{what}={brief(value)}: expected points (x, y) in px, or in shares of the '
                            f'picture from 0 to 1, like {what}="{example}".')
        found[str(name)] = points
    return found


def as_pixels(points, size):
    """Points of which none is above 1 are shares. size: (h, w) of the picture. -> (n, 2) px"""
    return points * size[::-1] if points.max() <= 1 else points


def middle(box):
    """xyxy px -> (x, y)"""
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def is_inside(point, polygon):
    """Whether a point is in a polygon (n, 2) or on its border."""
    corners = polygon.astype(np.float32).reshape(-1, 1, 2)
    return cv2.pointPolygonTest(corners, (float(point[0]), float(point[1])), False) >= 0


def is_right(point, ends):
    """Whether a point lies to the right of a line, as seen from its first end to the second."""
    (x1, y1), (x2, y2) = ends
    return (x2 - x1) * (point[1] - y1) - (y2 - y1) * (point[0] - x1) > 0


def crossing(before, now, ends):
    """Which of WAYS a point took over a line when it moved, or None."""
    changed = is_right(before, ends) != is_right(now, ends)

    # The ends of the line must be on both sides of the way as well: else it passed beside the line.
    if not changed or is_right(ends[0], (before, now)) == is_right(ends[1], (before, now)):
        return None
    return WAYS[0] if is_right(now, ends) else WAYS[1]


def listed(counts):
    """{"car": 2, "person": 1} -> "3 (car 2, person 1)"."""
    words = ", ".join(f"{label} {count}" for label, count in sorted(counts.items()))
    return f"{sum(counts.values())} ({words})" if words else "0"


class Counting:
    """The counts of one picture, or of a video so far.

    inside: dict region -> Counter of classes in the last picture.  most: dict region -> most objects at once.
    visitors: dict region -> dict class -> set of tracks that were in it.
    crossed: dict line -> dict way -> Counter of classes.
    """

    def __init__(self, regions, lines=None):
        self.regions, self.lines = regions, lines or {}
        self.inside = {name: Counter() for name in self.regions}
        self.most = dict.fromkeys(self.regions, 0)
        self.visitors = {name: defaultdict(set) for name in self.regions}
        self.crossed = {name: {way: Counter() for way in WAYS} for name in self.lines}
        self.places = {}                                    # track -> its place in the picture before

    def add(self, boxes, size):
        """boxes: list of dict label, xyxy and, in videos, track.  size: (h, w) of the picture."""
        for name, polygon in self.regions.items():
            corners = as_pixels(polygon, size)
            there = [box for box in boxes if is_inside(middle(box["xyxy"]), corners)]
            self.inside[name] = Counter(box["label"] for box in there)
            self.most[name] = max(self.most[name], len(there))
            for box in there:
                if box.get("track"):
                    self.visitors[name][box["label"]].add(box["track"])

        # A line is crossed by a track between two of its places.
        for box in (box for box in boxes if box.get("track")):
            now = middle(box["xyxy"])
            before = self.places.get(box["track"], now)
            self.places[box["track"]] = now
            for name, ends in self.lines.items():
                if way := crossing(before, now, as_pixels(ends, size)):
                    self.crossed[name][way][box["label"]] += 1

    def record(self):
        """What of this is kept of one picture: {"regions": {name: {class: count}}}, {} where there are
        none."""
        return {"regions": {name: dict(there) for name, there in self.inside.items()}} if self.regions else {}

    def summary(self, video=False):
        """-> list of sentences about all regions and lines."""
        rows = []
        for name, classes in self.inside.items():
            seen = {label: len(tracks) for label, tracks in self.visitors[name].items()}
            different = f", different ones {listed(seen)}" if seen else ""
            rows.append(f"{name}: at most {self.most[name]} at once{different}" if video
                        else f"{name}: {listed(classes)}")
        for name, ways in self.crossed.items():
            rows.append(f"{name}: " + ", ".join(f"{way} {listed(classes)}" for way, classes in ways.items()))
        return rows

    def draw(self, image):
        """The regions and lines with their counts, on a copy of an image (h, w, 3) uint8 RGB."""
        picture = Image.fromarray(image)
        pen = ImageDraw.Draw(picture)
        line, size = line_and_font_size(*picture.size)
        shapes = [(name, points, str(self.inside[name].total())) for name, points in self.regions.items()]
        for name, points in self.lines.items():
            right, left = (self.crossed[name][way].total() for way in WAYS)
            shapes.append((name, points, f"{right} right, {left} left"))

        # White on a dark rim is seen on every ground.
        for name, points, count in shapes:
            corners = [tuple(point) for point in as_pixels(points, image.shape[:2]).tolist()]
            outline = corners + corners[:1] * (len(corners) > 2)
            pen.line(outline, INK, line + 2, "curve")
            pen.line(outline, SHADE, line, "curve")
            text = f"{name} {count}"
            font = text_font(text, size) or open_font(None, size)
            x = min(corners[0][0], picture.width - pen.textlength(text, font) - 3 * line)
            y = min(corners[0][1], picture.height - 2 * size)
            pen.text((max(x, 0), max(y, 0)), text, SHADE, font, stroke_width=line + 1, stroke_fill=INK)
        return np.array(picture)
