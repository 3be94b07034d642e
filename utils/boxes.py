"""Boxes: layouts, the IoU family, non-maximum suppression.

Boxes are float, in pixels, xyxy unless the name says otherwise. No function changes its arguments.
"""
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from utils.system.compiled import compiled_nms

# A decoded box is at most so much larger than its anchor, so that a diverging step stays finite.
MAX_LOG_GROWTH = math.log(1000 / 16)
BACKGROUND, NO_PART = -1, -2                # what `match` says of an anchor that gets no object
MANY = 1000                                 # boxes; of more, a CPU is quicker group by group


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """boxes: (..., 4) centre x, centre y, width, height -> (..., 4) x1, y1, x2, y2."""
    centre = boxes[..., :2]                                                         # (..., 2)
    half = boxes[..., 2:] / 2                                                       # (..., 2)
    return torch.cat([centre - half, centre + half], dim=-1)                        # (..., 4)


def xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """boxes: (..., 4) x1, y1, x2, y2 -> (..., 4) centre x, centre y, width, height."""
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2                                  # (..., 2)
    size = boxes[..., 2:] - boxes[..., :2]                                          # (..., 2)
    return torch.cat([centre, size], dim=-1)                                        # (..., 4)


def box_area(boxes: Tensor) -> Tensor:
    """boxes: (..., 4) xyxy -> (...) area, 0 for a box turned inside out."""
    size = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0)                           # (..., 2)
    width, height = size.unbind(-1)                                                 # (...,), (...,)
    return width * height                                                           # (...,)


def pairwise_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """IoU of every box with every other. boxes1: (..., N, 4), boxes2: (..., M, 4) -> (..., N, M) in 0-1."""
    # What two boxes share begins at the larger of their left and upper edges and ends at the smaller of the
    # others.
    top_left = torch.maximum(boxes1[..., :, None, :2], boxes2[..., None, :, :2])    # (..., N, M, 2)
    bottom_right = torch.minimum(boxes1[..., :, None, 2:], boxes2[..., None, :, 2:])        # (..., N, M, 2)
    width, height = (bottom_right - top_left).clamp(min=0).unbind(-1)               # (..., N, M), (..., N, M)
    shared = width * height                                                         # (..., N, M)
    union = box_area(boxes1)[..., :, None] + box_area(boxes2)[..., None, :] - shared        # (..., N, M)
    return shared / union.clamp(min=1e-7)                                           # (..., N, M)


def size_iou(sizes1: Tensor, sizes2: Tensor) -> Tensor:
    """IoU of boxes with the same centre: only shape counts. sizes1: (N, 2) w, h, sizes2: (M, 2) -> (N, M)."""
    shared = torch.minimum(sizes1[:, None], sizes2[None]).prod(-1)                  # (N, M)
    union = sizes1.prod(-1)[:, None] + sizes2.prod(-1)[None] - shared               # (N, M)
    return shared / union.clamp(min=1e-7)                                           # (N, M)


def complete_iou(boxes1: Tensor, boxes2: Tensor, eps: float = 1e-7) -> Tensor:
    """CIoU of matching rows: IoU, less a term for the distance of the centres and one for the aspect ratios.

    boxes1, boxes2: (..., 4) xyxy -> (...) in -1.5 to 1; the loss is 1 - CIoU.
    Source: Distance-IoU Loss, arXiv 1911.08287, eq. 8-11 (the weight alpha is a constant for the gradient).
    """
    left1, top1, right1, bottom1 = boxes1.unbind(-1)                                # (...,)
    left2, top2, right2, bottom2 = boxes2.unbind(-1)                                # (...,)
    width1, height1 = right1 - left1, bottom1 - top1 + eps                          # (...,), (...,)
    width2, height2 = right2 - left2, bottom2 - top2 + eps                          # (...,), (...,)

    # IoU: how much of the two boxes together is shared.
    shared_width = (torch.minimum(right1, right2) - torch.maximum(left1, left2)).clamp(min=0)       # (...,)
    shared_height = (torch.minimum(bottom1, bottom2) - torch.maximum(top1, top2)).clamp(min=0)      # (...,)
    shared = shared_width * shared_height                                           # (...,)
    iou = shared / (width1 * height1 + width2 * height2 - shared + eps)             # (...,)

    # Distance of the centres against the diagonal of the smallest box around both: it pulls even without
    # overlap.
    hull_width = torch.maximum(right1, right2) - torch.minimum(left1, left2)        # (...,)
    hull_height = torch.maximum(bottom1, bottom2) - torch.minimum(top1, top2)       # (...,)
    between = ((left1 + right1 - left2 - right2) ** 2 + (top1 + bottom1 - top2 - bottom2) ** 2) / 4         # (...,)
    distance = between / (hull_width**2 + hull_height**2 + eps)                     # (...,)

    # Aspect ratios, as the angles of the diagonals. alpha lets them count only where the boxes already
    # overlap.
    aspect = 4 / math.pi**2 * (torch.atan(width1 / height1) - torch.atan(width2 / height2)) ** 2    # (...,)
    with torch.no_grad():
        alpha = aspect / (1 - iou + aspect + eps)                                   # (...,)
    return iou - distance - alpha * aspect                                          # (...,)


