"""How good is a detector? VOC and COCO average precision, precision / recall / F1, miss rate, confusion matrix. numpy only.

Every function takes the same two lists, one entry per image, in the same order:
    detections: dict(boxes (P, 4) xyxy, scores (P,), labels (P,))
    truths:     dict(boxes (G, 4) xyxy, labels (G,), difficult (G,) bool, optional crowd (G,) bool)
Boxes are pixel edges, so a box is x2 - x1 wide. `inclusive=True` is for boxes in the VOC devkit's own inclusive pixel
coordinates, x2 - x1 + 1 wide; both give the same IoU for the same box. COCO's rules never add 1.

The idea of all of it: go through the detections of a class by falling score and call each one found (it has an object),
wrong (it has none, or one that was found before) or ignored. After k found and w wrong ones, recall is k / objects and
precision k / (k + w); average precision is the area under that curve.

Rules that differ between tools and are fixed here (tests compare them with the devkit's and pycocotools' numbers):
* VOC (VOCevaldet.m): a detection looks only at its best object, IoU >= 0.5. Difficult: neither found nor wrong.
* COCO (pycocotools): 100 detections per image and class; a detection takes the best object that is still free.
  Crowd: ignored, IoU = intersection / area of the detection, any number of detections. Difficult is treated as crowd:
  it is the only way in which pycocotools ignores an object that a file can ask for, so the stock tool gives the same number.
  (VOC has no crowd: there a crowd object counts as any other.)
* A class without objects has no AP: None, and the mean leaves it out. No accepted detection: precision is None.
* A detection whose score or box is not a finite number is dropped; `detection_results` says how many ("not_finite").
* Equal scores keep the order of images, and of detections within an image.
"""
from types import SimpleNamespace

import numpy as np

FOUND, WRONG, IGNORED = 1, 0, -1
COCO_IOUS = np.linspace(0.5, 0.95, 10)
COCO_RECALLS = np.linspace(0, 1, 101)                # some differ from i/100 in the last bit; pycocotools has these
COCO_MOST = 100                                      # detections per image and class
COCO_AREAS = {"all": (0, 1e10), "small": (0, 32 ** 2), "medium": (32 ** 2, 96 ** 2), "large": (96 ** 2, 1e10)}   # both ends inclusive
# false positives per image, 10^-2 ... 10^0 (Dollar et al. 2012). 0.1 is written out: numpy's power gives 0.09999999999999999 in
# some versions, and 2 in 20 images would miss its point
MISS_RATE_POINTS = np.array([0.01, 10 ** -1.75, 10 ** -1.5, 10 ** -1.25, 0.1, 10 ** -0.75, 10 ** -0.5, 10 ** -0.25, 1.0])


def flatten(detections, truths, num_classes):
    """The two lists of images -> two tables of columns, so that whole columns can be computed at once.

    Result: rows (image, label, score, box, group), sorted by class and falling score, with `start` (K+1,): class c is
    start[c]:start[c+1]; and objects (label, box, group, difficult, crowd). A group is the pair of class and image.
    """
    if len(detections) != len(truths):
        raise ValueError(f"{len(detections)} images with detections, {len(truths)} with truths")

    def column(images, name, shape, kind):
        parts = [np.asarray(image[name], kind).reshape(shape) if name in image
                 else np.zeros(len(image["labels"]), kind) for image in images]
        return np.concatenate(parts) if parts else np.zeros((0, 4) if len(shape) == 2 else 0, kind)

    def table(images):
        label = column(images, "labels", (-1,), np.int64)
        if len(label) and not 0 <= label.min() <= label.max() < num_classes:
            raise ValueError(f"labels must be 0..{num_classes - 1}, not {label.min()}..{label.max()}")
        image = np.repeat(np.arange(len(images)), [len(one["labels"]) for one in images])
        return SimpleNamespace(image=image, label=label, group=label * len(images) + image,
                               box=column(images, "boxes", (-1, 4), np.float64))

    objects = table(truths)
    objects.difficult = column(truths, "difficult", (-1,), bool)
    objects.crowd = column(truths, "crowd", (-1,), bool)
    rows = table(detections)
    rows.score = column(detections, "scores", (-1,), np.float64)
    finite = np.flatnonzero(np.isfinite(rows.score) & np.isfinite(rows.box).all(1))
    order = finite[np.lexsort((-rows.score[finite], rows.label[finite]))]             # stable: ties keep their order
    rows = SimpleNamespace(**{name: values[order] for name, values in vars(rows).items()}, not_finite=len(rows.score) - len(finite))
    rows.start = np.searchsorted(rows.label, np.arange(num_classes + 1))
    rows.images = objects.images = len(truths)
    return rows, objects


