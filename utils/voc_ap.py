"""Which detections are right? The rules of Pascal VOC, and average precision. numpy only.

The idea: go through the detections of a class by falling score and call each one found (it has an object),
wrong (it has none, or one that was found before) or ignored. After k found and w wrong ones, recall is
k / objects and precision is k / (k + w). Average precision is the area under that curve.

VOC's rules (VOCevaldet.m): a detection looks only at its best object, and needs an IoU of 0.5. A detection
whose best object is difficult is neither found nor wrong. VOC has no crowd: here a crowd object counts like
any other.

All images are computed at once, in whole columns. The same rules as plain loops, one detection after the
other, are in tests/helpers/slow_metrics.py: read those first.

Shapes: P detections and G objects of all images together, M pairs of the two.
"""
from types import SimpleNamespace

import numpy as np

FOUND, WRONG, IGNORED = 1, 0, -1                     # the states of a detection


def flatten(detections, truths, num_classes):
    """The two lists of images (see utils/metrics.py) -> two tables, `rows` of detections and `objects`.

    rows: columns image, label, score, box, group, sorted by class and falling score; start (K+1,): class c is
    start[c]:start[c+1]; not_finite: how many detections were dropped.
    objects: columns image, label, box, group, difficult, crowd.
    A group is a pair of class and image: only within a group can a detection and an object belong together.
    """
    if len(detections) != len(truths):
        raise ValueError(f"{len(detections)} images with detections, {len(truths)} with truths")

    objects = table(truths, num_classes)
    objects.difficult = column(truths, "difficult", bool)                                  # (G,)
    objects.crowd = column(truths, "crowd", bool)                                          # (G,)
    rows = table(detections, num_classes)
    rows.score = column(detections, "scores", np.float64)                                  # (N,)

    # A network that diverged puts out NaN. Such detections leave the table, and their number is reported.
    finite = np.flatnonzero(np.isfinite(rows.score) & np.isfinite(rows.box).all(1))        # (P,)
    not_finite = len(rows.score) - len(finite)

    # By class, and within a class the surest first. lexsort is stable: ties keep the order of the images.
    order = finite[np.lexsort((-rows.score[finite], rows.label[finite]))]                  # (P,)
    sorted_columns = {name: values[order] for name, values in vars(rows).items()}
    rows = SimpleNamespace(**sorted_columns, not_finite=not_finite)
    rows.start = np.searchsorted(rows.label, np.arange(num_classes + 1))                   # (K+1,)
    return rows, objects


def table(images, num_classes):
    """What the tables of detections and objects have in common: the columns image, label, group and box."""
    label = column(images, "labels", np.int64)                                             # (N,)
    if len(label) and not 0 <= label.min() <= label.max() < num_classes:
        raise ValueError(f"labels must be 0..{num_classes - 1}, not {label.min()}..{label.max()}")

    image = np.repeat(np.arange(len(images)), [len(one["labels"]) for one in images])      # (N,)
    group = label * len(images) + image                                                    # (N,)
    return SimpleNamespace(image=image, label=label, group=group, box=column(images, "boxes", np.float64))


def column(images, name, kind):
    """One field of all images in one array. Where "difficult" or "crowd" is missing, no object is."""
    shape = (-1, 4) if name == "boxes" else (-1,)
    parts = [np.zeros(0, kind).reshape(shape)]              # a list without images gives an empty column
    for image in images:
        values = image[name] if name in image else np.zeros(len(image["labels"]))
        parts.append(np.asarray(values, kind).reshape(shape))
    return np.concatenate(parts)


def box_iou(first, second, inclusive=False, crowd=None):
    """IoU of boxes that correspond. first: (..., 4) and second: (..., 4) xyxy pixels.

    inclusive: see utils/metrics.py.  crowd: (...) bool, where it is True: intersection / area of first.
    """
    one = 1.0 if inclusive else 0.0
    width = np.minimum(first[..., 2], second[..., 2]) - np.maximum(first[..., 0], second[..., 0]) + one
    height = np.minimum(first[..., 3], second[..., 3]) - np.maximum(first[..., 1], second[..., 1]) + one
    shared = np.where((width > 0) & (height > 0), width * height, 0.0)

    first_area = (first[..., 2] - first[..., 0] + one) * (first[..., 3] - first[..., 1] + one)
    second_area = (second[..., 2] - second[..., 0] + one) * (second[..., 3] - second[..., 1] + one)
    union = first_area + second_area - shared
    if crowd is not None:
        union = np.where(crowd, first_area, union)

    # Where nothing is shared the IoU is 0, also for two boxes without area: nothing is divided by 0.
    return np.divide(shared, union, out=np.zeros_like(shared), where=shared > 0)


def paired_ious(rows, objects, inclusive=False, crowd=None, most=1_000_000):
    """Every detection with every object of its group, in portions of about `most` pairs to bound the memory.

    Yields (row, thing, iou, begin): row, thing, iou (M,): numbers of detection and object, and their IoU; the
    pairs of one detection side by side, objects in their order.  begin: (n,) where the pairs of each
    detection begin.
    """
    # Sorted by group, the partners of a detection are neighbours: `count` objects from `first` on.
    order = np.argsort(objects.group, kind="stable")                                       # (G,)
    group = objects.group[order]                                                           # (G,)
    first = np.searchsorted(group, rows.group)                                             # (P,)
    count = np.searchsorted(group, rows.group, side="right") - first                       # (P,)

    # Only detections with a partner make pairs. Cut where the running count passes a multiple of `most`.
    paired = np.flatnonzero(count)
    portion = np.cumsum(count[paired]) // most
    cuts = np.flatnonzero(np.diff(portion)) + 1
    for part in np.split(paired, cuts):
        if not len(part):
            continue

        # Pair by pair: detection 7 with three partners becomes 7, 7, 7, and its partners are
        # first, first + 1, first + 2.
        times = count[part]                                                                # (n,)
        begin = np.cumsum(times) - times                                                   # (n,)
        row = np.repeat(part, times)                                                       # (M,)
        thing = order[np.repeat(first[part] - begin, times) + np.arange(len(row))]         # (M,)
        iou = box_iou(rows.box[row], objects.box[thing], inclusive, None if crowd is None else crowd[thing])    # (M,)
        yield row, thing, iou, begin


