"""An image through a detector more than once: in tiles, mirrored, at other sizes; and all boxes put together.

In tiles a large image keeps its pixels: an object of 12 px in an image of 4000 has 2 px left in an input of
640, in a tile of 640 it has all of them. Mirrored and resized copies are seen with other pixels at other
cells, so that what one view misses another may find.
"""
import numpy as np

from utils.prediction.overlap import iou
from utils.prediction.suppression import hard_rows, ranks_by_class
from utils.views import window_starts

RIM = 0.01                      # a box that ends so near to the edge of its tile (a share) may be cut off
SAME = 0.5                      # from this IoU on it is the part of a whole box that its tile shows


def tile_corners(size, tile, overlap):
    """Where tiles lie. size: (h, w) of the image, tile: (h, w), overlap: the least share that neighbours have
    in common. -> list of (x1, y1, x2, y2); one, the image itself, when it is no larger than a tile."""
    steps = [max(1, int(side * (1 - overlap))) for side in tile]
    rows = [(y, min(y + tile[0], size[0])) for y in window_starts(size[0], tile[0], steps[0])]
    columns = [(x, min(x + tile[1], size[1])) for x in window_starts(size[1], tile[1], steps[1])]
    return [(x1, y1, x2, y2) for y1, y2 in rows for x1, x2 in columns]


def views_of(image, tiles, overlap, scales, flip):
    """-> list of (corners, scale, mirrored): what is to be seen of an image (h, w, 3).

    tiles: (h, w) px or None; beside them the whole image is a view, for objects larger than a tile.
    """
    size = image.shape[:2]
    whole = (0, 0, size[1], size[0])
    corners = tile_corners(size, tiles, overlap) if tiles else [whole]
    if whole not in corners:
        corners.append(whole)
    return [(place, scale, mirrored) for scale in scales for place in corners
            for mirrored in ([False, True] if flip else [False])]


def detect_in_views(detect, image, views, nms_iou, max_boxes, most_per_class=None, agnostic=False, batch=1):
    """All views of an image (h, w, 3) uint8 through a detector. -> dict boxes, scores, labels as of
    utils.evaluate.

    detect: function (list of images, scale) -> list of such dicts.  views: of `views_of`.
    batch: views of one size that go through the network together.  The rest: variables of predict.py.
    One view alone is exactly what the detector says of it.
    """
    # Views of one size and scale make a batch.
    if len(views) == 1 and not views[0][2]:
        return detect([image], views[0][1])[0]
    kinds = {}
    for view in views:
        x1, y1, x2, y2 = view[0]
        kinds.setdefault((view[1], y2 - y1, x2 - x1), []).append(view)
    found = []
    for (scale, _, _), same in kinds.items():
        for first in range(0, len(same), batch):
            some = same[first:first + batch]
            answers = detect([seen_in(image, *view) for view in some], scale)
            found += [back(one, view, image.shape[:2]) for one, view in zip(answers, some)]

    # All together: first what is cut off goes, then what is there twice.
    boxes, scores, labels, is_cut, corners = (np.concatenate([one[name] for one in found]) for name in
                                              ("boxes", "scores", "labels", "cut", "tile"))
    keep = without_parts(boxes, labels, is_cut, corners)
    boxes, scores, labels = boxes[keep], scores[keep], labels[keep]
    keep = hard_rows(boxes, scores, labels * (not agnostic), nms_iou)
    if most_per_class:
        keep = keep[ranks_by_class(labels[keep]) < most_per_class]
    keep = keep[:max_boxes]
    return {"boxes": boxes[keep], "scores": scores[keep], "labels": labels[keep]}


def seen_in(image, corners, _, mirrored):
    """The part of an image that is a view. Its scale is the network's business."""
    x1, y1, x2, y2 = corners
    part = image[y1:y2, x1:x2]
    return np.ascontiguousarray(part[:, ::-1]) if mirrored else part


def back(found, view, size):
    """What was found in a view -> in px of the image of this size (h, w), with "tile": (P, 4) corners of its
    tile, and "cut": (P,) bool, whether a box ends at an edge of its tile that is none of the image."""
    (x1, y1, x2, y2), _, mirrored = view
    boxes = found["boxes"].copy()
    if mirrored:
        boxes[:, [0, 2]] = (x2 - x1) - boxes[:, [2, 0]]
    boxes += np.array([x1, y1, x1, y1], boxes.dtype)

    # Which edges of the tile are inside the image, and which boxes reach them.
    edges, rim = np.array([x1, y1, x2, y2]), np.array([x2 - x1, y2 - y1] * 2) * RIM
    inner = edges != (0, 0, size[1], size[0])
    is_cut = (inner & (np.abs(boxes - edges) <= rim)).any(1)
    return found | {"boxes": boxes, "cut": is_cut, "tile": np.tile(edges, (len(boxes), 1))}


def without_parts(boxes, labels, is_cut, tiles):
    """-> (P,) bool: all but the boxes that are cut off and of which there is a whole one: one of the same
    class that is nearly the same box where the tile ends. Its score does not matter."""
    keep = np.ones(len(boxes), bool)
    whole = np.flatnonzero(~is_cut)
    for row in np.flatnonzero(is_cut):
        others = boxes[whole[labels[whole] == labels[row]]]
        x1, y1, x2, y2 = tiles[row]
        seen = np.clip(others, (x1, y1, x1, y1), (x2, y2, x2, y2))
        keep[row] = not (iou(boxes[row][None], seen) > SAME).any()
    return keep