def generalized_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """GIoU of matching rows: IoU, less the empty share of the smallest box around both. It also pulls two
    boxes that do not touch.

    boxes1, boxes2: (..., 4) xyxy -> (...) in -1 to 1; the loss is 1 - GIoU.
    Source: Generalized Intersection over Union, arXiv 1902.09630, algorithm 1.
    """
    # What both share, and what either of them has.
    top_left = torch.maximum(boxes1[..., :2], boxes2[..., :2])                      # (..., 2)
    bottom_right = torch.minimum(boxes1[..., 2:], boxes2[..., 2:])                  # (..., 2)
    shared = (bottom_right - top_left).clamp(min=0).prod(-1)                        # (...,)
    union = box_area(boxes1) + box_area(boxes2) - shared                            # (...,)

    # The smallest box around both.
    top_left = torch.minimum(boxes1[..., :2], boxes2[..., :2])                      # (..., 2)
    bottom_right = torch.maximum(boxes1[..., 2:], boxes2[..., 2:])                  # (..., 2)
    hull = (bottom_right - top_left).prod(-1)                                       # (...,)
    return shared / union.clamp(min=1e-7) - (hull - union) / hull.clamp(min=1e-7)   # (...,)


def encode(boxes: Tensor, anchors: Tensor, weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0)) -> Tensor:
    """What a network should say to turn its anchors into these boxes; the inverse of `decode`.

    boxes, anchors: (..., 4) xyxy px -> deltas (..., 4): shift of the centre in anchor sizes, logarithm of the
    growth; times weights. The weights bring the four numbers to about deviation 1; SSD calls 1 / weights
    "variances". Source: R-CNN, arXiv 1311.2524, appendix C.
    """
    boxes = xyxy_to_cxcywh(boxes)                                                   # (..., 4)
    anchors = xyxy_to_cxcywh(anchors)                                               # (..., 4)
    shift = (boxes[..., :2] - anchors[..., :2]) / anchors[..., 2:]                  # (..., 2)
    growth = torch.log(boxes[..., 2:] / anchors[..., 2:])                           # (..., 2)
    return torch.cat([shift, growth], -1) * boxes.new_tensor(weights)               # (..., 4)


def decode(deltas: Tensor, anchors: Tensor, weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0)) -> Tensor:
    """deltas: (..., 4), anchors: (..., 4) xyxy px -> boxes (..., 4) xyxy px; see `encode`."""
    anchors = xyxy_to_cxcywh(anchors)                                               # (..., 4)
    deltas = deltas / deltas.new_tensor(weights)                                    # (..., 4)
    centres = deltas[..., :2] * anchors[..., 2:] + anchors[..., :2]                 # (..., 2)
    sizes = deltas[..., 2:].clamp(max=MAX_LOG_GROWTH).exp() * anchors[..., 2:]      # (..., 2)
    return cxcywh_to_xyxy(torch.cat([centres, sizes], -1))                          # (..., 4)


def clip(boxes: Tensor, input_shape: tuple[int, int]) -> Tensor:
    """Cut boxes (..., 4) xyxy at the border of an input of (H, W). -> new boxes (..., 4)"""
    height, width = input_shape
    x1, y1, x2, y2 = boxes.unbind(-1)                                               # (...,)
    return torch.stack([x1.clamp(0, width), y1.clamp(0, height), x2.clamp(0, width), y2.clamp(0, height)], -1)      # (..., 4)


def match(iou: Tensor, high: float, low: float, rescue: bool) -> Tensor:
    """Which object each anchor is assigned to, by overlap.

    iou: (G, N) of objects and anchors.  high: from this IoU on an anchor gets the object that it overlaps
    most.
    low: below it the anchor is background; between the two it takes no part in the loss.
    rescue: also the anchors that overlap an object most (ties included), however little, so that no object is
    left without one.
    -> (N,) int64: row of the object, BACKGROUND or NO_PART. Source: Faster R-CNN, arXiv 1506.01497, section
    3.1.2.
    """
    if not len(iou):
        return torch.full((iou.shape[1],), BACKGROUND, dtype=torch.int64, device=iou.device)        # (N,)

    # From the anchor's side: its best object, if that is good enough.
    best, nearest = iou.max(0)                                                      # (N,), (N,)
    matched = nearest.clone()                                                       # (N,)
    matched[best < high] = NO_PART
    matched[best < low] = BACKGROUND

    # From the object's side: its best anchors. Each of them gets the object that it overlaps most itself.
    if rescue:
        anchors = (iou == iou.amax(1, keepdim=True)).any(0)                         # (N,)
        matched[anchors] = nearest[anchors]
    return matched                                                                  # (N,)