def best_objects(rows, objects, inclusive=False):
    """Each detection's best object of its group, in a tie the first: (P,) its number or -1, (P,) IoU."""
    best = np.full(len(rows.score), -1)                                                    # (P,)
    best_iou = np.zeros(len(rows.score))                                                   # (P,)
    for row, thing, iou, begin in paired_ious(rows, objects, inclusive):
        # reduceat takes the maximum of each detection's own stretch of pairs.
        top = np.maximum.reduceat(iou, begin)                                              # (n,)
        times = np.diff(begin, append=len(row))                                            # (n,)

        # Several pairs may reach the maximum: the first of them is the one with the smallest position.
        reaches_top = iou == np.repeat(top, times)                                         # (M,)
        position = np.where(reaches_top, np.arange(len(row)), len(row))                    # (M,)
        winner = np.minimum.reduceat(position, begin)                                      # (n,)
        best[row[begin]] = thing[winner]                                                   # (n,)
        best_iou[row[begin]] = top                                                         # (n,)
    return best, best_iou                                                                  # (P,), (P,)


def voc_states(rows, objects, iou_threshold=0.5, inclusive=False):
    """FOUND, WRONG or IGNORED for every detection by the VOC devkit's rules: (P,) int8.

    What a detection's best object is does not depend on the other detections, so no loop is needed.
    """
    best, best_iou = best_objects(rows, objects, inclusive)                                # (P,), (P,)
    hit = np.flatnonzero((best >= 0) & (best_iou >= iou_threshold))

    # An object is found by the first, that is the surest, of the detections whose best object it is. unique
    # gives that first one; the others are duplicates and stay wrong.
    states = np.full(len(best), WRONG, np.int8)                                            # (P,)
    _, surest = np.unique(best[hit], return_index=True)
    states[hit[surest]] = FOUND
    states[hit[objects.difficult[best[hit]]]] = IGNORED
    return states                                                                          # (P,)


def per_class(rows, objects, states, ignored):
    """For every class: (scores, found bool, wrong bool, total), detections by falling score.

    ignored: (G,) bool, objects that do not count.  total: how many objects of the class do.
    """
    totals = np.bincount(objects.label[~ignored], minlength=len(rows.start) - 1)           # (K,)
    for c, total in enumerate(totals):
        own = slice(rows.start[c], rows.start[c + 1])
        yield rows.score[own], states[own] == FOUND, states[own] == WRONG, int(total)


def recall_precision(found, wrong, total, tiny=0.0):
    """Recall and the precision envelope at every found detection: two arrays (k,), k detections found.

    The envelope is the best precision at this recall or a higher one. The detections between two found ones
    need not be looked at: there the recall stays the same and the precision only falls.
    tiny: added to the divisor.
    """
    count = np.arange(1, found.sum() + 1)                                                  # (k,)
    wrong_before = np.cumsum(wrong)[found]                                                 # (k,)
    precision = count / (count + wrong_before + tiny)                                      # (k,)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]                                # (k,)
    return count / max(total, 1), envelope                                                 # (k,), (k,)


def area_ap(recall, envelope, total):
    """VOC 2010 and later: the area under the envelope. Every found object adds 1 / total to the recall."""
    return float(envelope.sum() / total) if total else None


def eleven_point_ap(recall, envelope, total):
    """VOC 2007: the mean of the best precision at recall >= 0, 0.1 ... 1."""
    points = np.arange(11) / 10                             # exactly: 0.1 * 3 is a little more than 3 / 10
    at = np.searchsorted(recall, points)                                                   # (11,)
    return float(np.append(envelope, 0.0)[at].mean()) if total else None


def mean(values):
    """Mean of those that are not None; None where nothing is left."""
    values = [value for value in values if value is not None]
    return float(np.mean(values)) if values else None


def voc_ap(detections, truths, num_classes, iou_threshold=0.5, inclusive=False):
    """VOC average precision: dict(map_area, map_11, area [K], eleven [K]).

    All are fractions, None for a class without objects.
    area: the rule since VOC2010.  eleven: the 11-point rule of VOC2007.  No cut on the number of detections.
    """
    rows, objects = flatten(detections, truths, num_classes)
    return voc_ap_of(rows, objects, voc_states(rows, objects, iou_threshold, inclusive))


def voc_ap_of(rows, objects, states):
    """`voc_ap` from the tables and states that are already there."""
    area, eleven = [], []
    for _, found, wrong, total in per_class(rows, objects, states, objects.difficult):
        recall, envelope = recall_precision(found, wrong, total)
        area.append(area_ap(recall, envelope, total))
        eleven.append(eleven_point_ap(recall, envelope, total))
    return {"map_area": mean(area), "map_11": mean(eleven), "area": area, "eleven": eleven}
