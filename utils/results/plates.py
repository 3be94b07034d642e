"""Where the names of boxes go: each plate to the place beside its box where it hides least.

numpy only. Boxes and plates are xyxy px.
"""
import numpy as np

OTHER_PLATE, OWN_OBJECT = 10.0, 0.3     # how bad it is to cover these, beside another object's 1
FARTHER = 0.05                          # and each place further down the list costs so much


def place_plates(sizes, boxes, limits):
    """-> (N, 2) int, the upper left corner of each plate.

    sizes: (N, 2) width and height of the plates.  boxes: (N, 4) of whole px; the first one chooses first.
    limits: (W, H) of the picture, which no plate leaves.
    """
    boxes = np.asarray(boxes, float).reshape(-1, 4)
    ways = ways_around(boxes, np.asarray(sizes, float).reshape(-1, 2), limits)      # (N, 8, 4)
    plate_areas = np.prod(sizes, 1)[:, None]                                        # (N, 1)

    # An object counts by the share of it that is covered, a large one by the plate's.
    objects = overlap(ways.reshape(-1, 4), boxes).reshape(*ways.shape[:2], -1)      # (N, 8, N)
    objects /= np.minimum(sides(boxes).prod(1), plate_areas)[:, None]               # (N, 8, N)
    own = np.arange(len(boxes))
    objects[own, :, own] *= OWN_OBJECT
    cost = objects.sum(2) + FARTHER * np.arange(ways.shape[1])                      # (N, 8)

    # One after the other: each plate keeps off those that are there already.
    plates = np.zeros_like(boxes)
    for i, area in enumerate(plate_areas[:, 0]):
        covered = overlap(ways[i], plates[:i]).sum(1) / area                        # (8,)
        plates[i] = ways[i, np.argmin(cost[i] + OTHER_PLATE * covered)]
    return plates[:, :2].round().astype(int)


def ways_around(boxes, sizes, limits):
    """The places that a plate may have: above and below the box, at its sides, in its corners inside.

    -> (N, 8, 4); what leaves the picture is moved back.
    """
    x1, y1, x2, y2 = boxes.T                                                        # (N,) each
    width, height = sizes.T                                                         # (N,), (N,)
    corners = np.stack([(x1, y1 - height), (x1, y2), (x2 - width, y1 - height), (x2 - width, y2),
                        (x2, y1), (x1 - width, y1), (x1, y1), (x1, y2 - height)])   # (8, 2, N)
    corners = corners.transpose(2, 0, 1)                                            # (N, 8, 2)
    corners = corners.clip(0, np.maximum(limits - sizes, 0)[:, None])               # (N, 8, 2)
    return np.concatenate([corners, corners + sizes[:, None]], 2)                   # (N, 8, 4)


def sides(boxes):
    return np.maximum(boxes[:, 2:] - boxes[:, :2], 1)


def overlap(some, others):
    """(A, 4), (B, 4) -> (A, B), the common px of each pair."""
    left, top, right, bottom = some.T[:, :, None]                                   # (A, 1) each
    x1, y1, x2, y2 = others.T                                                       # (B,) each
    width = np.minimum(right, x2) - np.maximum(left, x1)                            # (A, B)
    height = np.minimum(bottom, y2) - np.maximum(top, y1)                           # (A, B)
    return np.maximum(width, 0) * np.maximum(height, 0)                             # (A, B)
