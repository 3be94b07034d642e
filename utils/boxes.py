"""Boxes: layouts, the IoU family, non-maximum suppression. Boxes are float, in pixels, xyxy unless the name says otherwise."""
import math

import torch
from torchvision.ops import batched_nms


def cxcywh_to_xyxy(boxes):
    """boxes: (..., 4) centre x, centre y, width, height -> (..., 4) x1, y1, x2, y2."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def xyxy_to_cxcywh(boxes):
    """boxes: (..., 4) x1, y1, x2, y2 -> (..., 4) centre x, centre y, width, height."""
    return torch.cat([(boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]], dim=-1)


def box_area(boxes):
    """boxes: (..., 4) xyxy -> (...) area, 0 for a box turned inside out."""
    width, height = (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).unbind(-1)
    return width * height


def pairwise_iou(boxes1, boxes2):
    """IoU of every box with every other. boxes1: (..., N, 4) xyxy, boxes2: (..., M, 4) xyxy -> (..., N, M) in 0-1."""
    top_left = torch.maximum(boxes1[..., :, None, :2], boxes2[..., None, :, :2])
    bottom_right = torch.minimum(boxes1[..., :, None, 2:], boxes2[..., None, :, 2:])
    width, height = (bottom_right - top_left).clamp(min=0).unbind(-1)
    shared = width * height
    union = box_area(boxes1)[..., :, None] + box_area(boxes2)[..., None, :] - shared
    return shared / union.clamp(min=1e-7)


def size_iou(sizes1, sizes2):
    """IoU of boxes that share their centre: only the shape counts. sizes1: (N, 2) w, h, sizes2: (M, 2) -> (N, M) in 0-1."""
    shared = torch.minimum(sizes1[:, None], sizes2[None]).prod(-1)
    return shared / (sizes1.prod(-1)[:, None] + sizes2.prod(-1)[None] - shared).clamp(min=1e-7)


def complete_iou(boxes1, boxes2, eps=1e-7):
    """CIoU of matching rows: IoU, less a term for the distance of the centres and one for the aspect ratios.

    boxes1, boxes2: (..., 4) xyxy -> (...) in -1.5 to 1; the loss is 1 - CIoU.
    Source: Distance-IoU Loss, arXiv 1911.08287, eq. 8-11 (the weight alpha is a constant for the gradient).
    """
    size1, size2 = boxes1[..., 2:] - boxes1[..., :2], boxes2[..., 2:] - boxes2[..., :2]
    shared = (torch.minimum(boxes1[..., 2:], boxes2[..., 2:]) - torch.maximum(boxes1[..., :2], boxes2[..., :2])).clamp(min=0).prod(-1)
    iou = shared / (size1.prod(-1) + size2.prod(-1) - shared + eps)

    hull = torch.maximum(boxes1[..., 2:], boxes2[..., 2:]) - torch.minimum(boxes1[..., :2], boxes2[..., :2])
    between = (boxes1[..., :2] + boxes1[..., 2:] - boxes2[..., :2] - boxes2[..., 2:]) / 2
    distance = between.pow(2).sum(-1) / (hull.pow(2).sum(-1) + eps)

    angle1 = torch.atan(size1[..., 0] / (size1[..., 1] + eps))
    angle2 = torch.atan(size2[..., 0] / (size2[..., 1] + eps))
    aspect = 4 / math.pi**2 * (angle1 - angle2).pow(2)
    with torch.no_grad():
        alpha = aspect / (1 - iou + aspect + eps)
    return iou - distance - alpha * aspect


def nms(boxes, scores, score_threshold, iou_threshold, max_boxes, max_candidates=4096):
    """Non-maximum suppression within each class: the one place where thresholds are applied.

    boxes: (B, N, 4) xyxy px.  scores: (B, N, K) in 0-1; a prediction may come back with several classes.
    max_candidates: at most so many (prediction, class) pairs of an image enter, the best ones.
    -> list of B dicts: boxes (P, 4), scores (P,) falling, labels (P,) int64, P <= max_boxes.
    """
    if boxes.device.type == "mps":                      # it has no float64, which keeps classes exactly apart in batched_nms
        boxes, scores = boxes.cpu(), scores.cpu()
    results = []
    for image_boxes, image_scores in zip(boxes.float(), scores.float()):
        candidates, labels = (image_scores > score_threshold).nonzero(as_tuple=True)
        values = image_scores[candidates, labels]
        if len(values) > max_candidates:
            values, best = values.topk(max_candidates)
            candidates, labels = candidates[best], labels[best]
        keep = batched_nms(image_boxes[candidates].double(), values.double(), labels, iou_threshold)[:max_boxes]
        results.append({"boxes": image_boxes[candidates[keep]], "scores": values[keep], "labels": labels[keep]})
    return results
