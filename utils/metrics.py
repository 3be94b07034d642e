"""How good is a detector? All numbers of an evaluation. numpy only.

Every function takes the same two lists, one entry per image, in the same order:
    detections: dict(boxes (P, 4) xyxy, scores (P,), labels (P,))
    truths:     dict(boxes (G, 4) xyxy, labels (G,), difficult (G,) bool, optional crowd (G,) bool)
Boxes are pixel edges, so a box is x2 - x1 wide. `inclusive=True` is for boxes in the VOC devkit's own
inclusive pixel coordinates, x2 - x1 + 1 wide; both give the same IoU for the same box. COCO's rules never
add 1.

Which detection is right, and what average precision is: utils/voc_ap.py. What COCO does otherwise:
utils/coco_ap.py. Tests compare both with the numbers of the devkit and of pycocotools, and every algorithm
with its slow, obvious version.

Rules that differ between tools and are fixed here:
* A class without objects has no AP: None, and the mean leaves it out. No accepted detection: no
  precision.
* A detection whose score or box is NaN or infinite is dropped; `detection_results` says how many
  ("not_finite").
* Equal scores keep the order of images, and of detections within an image.
"""
import numpy as np

from utils.coco_ap import coco_ap, coco_ap_of
from utils.voc_ap import area_ap, box_iou, flatten, per_class, recall_precision, voc_ap, voc_ap_of, voc_states

__all__ = ["best_threshold", "coco_ap", "confusion_matrix", "detection_curves", "detection_results",
           "log_average_miss_rate", "precision_recall_f1", "voc_ap"]

# False positives per image, 10^-2 ... 10^0 (Dollar et al. 2012). 0.1 is written out: numpy's power gives
# 0.09999999999999999 in some versions, and 2 in 20 images would miss its point.
MISS_RATE_POINTS = np.array(
    [0.01, 10 ** -1.75, 10 ** -1.5, 10 ** -1.25, 0.1, 10 ** -0.75, 10 ** -0.5, 10 ** -0.25, 1.0])
THRESHOLDS = np.linspace(0, 1, 101).round(2)


def rates(found, wrong, total):
    """found, wrong, number of objects -> dict(precision, recall, f1), None where the divisor is 0."""
    return {"precision": float(found / (found + wrong)) if found + wrong else None,
            "recall": float(found / total) if total else None,
            "f1": float(2 * found / (found + wrong + total)) if total else None}


def precision_recall_f1(detections, truths, num_classes, score_threshold=0.5, iou_threshold=0.5,
                        inclusive=False):
    """At score >= score_threshold, by VOC's rules.

    -> list over classes of dict(tp, fp, fn, precision, recall, f1).
    """
    rows, objects = flatten(detections, truths, num_classes)
    states = voc_states(rows, objects, iou_threshold, inclusive)
    return [rates_at(*one, score_threshold) for one in per_class(rows, objects, states, objects.difficult)]


def rates_at(scores, found, wrong, total, threshold):
    """The rates of one class when detections from this score on are accepted."""
    accepted = scores >= threshold
    tp = int((found & accepted).sum())
    fp = int((wrong & accepted).sum())
    return {"tp": tp, "fp": fp, "fn": total - tp, **rates(tp, fp, total)}


def best_f1(scores, found, wrong, total):
    """The score threshold at which F1 is highest, and what it gives.

    -> dict(score, precision, recall, f1), all None where nothing is found at any threshold.
    """
    if not total or not found.any():
        return dict.fromkeys(("score", "precision", "recall", "f1"))
    # A threshold accepts equal scores together, so only the last of them counts.
    last = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    tp = np.cumsum(found)[last]
    fp = np.cumsum(wrong)[last]
    i = int(np.argmax(2 * tp / (tp + fp + total)))
    return {"score": float(scores[last[i]]), **rates(int(tp[i]), int(fp[i]), total)}