def nms(boxes: Tensor, scores: Tensor, score_threshold: float | Sequence[float], iou_threshold: float,
        max_boxes: int, max_candidates: int = 4096, per_class: int | None = None,
        parts: list[int] | None = None, kind: str = "hard", agnostic: bool = False,
        most_per_class: int | None = None) -> list[dict[str, Tensor]]:
    """Non-maximum suppression within each class: the one place where thresholds are applied.

    boxes: (B, N, 4) xyxy px, or (B, N, K, 4) when every class has its own.
    scores: (B, N, K) in 0-1; a prediction may come back with several classes.
    score_threshold: a number, or K numbers, one for each class.
    max_candidates: at most so many (prediction, class) pairs of an image enter, the best ones; with `parts`
    (lengths that sum to N, like the levels of a pyramid) so many of each part.  per_class: also at most so
    many of each class.
    kind: "hard", "diou" (see `diou_nms`) or "soft" (see `soft_nms`).  agnostic: boxes of different classes
    suppress each other too.  most_per_class: so many of each class remain at most.
    -> list of B dicts: boxes (P, 4), scores (P,) falling, labels (P,) int64, P <= max_boxes.
    """
    # Apple's GPU has no float64, which keeps the classes exactly apart in hard_nms below.
    if boxes.device.type == "mps":
        boxes, scores = boxes.cpu(), scores.cpu()

    results = []
    least = torch.as_tensor(score_threshold, dtype=torch.float32, device=scores.device)             # (...,)
    for image_boxes, image_scores in zip(boxes.float(), scores.float()):
        # The pairs (prediction, class) that are good enough, each with its score and its box.
        sizes = parts or [len(image_scores)]
        rows, labels = candidates(image_scores, least, max_candidates, per_class, sizes)        # (M,), (M,)
        values = image_scores[rows, labels]                                         # (M,)
        own_box = image_boxes.ndim == 3
        chosen = image_boxes[rows, labels] if own_box else image_boxes[rows]        # (M, 4)

        # Of boxes of one class that overlap more than iou_threshold the one of highest score stays.
        group = torch.zeros_like(labels) if agnostic else labels                    # (M,)
        if kind == "soft":
            limits = least.expand(image_scores.shape[1])[labels]                    # (M,)
            keep, values = soft_nms(chosen, values, group, limits)                  # (p,), (M,)
        elif kind == "diou":
            keep = diou_nms(chosen, values, group, iou_threshold)                   # (p,)
        else:
            keep = hard_nms(chosen.double(), values.double(), group, iou_threshold)             # (p,)

        # Not too many, the best ones.
        if most_per_class:
            keep = keep[rank_in_class(labels[keep]) < most_per_class]               # (q,)
        keep = keep[:max_boxes]                                                     # (P,)
        results.append({"boxes": chosen[keep], "scores": values[keep], "labels": labels[keep]})
    return results


def hard_nms(boxes: Tensor, scores: Tensor, group: Tensor, threshold: float) -> Tensor:
    """Greedy: the best box stays, those of its group that overlap it too much go, and so on.

    boxes: (M, 4), scores: (M,), group: (M,) int64.  threshold: of the IoU.
    -> rows that stay (P,) by falling score.
    """
    suppress = compiled_nms()
    if not len(boxes):
        return torch.zeros_like(group)                                              # (M,)

    # Few: all at once, each group moved so far away that it overlaps no other. So too in an ONNX file, where
    # the number of boxes is not known.
    if len(boxes) <= MANY or boxes.device.type != "cpu" or torch.jit.is_tracing():
        away = group.to(boxes) * (boxes.max() + 1)                                  # (M,)
        return suppress(boxes + away[:, None], scores, threshold)

    # Many: each group alone, for the comparisons grow with the square.
    stays = torch.zeros_like(group, dtype=torch.bool)                               # (M,)
    for number in group.unique():
        rows = (group == number).nonzero()[:, 0]                                    # (m,)
        stays[rows[suppress(boxes[rows], scores[rows], threshold)]] = True
    rows = stays.nonzero()[:, 0]                                                    # (P,)
    return rows[scores[rows].argsort(descending=True)]