def box_iou(first, second, inclusive=False, crowd=None):
    """IoU of boxes that correspond. first: (..., 4) and second: (..., 4) xyxy pixels; where `crowd`, intersection / area of first."""
    one = 1.0 if inclusive else 0.0
    width = np.minimum(first[..., 2], second[..., 2]) - np.maximum(first[..., 0], second[..., 0]) + one
    height = np.minimum(first[..., 3], second[..., 3]) - np.maximum(first[..., 1], second[..., 1]) + one
    both = np.where((width > 0) & (height > 0), width * height, 0.0)
    area = (first[..., 2] - first[..., 0] + one) * (first[..., 3] - first[..., 1] + one)
    union = area + (second[..., 2] - second[..., 0] + one) * (second[..., 3] - second[..., 1] + one) - both
    if crowd is not None:
        union = np.where(crowd, area, union)
    return np.divide(both, union, out=np.zeros_like(both), where=both > 0)


def overlaps(rows, objects, inclusive=False, crowd=None, most=1_000_000):
    """Every detection with every object of its class in its image, in portions of about `most` pairs to bound the memory.

    Yields (row, object, iou, begin): (P,) each, the pairs of one detection side by side, objects in their order;
    begin: where each detection's pairs begin.
    """
    order = np.argsort(objects.group, kind="stable")
    first = np.searchsorted(objects.group[order], rows.group)
    count = np.searchsorted(objects.group[order], rows.group, side="right") - first
    chosen = np.flatnonzero(count)
    portion = np.cumsum(count[chosen]) // most
    for part in np.split(chosen, np.flatnonzero(np.diff(portion)) + 1):
        if not len(part):
            continue
        begin = np.cumsum(count[part]) - count[part]
        row = np.repeat(part, count[part])
        thing = order[np.repeat(first[part] - begin, count[part]) + np.arange(len(row))]
        iou = box_iou(rows.box[row], objects.box[thing], inclusive, None if crowd is None else crowd[thing])
        yield row, thing, iou, begin


def best_objects(rows, objects, inclusive=False):
    """Each detection's best object of its class in its image: (object (D,) or -1, IoU (D,)). The first object wins a tie."""
    best, best_iou = np.full(len(rows.score), -1), np.zeros(len(rows.score))
    for row, thing, iou, begin in overlaps(rows, objects, inclusive):
        top = np.maximum.reduceat(iou, begin)
        position = np.where(iou == np.repeat(top, np.diff(begin, append=len(row))), np.arange(len(row)), len(row))
        best[row[begin]] = thing[np.minimum.reduceat(position, begin)]
        best_iou[row[begin]] = top
    return best, best_iou


def voc_states(rows, objects, iou_threshold=0.5, inclusive=False):
    """FOUND, WRONG or IGNORED for every detection by the VOC devkit's rules: (D,) int8.

    What a detection's best object is does not depend on the other detections, so no loop is needed:
    an object is found by the first (highest score) of the detections that have it as their best.
    """
    best, best_iou = best_objects(rows, objects, inclusive)
    hit = np.flatnonzero((best >= 0) & (best_iou >= iou_threshold))
    states = np.full(len(best), WRONG, np.int8)
    states[hit[np.unique(best[hit], return_index=True)[1]]] = FOUND
    states[hit[objects.difficult[best[hit]]]] = IGNORED
    return states


