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
    areas = sides(boxes).prod(1)                                                    # (N,)
    plates = np.zeros_like(boxes)
    for i, (width, height) in enumerate(sizes):
        x1, y1, x2, y2 = boxes[i]

        # Above and below, at the sides, in the corners inside: what leaves the picture is moved back.
        corners = np.array([(x1, y1 - height), (x1, y2), (x2 - width, y1 - height), (x2 - width, y2),
                            (x2, y1), (x1 - width, y1), (x1, y1), (x1, y2 - height)])
        most = np.maximum(np.subtract(limits, (width, height)), 0)
        corners = np.clip(corners, 0, most)
        ways = np.hstack([corners, corners + (width, height)])                      # (8, 4)

        # An object counts by the share of it that is covered, a large one by the plate's.
        small = np.minimum(areas, width * height)
        objects = overlap(ways, boxes) / small                                      # (8, N)
        objects[:, i] *= OWN_OBJECT
        covered = overlap(ways, plates[:i]).sum(1) / (width * height)
        cost = objects.sum(1) + OTHER_PLATE * covered + FARTHER * np.arange(len(ways))
        plates[i] = ways[np.argmin(cost)]
    return plates[:, :2].round().astype(int)


def sides(boxes):
    return np.maximum(boxes[:, 2:] - boxes[:, :2], 1)


def overlap(some, others):
    """(A, 4), (B, 4) -> (A, B), the common px of each pair."""
    low = np.maximum(some[:, None, :2], others[None, :, :2])                        # (A, B, 2)
    high = np.minimum(some[:, None, 2:], others[None, :, 2:])                       # (A, B, 2)
    return np.maximum(high - low, 0).prod(2)                                        # (A, B)