def log_average_miss_rate(detections, truths, num_classes, iou_threshold=0.5, inclusive=False):
    """Log-average miss rate per class: 0 is best, None without objects.

    The geometric mean of 1 - recall, at least 1e-10, at nine rates of false positives per image (of the whole
    list), from 0.01 to 1; 1 where the curve has not begun.
    Source: Dollar et al., Pedestrian Detection, 2012, §3.2.
    """
    rows, objects = flatten(detections, truths, num_classes)
    states = voc_states(rows, objects, iou_threshold, inclusive)
    return [miss_rate(*one, len(truths)) for one in per_class(rows, objects, states, objects.difficult)]


def miss_rate(scores, found, wrong, total, images):
    """The log-average miss rate of one class, see above. images: how many there are."""
    if not total:
        return None
    missed = np.append(1.0, 1 - np.cumsum(found) / total)                   # after 0, 1, 2 ... detections
    false_per_image = np.cumsum(wrong) / images
    at = np.searchsorted(false_per_image, MISS_RATE_POINTS, side="right")                  # (9,)
    return float(np.exp(np.log(np.maximum(missed[at], 1e-10)).mean()))


def confusion_matrix(detections, truths, num_classes, score_threshold=0.25, iou_threshold=0.45):
    """How often each class was predicted for each true one: (K+1, K+1) int64.

    Rows are predicted classes (the last row: objects missed), columns true ones (the last: background).
    Detections above score_threshold, by falling score: each takes its best free object of any class with
    IoU > iou_threshold. Difficult and crowd play no part.
    """
    missed = background = num_classes
    matrix = np.zeros((num_classes + 1, num_classes + 1), np.int64)                        # (K+1, K+1)
    for found, truth in zip(detections, truths):
        box, predicted = accepted_boxes(found, score_threshold)                            # (P, 4), (P,)
        true_box = np.asarray(truth["boxes"], np.float64).reshape(-1, 4)                   # (G, 4)
        true = np.asarray(truth["labels"], np.int64)                                       # (G,)
        iou = box_iou(box[:, None], true_box[None])                                        # (P, G)

        # An object that was taken is out of reach for the detections that follow: its column becomes -1.
        partner = np.full(len(box), background)                                            # (P,)
        for i in np.flatnonzero((iou > iou_threshold).any(1)):
            best = int(np.argmax(iou[i]))
            if iou[i, best] > iou_threshold:
                partner[i] = true[best]
                iou[:, best] = -1.0

        # Each detection is one count, and so is each object that none of them took.
        np.add.at(matrix, (predicted, partner), 1)
        free = (iou >= 0).all(0)                                                           # (G,)
        np.add.at(matrix[missed], true[free], 1)
    return matrix                                                                          # (K+1, K+1)


def accepted_boxes(found, score_threshold):
    """One image's detections above the threshold, by falling score. -> boxes (P, 4), labels (P,)"""
    score = np.asarray(found["scores"], np.float64)                                        # (N,)
    box = np.asarray(found["boxes"], np.float64).reshape(-1, 4)                            # (N, 4)
    finite = np.isfinite(score) & np.isfinite(box).all(1)                                  # (N,)
    keep = np.flatnonzero((score > score_threshold) & finite)                              # (P,)
    keep = keep[np.argsort(-score[keep], kind="stable")]                                   # (P,)
    return box[keep], np.asarray(found["labels"], np.int64)[keep]                          # (P, 4), (P,)


