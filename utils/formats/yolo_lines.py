"""What the numbers in the lines of YOLO labels mean, decided once for a whole dataset.

A line alone does not tell: nine numbers are an outline of four points, or a box with two key points. A
reading is believed when it fits all the lines; where two do, or none, a finding names both.
"""
from collections import defaultdict
from typing import NamedTuple

import numpy as np

from utils.errors import UserError
from utils.findings import Finding
from utils.lists import NUMBER
from utils.settings import counted
from utils.system.files import read_raw_lines

MAX_LABEL_BYTES = 20_000_000
LOOKED_AT = 2000                # label files, evenly spread over the dataset
NEARLY_ALL = 0.99               # a dataset of thousands of lines may have a broken one
USUAL = 0.9                     # so many long lines have the same length, so many boxes are in their image
MOSTLY = 0.8                    # of the key points are inside their box, where the lines are no outlines
BEYOND = 0.02                   # a box that reaches this far beyond its image is no matter of rounding
MANY_BEYOND = (3, 1 / 3)        # so many boxes, and such a share of all, do so: they are no centre and size


class Meaning(NamedTuple):
    """What lines of other lengths than `class x y w h` are; without all these they are outlines."""
    pose: int = 0               # words of a line that is a box and key points, 0: no line is
    tracks: bool = False        # a sixth number counts tracks
    scores: bool = False        # lines of seven words end with a score and a track


def split_words(line):
    """The words of a line. Commas and semicolons may stand between them, or after the last one."""
    words = [word.rstrip(",;") for word in line.split()]
    if len(words) == 1:
        words = words[0].replace(";", ",").split(",")
    return [word for word in words if word]


def settle_meaning(labels, key_points, findings):
    """-> Meaning of the lines of a dataset. labels: paths of the txt files.

    key_points: (points, numbers for each) when the data.yaml says it, else None.
    """
    lines = some_lines(labels)
    findings += box_layout(lines)

    # Whole numbers count something; a score has decimals.
    tracks = 6 in lines and np.mean([words[5].is_integer() for *_, words in lines[6]]) >= NEARLY_ALL
    if tracks:
        detail = f"{counted(len(lines[6]), 'line')} with a sixth number, taken for the number of a track"
        findings.append(unused(lines[6], detail))

    # A score and then a track number, where an outline of three points would end with shares.
    last = np.array([words[6] for *_, words in lines.get(7, ())])
    if len(last) and (last == last.round()).mean() >= NEARLY_ALL and last.max() > 1:
        return Meaning(0, bool(tracks), True)
    return Meaning(settle_pose(lines, key_points, findings), bool(tracks))


