"""The metrics of detection, slow and obvious: plain loops, one detection after the other.

utils/voc_ap.py, utils/coco_ap.py and utils/metrics.py do the same on whole columns, and tests/spine/test_metrics.py compares
the two on random cases. Read this file first if you want to know what the numbers mean.

detections, truths: the two lists of utils/metrics.py.  label: the class that is looked at.  one: 1 for inclusive pixels, else 0.
"""
import math
from collections import Counter

import numpy as np

FOUND, WRONG, IGNORED = 1, 0, -1


def random_set(seed, images=12, classes=3, most=12, ties=False, crowd=0.0, difficult=0.0, step=0):
    """Boxes around objects and elsewhere; images and classes without objects or detections occur. -> detections, truths"""
    rng = np.random.default_rng(seed)
    detections, truths = [], []
    for _ in range(images):
        g = int(rng.integers(0, 7)) * int(rng.random() < 0.8)
        corner, side = rng.uniform(0, 200, (g, 2)), rng.uniform(8, 150, (g, 2))
        boxes, labels = np.concatenate([corner, corner + side], 1), rng.integers(0, classes, g)

        # Around each object some boxes that are a little off, or boxes anywhere where there is no object.
        p = int(rng.integers(0, most)) * int(rng.random() < 0.9)
        near = rng.integers(0, g, p) if g else np.zeros(0, int)
        corner = rng.uniform(0, 200, (p - len(near), 2))
        other = np.concatenate([corner, corner + rng.uniform(8, 150, corner.shape)], 1)
        found = np.concatenate([boxes[near] + rng.normal(0, 8, (len(near), 4)), other])
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
        found_labels = np.concatenate([labels[near], rng.integers(0, classes, len(other))]).astype(int)

        # Rounded scores are often equal, and so are the overlaps of boxes on a grid.
        scores = rng.random(p)
        if step:
            boxes, found = (np.round(one / step) * step + [0, 0, 1, 1] for one in (boxes, found))
        detections.append({"boxes": found, "scores": scores.round(1) if ties else scores, "labels": found_labels})
        truths.append({"boxes": boxes, "labels": labels, "difficult": rng.random(g) < difficult, "crowd": rng.random(g) < crowd})
    return detections, truths


def area(box, one=0):
    return (box[2] - box[0] + one) * (box[3] - box[1] + one)


def slow_iou(box, other, one=0, crowd=False):
    """What two boxes share, divided by what they cover together; in a crowd by the area of the first."""
    width = min(box[2], other[2]) - max(box[0], other[0]) + one
    height = min(box[3], other[3]) - max(box[1], other[1]) + one
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (area(box, one) if crowd else area(box, one) + area(other, one) - shared)


def by_falling_score(detections, label):
    """All detections of a class: [(score, image, box)], the surest first; equal ones in the order of the images."""
    rows = []
    for i, found in enumerate(detections):
        for score, box, kind in zip(found["scores"], found["boxes"], found["labels"]):
            if kind == label:
                rows.append((float(score), i, box))
    return sorted(rows, key=lambda row: -row[0])                        # sorted() is stable


def slow_count(truths, label):
    """How many objects of a class count: those that are not difficult."""
    return sum(int(kind == label and not hard) for truth in truths for kind, hard in zip(truth["labels"], truth["difficult"]))


def slow_best_object(box, truth, label, one=0):
    """The object of this class that overlaps the box most, the first of equal ones: (its number or -1, IoU)."""
    best, best_iou = -1, 0.0
    for j, (other, kind) in enumerate(zip(truth["boxes"], truth["labels"])):
        if kind == label and (best < 0 or slow_iou(box, other, one) > best_iou):
            best, best_iou = j, slow_iou(box, other, one)
    return best, best_iou


def slow_voc_states(detections, truths, label, iou_threshold=0.5, one=0):
    """VOC's rules, word for word: the state of every detection of a class, by falling score."""
    states, used = [], set()
    for _, i, box in by_falling_score(detections, label):
        best, best_iou = slow_best_object(box, truths[i], label, one)
        if best < 0 or best_iou < iou_threshold:
            states.append(WRONG)
        elif truths[i]["difficult"][best]:
            states.append(IGNORED)
        elif (i, best) in used:
            states.append(WRONG)                                        # the object was found before
        else:
            states.append(FOUND)
            used.add((i, best))
    return states


def slow_curve(states, tiny=0.0):
    """[(objects found so far, precision so far)] after each detection that is not ignored."""
    points, tp, fp = [], 0, 0
    for state in states:
        tp += state == FOUND
        fp += state == WRONG
        if state != IGNORED:
            points.append((tp, tp / (tp + fp + tiny)))
    return points


def slow_area_ap(states, total):
    """The area under the envelope: for the 1st, 2nd ... object found the best precision from there on."""
    if not total:
        return None
    points = slow_curve(states)
    return sum(max(p for tp, p in points if tp >= k) for k in range(1, states.count(FOUND) + 1)) / total