def per_class(rows, objects, states, ignored):
    """One (scores, found bool, wrong bool, number of objects) per class, detections by falling score."""
    number = np.bincount(objects.label[~ignored], minlength=len(rows.start) - 1)
    for c, (a, b) in enumerate(zip(rows.start[:-1], rows.start[1:])):
        yield rows.score[a:b], states[a:b] == FOUND, states[a:b] == WRONG, int(number[c])


def recall_precision(found, wrong, number, tiny=0.0):
    """Recall and the precision envelope at every found detection: two arrays (found,).

    The points between need not be looked at: recall stands still there and precision only falls. The envelope is
    the best precision at this recall or a higher one.
    """
    k = np.arange(1, found.sum() + 1)
    precision = k / (k + np.cumsum(wrong)[found] + tiny)
    return k / max(number, 1), np.maximum.accumulate(precision[::-1])[::-1]


def area_ap(recall, envelope, number):
    """VOC 2010 and later: the area under the envelope. Every found object adds 1/number to the recall."""
    return float(envelope.sum() / number) if number else None


def eleven_point_ap(recall, envelope, number):
    """VOC 2007: the mean of the best precision at recall >= 0, 0.1 ... 1. The points are i/10 exactly: 0.1 * 3 is above 3/10."""
    at = np.searchsorted(recall, np.arange(11) / 10)
    return float(np.append(envelope, 0.0)[at].mean()) if number else None


def mean(values):
    """Mean of those that are not None; None where nothing is left."""
    values = [value for value in values if value is not None]
    return float(np.mean(values)) if values else None


def voc_ap(detections, truths, num_classes, iou_threshold=0.5, inclusive=False):
    """VOC average precision: dict(map_area, map_11, area [K], eleven [K]), fractions, None for a class without objects.

    area: the rule since VOC2010.  eleven: the 11-point rule of VOC2007.  No cut on the number of detections.
    """
    rows, objects = flatten(detections, truths, num_classes)
    return voc_ap_of(rows, objects, voc_states(rows, objects, iou_threshold, inclusive))


def voc_ap_of(rows, objects, states):
    curves = [(*recall_precision(found, wrong, number), number)
              for _, found, wrong, number in per_class(rows, objects, states, objects.difficult)]
    area, eleven = [area_ap(*curve) for curve in curves], [eleven_point_ap(*curve) for curve in curves]
    return {"map_area": mean(area), "map_11": mean(eleven), "area": area, "eleven": eleven}


