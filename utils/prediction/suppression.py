"""Non-maximum suppression in NumPy, for networks that run without PyTorch: utils.boxes.nms, the same answers.

Read utils/boxes.py first: the steps and their sources are explained there. tests/scripts/test_onnx.py
compares the two.
"""
import numpy as np

from utils.prediction.overlap import iou


def remove_duplicates(boxes, scores, score_threshold, iou_threshold, max_boxes, max_candidates=4096,
                      per_class=None, parts=None, kind="hard", agnostic=False, most_per_class=None):
    """One image. boxes: (N, 4) xyxy px, or (N, K, 4).  scores: (N, K).  The rest: see utils.boxes.nms.

    -> {"boxes" (P, 4) float32, "scores" (P,) falling, "labels" (P,) int64}
    """
    least = np.broadcast_to(np.asarray(score_threshold, np.float32), scores.shape[1:])       # (K,)
    rows, labels = entering(scores, least, max_candidates, per_class, parts or [len(scores)])
    values = scores[rows, labels]                                                   # (M,)
    chosen = boxes[rows, labels] if boxes.ndim == 3 else boxes[rows]                # (M, 4)

    # Boxes of one group suppress each other. The best ones come first, so the search may end early, unless
    # a limit for each class can still remove some.
    group = np.zeros_like(labels) if agnostic else labels                           # (M,)
    enough = None if most_per_class else max_boxes
    if kind == "soft":
        keep, values = soft_rows(chosen, values, group, least[labels])
    else:
        keep = hard_rows(chosen, values, group, iou_threshold, enough, kind == "diou")

    if most_per_class:
        keep = keep[ranks_by_class(labels[keep]) < most_per_class]
    keep = keep[:max_boxes]                                                         # (P,)
    return {"boxes": chosen[keep], "scores": values[keep], "labels": labels[keep]}


def entering(scores, least, max_candidates, per_class, parts):
    """Which (prediction, class) pairs enter. scores: (N, K).  least: (K,) -> rows, labels (M,)"""
    found, first = [], 0
    for length in parts:
        part = scores[first:first + length]
        rows, labels = np.nonzero(part > least)                                     # (M,), (M,)

        # The best of each class, then the best of all.
        if per_class and per_class < len(part):
            best = np.argsort(-part, 0, kind="stable")[:per_class]                  # (n, K)
            among = np.zeros(part.shape, bool)                                      # (N, K)
            np.put_along_axis(among, best, True, 0)
            rows, labels = rows[among[rows, labels]], labels[among[rows, labels]]
        if len(rows) > max_candidates:
            best = np.argsort(-part[rows, labels], kind="stable")[:max_candidates]
            rows, labels = rows[best], labels[best]
        found.append((rows + first, labels))
        first += length
    return [np.concatenate(values) for values in zip(*found)]


def hard_rows(boxes, scores, group, threshold, enough=None, by_distance=False):
    """Greedy: the best box stays, those of its group that overlap it too much go, and so on.

    by_distance: by DIoU, see utils.boxes.diou_nms.  enough: so many are asked for, None: all.
    -> rows that stay (P,) by falling score.
    """
    # In the precisions in which PyTorch is asked.
    boxes = boxes if by_distance else boxes.astype(np.float64)                      # (M, 4)
    overlap = diou_with if by_distance else iou_with
    waiting = np.argsort(-scores, kind="stable")                                    # (M,)
    kept = []
    while len(waiting) and (enough is None or len(kept) < enough):
        best, waiting = waiting[0], waiting[1:]
        kept.append(best)

        # Those of its group that overlap it too much leave.
        meets = waiting[group[waiting] == group[best]]                              # (m,)
        close = meets[overlap(boxes[best], boxes[meets]) > threshold]               # (n,)
        waiting = waiting[~np.isin(waiting, close)] if len(close) else waiting
    return np.array(kept, np.int64)


def soft_rows(boxes, scores, group, limits, sigma=0.5):
    """See utils.boxes.soft_nms. -> rows that stay (P,) by falling score, the new scores (M,)."""
    scores = scores.copy()
    waiting, kept = scores > limits, []
    while waiting.any():
        best = np.where(waiting, scores, -1).argmax()
        kept.append(best)
        waiting[best] = False

        # Those that wait pay for their overlap with it.
        meets = np.flatnonzero(waiting & (group == group[best]))                    # (m,)
        scores[meets] *= np.exp(-iou_with(boxes[best], boxes[meets])**2 / sigma)
        waiting &= scores > limits
    return np.array(kept, np.int64), scores


def iou_with(box, boxes):
    """box: (4,), boxes: (M, 4) -> (M,) IoU, 0 to 1."""
    return iou(box[None], boxes)[0]                                             # (M,)


def diou_with(box, boxes):
    """DIoU, see utils.boxes.distance_iou. box: (4,), boxes: (M, 4) -> (M,) in -1 to 1."""
    between = (box[:2] + box[2:] - boxes[:, :2] - boxes[:, 2:]) / 2                 # (M, 2)
    hull = np.maximum(box[2:], boxes[:, 2:]) - np.minimum(box[:2], boxes[:, :2])    # (M, 2)
    distance = (between**2).sum(1) / np.maximum((hull**2).sum(1), 1e-7)             # (M,)
    return iou_with(box, boxes) - distance                                      # (M,)


def ranks_by_class(labels):
    """labels: (P,) -> (P,): how many of the same label stand before each."""
    same = labels[:, None] == labels[None]                                          # (P, P)
    return np.tril(same, -1).sum(1)                                                 # (P,)