def slow_eleven_point_ap(states, total):
    """The mean, over recalls 0, 0.1 ... 1, of the best precision at that recall or a higher one."""
    if not total:
        return None
    points = slow_curve(states)
    return sum(max([p for tp, p in points if 10 * tp >= i * total], default=0.0) for i in range(11)) / 11


def slow_coco_states(detections, truths, label, iou_threshold, low=0, high=1e10):
    """COCO's rules: the state of every detection of a class at one IoU threshold, by falling score.

    low, high: areas of the objects that count.
    """
    states, used, seen = [], set(), Counter()
    for _, i, box in by_falling_score(detections, label):
        seen[i] += 1
        if seen[i] > 100:                                               # 100 detections per image and class
            states.append(IGNORED)
            continue

        # Of the free objects that overlap enough: one that counts before an ignored one, then the higher IoU, then the later.
        best, best_rank, truth = None, None, truths[i]
        for j, (other, kind) in enumerate(zip(truth["boxes"], truth["labels"])):
            crowd = bool(truth["crowd"][j] or truth["difficult"][j])
            iou = slow_iou(box, other, crowd=crowd)
            if kind != label or iou < iou_threshold or ((i, j) in used and not crowd):
                continue
            rank = (not (crowd or not low <= area(other) <= high), iou)
            if best is None or rank >= best_rank:
                best, best_rank = j, rank

        if best is not None:
            used.add((i, best))
            states.append(FOUND if best_rank[0] else IGNORED)
        else:
            states.append(WRONG if low <= area(box) <= high else IGNORED)
    return states


def slow_coco_count(truths, label, low=0, high=1e10):
    """How many objects of a class count by COCO's rules."""
    return sum(int(kind == label and not hard and not crowd and low <= area(box) <= high) for truth in truths
               for box, kind, hard, crowd in zip(truth["boxes"], truth["labels"], truth["difficult"], truth["crowd"]))


def slow_coco_class_ap(states, total):
    """The mean, over 101 recalls, of the best precision at that recall or a higher one."""
    if not total:
        return None
    points = slow_curve(states, tiny=np.spacing(1))
    recalls = np.linspace(0, 1, 101)
    return sum(max([p for tp, p in points if tp / total >= recall], default=0.0) for recall in recalls) / 101


def slow_rates(scores, states, total, threshold):
    """tp, fp, fn, precision, recall and F1 of a class when detections from this score on are accepted."""
    accepted = [state for score, state in zip(scores, states) if score >= threshold]
    tp, fp = accepted.count(FOUND), accepted.count(WRONG)
    return {"tp": tp, "fp": fp, "fn": total - tp,
            "precision": tp / (tp + fp) if tp + fp else None,
            "recall": tp / total if total else None,
            "f1": 2 * tp / (tp + fp + total) if total else None}


def slow_best_f1(scores, states, total):
    """The best F1 of all thresholds, None where nothing is found."""
    values = [slow_rates(scores, states, total, score)["f1"] for score in scores] if total else []
    return max(values, default=0.0) or None


def slow_miss_rate(states, total, images):
    """Geometric mean of the share of missed objects, where false detections per image reach 0.01, 0.0178 ... 1."""
    if not total:
        return None
    logs = []
    for point in (0.01, 10 ** -1.75, 10 ** -1.5, 10 ** -1.25, 0.1, 10 ** -0.75, 10 ** -0.5, 10 ** -0.25, 1.0):
        missed, tp, fp = 1.0, 0, 0
        for state in states:
            tp += state == FOUND
            fp += state == WRONG
            if fp / images > point:
                break
            missed = 1 - tp / total
        logs.append(math.log(max(missed, 1e-10)))
    return math.exp(sum(logs) / len(logs))


def slow_confusion_matrix(detections, truths, num_classes, score_threshold=0.25, iou_threshold=0.45):
    """Rows predicted, columns true classes; the last row counts missed objects, the last column detections of background."""
    matrix = [[0] * (num_classes + 1) for _ in range(num_classes + 1)]
    for found, truth in zip(detections, truths):
        free = list(range(len(truth["labels"])))
        rows = sorted(zip(found["scores"], found["labels"], found["boxes"]), key=lambda row: -row[0])
        for score, label, box in rows:
            if score <= score_threshold:
                continue
            best = max(free, key=lambda j: slow_iou(box, truth["boxes"][j]), default=None)     # the first of equal ones
            if best is not None and slow_iou(box, truth["boxes"][best]) > iou_threshold:
                matrix[label][truth["labels"][best]] += 1
                free.remove(best)
            else:
                matrix[label][num_classes] += 1
        for j in free:
            matrix[num_classes][truth["labels"][j]] += 1
    return matrix