def detection_results(detections, truths, class_names, score_threshold=0.5, inclusive=False):
    """All numbers of an evaluation as plain values, ready for JSON; fractions, None where undefined.

    map50: the mean VOC AP (area, the rule since 2010) at IoU 0.5, the number that training logs; voc10 is the
    same number, voc07 the 11-point one. map50_95: COCO's AP. A class without objects is None and left out of
    every mean, so all means are None when there are no objects at all. `objects` are those that count,
    `difficult` the others.
    best_threshold: the score at which the mean F1 of the classes, best_mean_f1, is highest.
    per_class: name, objects, difficult, detections, ap50 (= voc10), voc07, ap50_95, miss_rate; precision,
    recall, f1 at score >= score_threshold; best_score with best_precision, best_recall, best_f1: where F1 is
    highest.
    """
    # Right or wrong is decided once: VOC's numbers, rates and miss rate are all read from these states.
    rows, objects = flatten(detections, truths, len(class_names))
    states = voc_states(rows, objects, 0.5, inclusive)
    voc = voc_ap_of(rows, objects, states)
    coco = coco_ap_of(rows, objects)
    difficult = np.bincount(objects.label[objects.difficult], minlength=len(class_names))  # (K,)

    # One row for each class.
    table, curves = [], []
    for c, (scores, found, wrong, total) in enumerate(per_class(rows, objects, states, objects.difficult)):
        at = rates_at(scores, found, wrong, total, score_threshold)
        best = best_f1(scores, found, wrong, total)
        tp, fp = counts_at(scores, found, wrong)
        curves.append({"objects": total, "f1": 2 * tp / np.maximum(tp + fp + total, 1)})
        table.append({
            "name": class_names[c], "objects": total, "difficult": int(difficult[c]),
            "detections": len(scores),
            "ap50": voc["area"][c], "voc07": voc["eleven"][c], "ap50_95": coco["per_class"][c],
            "miss_rate": miss_rate(scores, found, wrong, total, len(truths)),
            **{name: at[name] for name in ("precision", "recall", "f1")},
            **{"best_" + name: best[name] for name in ("score", "precision", "recall", "f1")}})

    # Together: the means, how much was measured, and the table.
    threshold, mean_f1 = best_threshold(curves)
    return {"map50": voc["map_area"], "map50_95": coco["AP"],
            "voc07": voc["map_11"], "voc10": voc["map_area"],
            "coco": {name: coco[name] for name in ("AP", "AP50", "AP75", "APs", "APm", "APl")},
            "images": len(truths), "objects": int((~objects.difficult).sum()),
            "difficult": int(objects.difficult.sum()), "detections": len(rows.score),
            "not_finite": rows.not_finite, "score_threshold": float(score_threshold),
            "best_threshold": threshold, "best_mean_f1": mean_f1, "per_class": table}


def detection_curves(detections, truths, class_names, inclusive=False):
    """What the curves are drawn from: a list over classes of dicts.

    name, objects, ap50; recall, envelope: one value per object found; thresholds: (101,) 0 ... 1 with
    precision, f1 (NaN where undefined) and recall_at at score >= threshold.
    """
    rows, objects = flatten(detections, truths, len(class_names))
    states = voc_states(rows, objects, 0.5, inclusive)
    curves = []
    for c, (scores, found, wrong, total) in enumerate(per_class(rows, objects, states, objects.difficult)):
        recall, envelope = recall_precision(found, wrong, total)

        tp, fp = counts_at(scores, found, wrong)
        with np.errstate(divide="ignore", invalid="ignore"):
            precision = tp / (tp + fp)                                                     # (101,)
        undefined = np.full(101, np.nan)                                                   # (101,)
        recall_at = tp / total if total else undefined                                     # (101,)
        f1 = 2 * tp / (tp + fp + total) if total else undefined                            # (101,)

        curves.append({
            "name": class_names[c], "objects": total, "ap50": area_ap(recall, envelope, total),
            "recall": recall, "envelope": envelope,
            "thresholds": THRESHOLDS, "precision": precision, "recall_at": recall_at, "f1": f1})
    return curves


def counts_at(scores, found, wrong):
    """How many detections of a class each threshold accepts: those found (101,), those wrong (101,)."""
    accepted = np.searchsorted(-scores, -THRESHOLDS, side="right")                         # (101,)
    return np.append(0, np.cumsum(found))[accepted], np.append(0, np.cumsum(wrong))[accepted]


def best_threshold(curves):
    """The score threshold at which the mean F1 of the classes is highest, and that mean; None, None where
    nothing is right at any. Of several as good ones the middle: it leaves most room on both sides.

    curves: dicts with objects and f1 (101,), as of `detection_curves`; f1 is undefined without objects.
    """
    f1 = [curve["f1"] for curve in curves if curve["objects"]]
    mean = np.mean(f1, axis=0) if f1 else np.zeros(101)                                    # (101,)
    best = np.flatnonzero(mean[1:] >= mean[1:].max() - 1e-12) + 1       # at 0 whatever is said counts
    if mean[1:].max() <= 0:
        return None, None
    return float(THRESHOLDS[best[len(best) // 2]]), float(mean[1:].max())