def group_places(rows):
    """Detections with those of one group side by side, in each group by falling score: (place (D,), rank in its group (D,))."""
    order = np.argsort(rows.group, kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return place, place - np.searchsorted(rows.group[order], rows.group)


def coco_turns(rows, objects, crowd, place):
    """The pairs that can match at all, by turn: a list of (row, object, iou). Turn i holds the i-th detection (by falling
    score) of every group at once; as groups never share an object, the detections of one turn cannot disturb each other."""
    parts = [(row[keep], thing[keep], iou[keep]) for row, thing, iou, _ in overlaps(rows, objects, crowd=crowd)
             for keep in [iou >= COCO_IOUS[0]]]
    if not sum(len(part[0]) for part in parts):
        return []
    row, thing, iou = (np.concatenate(column) for column in zip(*parts))
    order = np.argsort(place[row], kind="stable")
    row, thing, iou = row[order], thing[order], iou[order]
    count = np.cumsum(np.diff(row, prepend=-1) != 0)                  # 1, 2 ...: the detection this pair belongs to
    new_group = np.diff(rows.group[row], prepend=-1) != 0
    turn = count - np.maximum.accumulate(np.where(new_group, count, 0))
    order = np.argsort(turn, kind="stable")
    cuts = np.flatnonzero(np.diff(turn[order])) + 1
    return list(zip(*(np.split(column[order], cuts) for column in (row, thing, iou))))


def coco_states(rows, turns, crowd, ignored):
    """FOUND, WRONG or IGNORED for every detection at every IoU threshold by pycocotools' rules: (D, T) int8.

    A detection takes, of the objects that are free and overlap enough, the one of highest IoU (the last wins a tie);
    ignored objects only when no other is left. A crowd object is never used up.
    """
    states = np.full((len(rows.score), len(COCO_IOUS)), WRONG, np.int8)
    taken = np.zeros((len(ignored), len(COCO_IOUS)), bool)
    for row, thing, iou in turns:
        begin = np.flatnonzero(np.diff(row, prepend=-1))
        size = np.diff(begin, append=len(row))
        free = ~taken[thing] | crowd[thing, None]                                            # (P, T)
        value = np.where(free & (iou[:, None] >= COCO_IOUS), iou[:, None], -1.0)             # (P, T)
        real = np.where(ignored[thing, None], -1.0, value)                                   # (P, T)
        has_real = np.maximum.reduceat(real, begin) >= 0                                     # (detections, T)
        value = np.where(np.repeat(has_real, size, axis=0), real, value)
        best = np.repeat(np.maximum.reduceat(value, begin), size, axis=0)                    # (P, T)
        position = np.where((value == best) & (value >= 0), np.arange(len(row))[:, None], -1)
        last = np.maximum.reduceat(position, begin)                                          # (detections, T)
        d, t = np.nonzero(last >= 0)
        thing = thing[last[d, t]]
        taken[thing, t] = True
        states[row[begin][d], t] = np.where(ignored[thing], IGNORED, FOUND)
    return states


def coco_ap(detections, truths, num_classes):
    """COCO average precision: dict(AP, AP50, AP75, APs, APm, APl, per_class [K], per_class_50 [K]), fractions or None.

    AP: mean over the IoU thresholds 0.5, 0.55 ... 0.95. APs, APm, APl: objects up to 32², 32² to 96², from 96² pixels.
    """
    return coco_ap_of(*flatten(detections, truths, num_classes))


def coco_ap_of(rows, objects):
    crowd = objects.crowd | objects.difficult
    place, rank = group_places(rows)
    turns = coco_turns(rows, objects, crowd, place)
    area_of = [(box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]) for box in (rows.box, objects.box)]
    table = {}                                                        # area name -> per class: (T,) or None
    for name, (low, high) in COCO_AREAS.items():
        outside, ignored = [(area < low) | (area > high) for area in area_of]
        ignored = ignored | crowd
        states = coco_states(rows, turns, crowd, ignored)
        states[(states == WRONG) & outside[:, None]] = IGNORED
        states[rank >= COCO_MOST] = IGNORED                           # they came last, so they took nothing from the others
        table[name] = [coco_class_ap(found, wrong, number) for _, found, wrong, number in per_class(rows, objects, states, ignored)]

    def over_classes(name, column=slice(None)):
        return mean([None if values is None else values[column].mean() for values in table[name]])

    result = {"AP": over_classes("all"), "AP50": over_classes("all", 0), "AP75": over_classes("all", 5)}
    result.update({"AP" + name[0]: over_classes(name) for name in ("small", "medium", "large")})
    result["per_class"] = [None if values is None else float(values.mean()) for values in table["all"]]
    result["per_class_50"] = [None if values is None else float(values[0]) for values in table["all"]]
    return result


def coco_class_ap(found, wrong, number):
    """AP of one class at every IoU threshold: (T,), or None without objects. found, wrong: (D, T) bool.

    The envelope is read at 101 recalls, 0 where the recall is not reached. pycocotools adds the smallest
    number to the divisor, therefore here too.
    """
    if not number:
        return None
    values = np.zeros(len(COCO_IOUS))
    for t in range(len(COCO_IOUS)):
        recall, envelope = recall_precision(found[:, t], wrong[:, t], number, tiny=np.spacing(1))
        values[t] = np.append(envelope, 0.0)[np.searchsorted(recall, COCO_RECALLS)].mean()
    return values