def some_lines(labels):
    """dict number of words -> list of (file, line, list of float), of the lines that hold numbers only."""
    lines = defaultdict(list)
    for file in labels[::max(1, len(labels) // LOOKED_AT)]:
        try:
            content = read_raw_lines(file, MAX_LABEL_BYTES)
        except UserError:
            continue                                        # it is reported when it is read
        for number, line in enumerate(content, 1):
            words = split_words(line)
            if all(NUMBER.fullmatch(word) for word in words):
                lines[len(words)].append((file, number, [float(word) for word in words]))
    return dict(lines)


def unused(lines, detail):
    """A finding about numbers that are not used. lines: as in some_lines."""
    file, number, _ = lines[0]
    return Finding("numbers_unused", file, number, f"{detail}; the boxes are used without")


def box_layout(lines):
    """Findings: boxes that are not written as centre and size, as far as all of them together show it."""
    places = lines.get(5, []) + lines.get(6, [])
    every = np.array([words[1:5] for *_, words in places]).reshape(-1, 4)
    are_shares = ((every >= 0) & (every <= 1)).all(1)
    shares = every[are_shares]
    if not len(shares) or are_shares.mean() < USUAL:
        return []                                           # pixels: another finding

    # Boxes of people who label lie inside their image, give or take a pixel.
    first, second = shares[:, :2], shares[:, 2:]
    beyond = ((first - second / 2 < -BEYOND) | (first + second / 2 > 1 + BEYOND)).any(1)
    if beyond.sum() < MANY_BEYOND[0] or beyond.mean() < MANY_BEYOND[1]:
        return []

    readings = []
    if (second > first).all(1).mean() >= NEARLY_ALL:
        readings.append("two corners, x1 y1 x2 y2")
    if (first + second <= 1 + BEYOND).all(1).mean() >= NEARLY_ALL:
        readings.append("the upper left corner and the size")
    if not readings:
        return []
    file, number, _ = places[int(np.flatnonzero(are_shares)[np.argmax(beyond)])]
    detail = f"as centre and size {beyond.sum()} of {counted(len(shares), 'box')} reach beyond their " \
             f"image; as {' or as '.join(readings)} all fit"
    return [Finding("box_layout", file, number, detail)]


def settle_pose(lines, key_points, findings):
    """The number of words of a line with key points, 0 when there are none."""
    told = 5 + key_points[0] * key_points[1] if key_points else 0
    if told > 5 and lines.get(told):
        findings.append(unused(lines[told], f"{counted(len(lines[told]), 'line')} with key points"))
        return told

    # Outlines have any number of points, key points always the same.
    long = {count: some for count, some in lines.items() if count > 6}
    count = max(long, key=lambda count: len(long[count]), default=0)
    if not count or len(long[count]) < USUAL * sum(map(len, long.values())):
        return 0

    rows = np.array([words for *_, words in long[count]])
    reading = pose_or_outline(rows)
    if reading == "pose" or key_points and reading == "either":
        detail = f"{counted(len(rows), 'line')} of {count} numbers, taken for a box and key points, not " \
                 "for outlines"
        findings.append(unused(long[count], detail))
        return count
    if reading == "either":
        file, number, _ = long[count][0]
        detail = f"{count} numbers, taken for an outline of {count // 2} points; they could be " \
                 f"a box (x y w h) and {(count - 5) // 2} key points"
        findings.append(Finding("label_ambiguous", file, number, detail))
    return 0


def pose_or_outline(rows):
    """"pose", "outline" or "either". rows: (lines, words), the class number first."""
    centre, size, rest = rows[:, None, 1:3], rows[:, None, 3:5], rows[:, 5:]
    fit_image = (size > 0) & (np.abs(centre - 0.5) + size / 2 <= 0.5 + BEYOND)
    is_box = fit_image.all((1, 2)).mean() >= USUAL

    # Three numbers for each key point: the third is 0 (not labelled), 1 (hidden) or 2 (visible).
    third = rest[:, 2::3]
    if rest.shape[1] % 3 == 0 and np.isin(third, (0, 1, 2)).mean() >= NEARLY_ALL and (third > 0).any():
        points = rest.reshape(len(rows), -1, 3)
        fits = in_boxes(points[..., :2], centre, size)[points[..., 2] > 0]
        if is_box and fits.mean() >= NEARLY_ALL or rows.shape[1] % 2 == 0 or (third == 2).any():
            return "pose"
    if rows.shape[1] % 2 == 0:
        return "outline"                                    # neither: each line is reported when it is read

    # Two numbers for each; 0 0 is a point that is not labelled.
    points = rest.reshape(len(rows), -1, 2)
    if not points.any():
        return "pose"
    fits = in_boxes(points, centre, size)[points.any(-1)]
    drawn = looks_drawn(rows[:, 1:].reshape(len(rows), -1, 2))
    if drawn:
        return "either" if is_box and fits.mean() >= NEARLY_ALL else "outline"
    return "pose" if is_box and fits.mean() > MOSTLY else "either"


def in_boxes(points, centre, size):
    """Whether points (lines, P, 2) are inside boxes (lines, 1, 2): (lines, P)."""
    return (np.abs(points - centre) <= size / 2 + BEYOND).all(-1)


def looks_drawn(outlines):
    """Whether most of the outlines (lines, P, 2) could have been drawn around something.

    Then the second point, which of key points would be the size of the box, is near the others, and the sides
    do not cross.
    """
    others = np.delete(outlines, 1, axis=1)
    low, high = others.min(1), others.max(1)
    reach = (high - low).max(1, keepdims=True)
    near = ((outlines[:, 1] >= low - reach) & (outlines[:, 1] <= high + reach)).all(1)
    crossing = [sides_cross(outline) for outline in outlines[:100]]
    return bool(near.mean() > 0.5 and np.mean(crossing) < 0.5)


def sides_cross(outline):
    """Whether two sides of a closed outline (P, 2) cross."""
    start, end = outline, np.roll(outline, -1, axis=0)
    along = end - start

    # On which side of every line a point is: the two ends of a side that crosses it are on different ones.
    def side(points):
        offset = points[None] - start[:, None]                              # (P, P, 2)
        return along[:, None, 0] * offset[..., 1] - along[:, None, 1] * offset[..., 0]

    crosses = side(start) * side(end) < 0
    return bool((crosses & crosses.T).any())