def soft_nms(boxes: Tensor, scores: Tensor, group: Tensor, limits: Tensor,
             sigma: float = 0.5) -> tuple[Tensor, Tensor]:
    """Soft-NMS: an overlapped box is not removed, its score falls by exp(-IoU^2 / sigma) for every better box
    of its group, so that two objects that stand close can both stay.

    boxes: (M, 4), scores: (M,), group: (M,) int64, only boxes of the same one meet.  limits: (M,) a box whose
    score falls to this or below is removed.
    -> rows that stay (P,) by falling score, the new scores (M,).
    Source: Soft-NMS, arXiv 1704.04503, eq. 3 (Gaussian).
    """
    scores = scores.clone()                                                         # (M,)
    waiting = scores > limits                                                       # (M,)
    kept = []
    while waiting.any():
        # The best box of those that wait is done: no score behind it can rise.
        best = torch.where(waiting, scores, -1.0).argmax()                          # ()
        kept.append(best)
        waiting[best] = False

        # Those that wait pay for their overlap with it.
        iou = pairwise_iou(boxes[best][None], boxes)[0]                             # (M,)
        meets = waiting & (group == group[best])                                    # (M,)
        scores = torch.where(meets, scores * torch.exp(-iou**2 / sigma), scores)    # (M,)
        waiting = waiting & (scores > limits)                                       # (M,)
    return torch.stack(kept) if kept else torch.zeros_like(group[:0]), scores       # (P,), (M,)


def diou_nms(boxes: Tensor, scores: Tensor, group: Tensor, threshold: float) -> Tensor:
    """NMS by DIoU: the IoU less the squared distance of the centres, measured in the diagonal of the smallest
    box around both. Two objects one behind the other overlap much, but their centres are apart.

    boxes: (M, 4), scores: (M,), group: (M,) int64, only boxes of the same one meet.  threshold: a box whose
    DIoU with a better one is higher is removed. -> rows that stay (P,) by falling score.
    Source: Distance-IoU Loss, arXiv 1911.08287, section "Non-Maximum Suppression using DIoU", eq. 13.
    """
    waiting = scores.argsort(descending=True, stable=True)                          # (M,)
    kept = []
    while len(waiting):
        best, waiting = waiting[0], waiting[1:]                                     # (), (m,)
        kept.append(best)
        meets = group[waiting] == group[best]                                       # (m,)
        close = distance_iou(boxes[best][None], boxes[waiting]) > threshold         # (m,)
        waiting = waiting[~(meets & close)]                                         # (n,)
    return torch.stack(kept) if kept else torch.zeros_like(group[:0])               # (P,)


def distance_iou(box: Tensor, boxes: Tensor) -> Tensor:
    """DIoU of one box (1, 4) with others (M, 4) -> (M,) in -1 to 1; see `diou_nms`."""
    between = (box[:, :2] + box[:, 2:] - boxes[:, :2] - boxes[:, 2:]) / 2           # (M, 2)
    hull = torch.maximum(box[:, 2:], boxes[:, 2:]) - torch.minimum(box[:, :2], boxes[:, :2])    # (M, 2)
    distance = between.square().sum(-1) / hull.square().sum(-1).clamp(min=1e-7)     # (M,)
    return pairwise_iou(box, boxes)[0] - distance                                   # (M,)


def rank_in_class(labels: Tensor) -> Tensor:
    """labels: (P,) -> (P,) int64, how many of the same label stand before each."""
    same = labels[:, None] == labels[None]                                          # (P, P)
    return same.tril(-1).sum(1)                                                     # (P,)


def candidates(scores: Tensor, score_threshold: float | Tensor, max_candidates: int, per_class: int | None,
               parts: list[int]) -> list[Tensor]:
    """Which (prediction, class) pairs enter, see `nms`. scores: (N, K) of one image -> rows, labels (M,)"""
    found, first = [], 0
    for part in scores.split(parts):
        rows, labels = (part > score_threshold).nonzero(as_tuple=True)              # (M,), (M,)

        # The best `per_class` predictions of each class; pairs that are not among them leave.
        if per_class:
            best = part.topk(min(per_class, len(part)), dim=0).indices              # (n, K)
            among = torch.zeros_like(part, dtype=torch.bool).scatter_(0, best, True)        # (N, K)
            rows, labels = rows[among[rows, labels]], labels[among[rows, labels]]   # (m,), (m,)

        # The best `max_candidates` of all that remain.
        if len(rows) > max_candidates:
            best = part[rows, labels].topk(max_candidates).indices                  # (max_candidates,)
            rows, labels = rows[best], labels[best]                                 # (max_candidates,), (max_candidates,)

        # Rows count from the beginning of the part, the result's from that of the image.
        found.append((rows + first, labels))
        first += len(part)
    return [torch.cat(values) for values in zip(*found)]                            # (M,), (M,)