def rates(found, wrong, number):
    """found, wrong, number of objects -> dict(precision, recall, f1), None where the divisor is 0."""
    return {"precision": float(found / (found + wrong)) if found + wrong else None,
            "recall": float(found / number) if number else None,
            "f1": float(2 * found / (found + wrong + number)) if number else None}


def precision_recall_f1(detections, truths, num_classes, score_threshold=0.5, iou_threshold=0.5, inclusive=False):
    """At score >= score_threshold, VOC's rules: a list over classes of dict(tp, fp, fn, precision, recall, f1)."""
    rows, objects = flatten(detections, truths, num_classes)
    states = voc_states(rows, objects, iou_threshold, inclusive)
    return [rates_at(*one, score_threshold) for one in per_class(rows, objects, states, objects.difficult)]


def rates_at(scores, found, wrong, number, threshold):
    accepted = scores >= threshold
    tp, fp = int((found & accepted).sum()), int((wrong & accepted).sum())
    return {"tp": tp, "fp": fp, "fn": number - tp, **rates(tp, fp, number)}


def best_f1(scores, found, wrong, number):
    """The score threshold at which F1 is highest, and what it gives: dict(score, precision, recall, f1), all None without one."""
    if not number or not found.any():
        return dict.fromkeys(("score", "precision", "recall", "f1"))
    last = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)          # equal scores are accepted together
    tp, fp = np.cumsum(found)[last], np.cumsum(wrong)[last]
    i = int(np.argmax(2 * tp / (tp + fp + number)))
    return {"score": float(scores[last[i]]), **rates(int(tp[i]), int(fp[i]), number)}


def log_average_miss_rate(detections, truths, num_classes, iou_threshold=0.5, inclusive=False):
    """Log-average miss rate per class (0 is best, None without objects), false positives counted per image of the whole list.

    The geometric mean of 1 - recall, at least 1e-10, at nine rates of false positives per image from 0.01 to 1
    (Dollar et al., Pedestrian Detection, 2012, §3.2); 1 where the curve has not begun.
    """
    rows, objects = flatten(detections, truths, num_classes)
    states = voc_states(rows, objects, iou_threshold, inclusive)
    return [miss_rate(*one, len(truths)) for one in per_class(rows, objects, states, objects.difficult)]


def miss_rate(scores, found, wrong, number, images):
    if not number:
        return None
    missed = np.append(1.0, 1 - np.cumsum(found) / number)
    at = np.searchsorted(np.cumsum(wrong) / images, MISS_RATE_POINTS, side="right")
    return float(np.exp(np.log(np.maximum(missed[at], 1e-10)).mean()))


def confusion_matrix(detections, truths, num_classes, score_threshold=0.25, iou_threshold=0.45):
    """(K+1, K+1) int64: rows are predicted classes (the last row: objects missed), columns true ones (the last: background).

    Detections above score_threshold, by falling score: each takes its best free object of any class with
    IoU > iou_threshold. Difficult and crowd play no part.
    """
    matrix = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    for one, truth in zip(detections, truths):
        score, true = np.asarray(one["scores"], np.float64), np.asarray(truth["labels"], np.int64)
        box = np.asarray(one["boxes"], np.float64).reshape(-1, 4)
        keep = np.flatnonzero((score > score_threshold) & np.isfinite(score) & np.isfinite(box).all(1))
        keep = keep[np.argsort(-score[keep], kind="stable")]
        predicted = np.asarray(one["labels"], np.int64)[keep]
        iou = box_iou(box[keep, None], np.asarray(truth["boxes"], np.float64).reshape(1, -1, 4))        # (P, G)
        partner = np.full(len(keep), num_classes)
        for i in np.flatnonzero((iou > iou_threshold).any(1)):
            best = int(np.argmax(iou[i]))
            if iou[i, best] > iou_threshold:
                partner[i] = true[best]
                iou[:, best] = -1.0                                             # no longer free
        np.add.at(matrix, (predicted, partner), 1)
        free = (iou >= 0).all(0) if len(keep) else np.ones(len(true), bool)
        np.add.at(matrix[num_classes], true[free], 1)
    return matrix


def detection_results(detections, truths, class_names, score_threshold=0.5, inclusive=False):
    """All numbers of an evaluation as plain values, ready for JSON; fractions, None where undefined.

    map50: the mean VOC AP (area, the rule since 2010) at IoU 0.5, the number that training logs; voc10 is the same
    number, voc07 the 11-point one. map50_95: COCO's AP. A class without objects is None and left out of every mean,
    so all means are None when nothing can be found at all. `objects` are those that count, `difficult` the others.
    per_class: name, objects, difficult, detections, ap50 (= voc10), voc07, ap50_95, miss_rate; precision, recall, f1 at
    score >= score_threshold; best_score with best_precision, best_recall, best_f1: where F1 is highest.
    """
    rows, objects = flatten(detections, truths, len(class_names))
    states = voc_states(rows, objects, 0.5, inclusive)
    voc, coco = voc_ap_of(rows, objects, states), coco_ap_of(rows, objects)
    difficult = np.bincount(objects.label[objects.difficult], minlength=len(class_names))
    table = []
    for c, one in enumerate(per_class(rows, objects, states, objects.difficult)):
        at, best = rates_at(*one, score_threshold), best_f1(*one)
        table.append({"name": class_names[c], "objects": one[-1], "difficult": int(difficult[c]), "detections": len(one[0]),
                      "ap50": voc["area"][c], "voc07": voc["eleven"][c], "ap50_95": coco["per_class"][c],
                      "miss_rate": miss_rate(*one, len(truths)),
                      **{name: at[name] for name in ("precision", "recall", "f1")},
                      **{"best_" + name: best[name] for name in ("score", "precision", "recall", "f1")}})
    return {"map50": voc["map_area"], "map50_95": coco["AP"], "voc07": voc["map_11"], "voc10": voc["map_area"],
            "coco": {name: coco[name] for name in ("AP", "AP50", "AP75", "APs", "APm", "APl")},
            "images": len(truths), "objects": int((~objects.difficult).sum()), "difficult": int(objects.difficult.sum()),
            "detections": len(rows.score), "not_finite": rows.not_finite, "score_threshold": float(score_threshold),
            "per_class": table}


def detection_curves(detections, truths, class_names, inclusive=False):
    """What the curves are drawn from: a list over classes of dicts.

    name, objects, ap50; recall, envelope: one value per object found; thresholds: (101,) 0 ... 1 with
    precision, f1 (NaN where undefined) and recall_at at score >= threshold.
    """
    rows, objects = flatten(detections, truths, len(class_names))
    states = voc_states(rows, objects, 0.5, inclusive)
    thresholds = np.linspace(0, 1, 101)
    curves = []
    for c, (scores, found, wrong, number) in enumerate(per_class(rows, objects, states, objects.difficult)):
        recall, envelope = recall_precision(found, wrong, number)
        accepted = np.searchsorted(-scores, -thresholds, side="right")                       # how many are >= threshold
        tp, fp = (np.append(0, np.cumsum(flag))[accepted] for flag in (found, wrong))
        with np.errstate(divide="ignore", invalid="ignore"):
            precision, recall_at = tp / (tp + fp), tp / number if number else np.full(101, np.nan)
            f1 = 2 * tp / (tp + fp + number) if number else np.full(101, np.nan)
        curves.append({"name": class_names[c], "objects": number, "ap50": area_ap(recall, envelope, number), "recall": recall,
                       "envelope": envelope, "thresholds": thresholds, "precision": precision, "recall_at": recall_at, "f1": f1})
    return curves
