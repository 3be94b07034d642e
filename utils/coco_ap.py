"""Average precision by COCO's rules, with the numbers that pycocotools gives. numpy only.

What differs from VOC (utils/voc_ap.py):
* ten IoU thresholds, 0.5 to 0.95; the result is the mean over them. The precision is read at 101 recalls.
* A detection takes the best object that is still free, so it has a second choice. VOC's has none.
* 100 detections per image and class.
* Crowd objects are ignored: IoU = intersection / area of the detection, and any number of detections may lie
  in one. Difficult is treated as crowd: it is the only way in which pycocotools ignores an object that a
  file can ask for, so the stock tool gives the same number.
* APs, APm and APl ignore objects of another size, and detections of another size that found nothing.
* A box is x2 - x1 wide, never one more.

Why there are turns. pycocotools goes through images, classes, thresholds and detections one by one, as
`slow_coco_states` in tests/helpers/slow_metrics.py does. Whether an object is still free depends on the
earlier detections of its group (a class in an image) and on nothing else. So all groups can choose at once:
in the first turn the surest detection of every group, in the next turn the second one of every group. There
are as many turns as the fullest group has detections: some dozens instead of half a million.

Shapes: P detections and G objects of all images together, M pairs of the two, n detections of one turn;
10 thresholds.
"""
import numpy as np

from utils.voc_ap import FOUND, IGNORED, WRONG, flatten, mean, paired_ious, per_class, recall_precision

COCO_IOUS = np.linspace(0.5, 0.95, 10)
COCO_RECALLS = np.linspace(0, 1, 101)                # as in pycocotools; some are not i/100 to the last bit
COCO_MOST = 100                                      # detections per image and class
COCO_AREAS = {"all": (0, 1e10), "small": (0, 32**2),  # both ends inclusive
              "medium": (32**2, 96**2), "large": (96**2, 1e10)}


def coco_ap(detections, truths, num_classes):
    """COCO average precision: dict(AP, AP50, AP75, APs, APm, APl, per_class [K], per_class_50 [K]).

    All are fractions or None. AP: mean over the IoU thresholds 0.5, 0.55 ... 0.95. APs, APm, APl: objects up
    to 32², 32² to 96², from 96² pixels.
    """
    return coco_ap_of(*flatten(detections, truths, num_classes))


def coco_ap_of(rows, objects):
    """`coco_ap` from the tables of voc_ap.flatten."""
    crowd = objects.crowd | objects.difficult                                              # (G,)
    place, rank = group_places(rows)                                                       # (P,), (P,)
    turns = coco_turns(rows, objects, crowd, place)

    # The same turns serve all sizes of objects; only what is ignored differs.
    tables = {}                                             # area name -> per class: (10,) or None
    for name, (low, high) in COCO_AREAS.items():
        states, ignored = states_of_size(rows, objects, turns, crowd, rank, low, high)     # (P, 10), (G,)
        tables[name] = [coco_class_ap(found, wrong, total)
                        for _, found, wrong, total in per_class(rows, objects, states, ignored)]

    # The mean over thresholds and classes; per_class only over the thresholds.
    whole = tables["all"]
    result = {"AP": average(whole), "AP50": average(whole, 0), "AP75": average(whole, 5)}
    for name in ("small", "medium", "large"):
        result["AP" + name[0]] = average(tables[name])
    result["per_class"] = [None if values is None else float(values.mean()) for values in whole]
    result["per_class_50"] = [None if values is None else float(values[0]) for values in whole]
    return result


def states_of_size(rows, objects, turns, crowd, rank, low, high):
    """The states when only objects with an area of low..high count.

    -> states: (P, 10).  ignored: (G,) bool, the objects that do not count.
    """
    ignored = crowd | outside(objects.box, low, high)                                      # (G,)
    states = coco_states(rows, turns, crowd, ignored)                                      # (P, 10)
    states[(states == WRONG) & outside(rows.box, low, high)[:, None]] = IGNORED

    # The 101st detection and later ones came last, so they took no object from the others.
    states[rank >= COCO_MOST] = IGNORED
    return states, ignored                                                                 # (P, 10), (G,)


def outside(box, low, high):
    """Which boxes (n, 4) have an area that is not in low..high: (n,) bool."""
    area = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])                               # (n,)
    return (area < low) | (area > high)


def average(classes, threshold=slice(None)):
    """Mean over the classes with objects, of all thresholds or of the one with this number.

    classes: (10,) or None for each.
    """
    return mean([None if values is None else values[threshold].mean() for values in classes])


def group_places(rows):
    """Detections with those of one group side by side, in each group by falling score.

    -> place: (P,) a detection's position in that order.  rank: (P,) its position within its group.
    """
    order = np.argsort(rows.group, kind="stable")                                          # (P,)
    place = np.empty(len(order), np.int64)                                                 # (P,)
    place[order] = np.arange(len(order))                                                   # (P,)
    return place, place - np.searchsorted(rows.group[order], rows.group)                   # (P,), (P,)


def coco_turns(rows, objects, crowd, place):
    """The pairs that can match at all, by turn: a list of (row, thing, iou).

    Turn i holds the pairs of the i-th detection (by falling score) of every group; detections without such a
    pair take no turn. Groups never share an object, so the detections of one turn cannot get in each other's
    way.
    """
    row, thing, iou = close_pairs(rows, objects, crowd, place)                             # (M,), (M,), (M,)
    if not len(row):
        return []

    # Count the detections, 1, 2, 3 ..., and subtract the count at which the group began.
    count = np.cumsum(np.diff(row, prepend=-1) != 0)                                       # (M,)
    new_group = np.diff(rows.group[row], prepend=-1) != 0                                  # (M,)
    turn = count - np.maximum.accumulate(np.where(new_group, count, 0))                    # (M,)

    # Sort by turn and cut where the next one begins.
    order = np.argsort(turn, kind="stable")                                                # (M,)
    cuts = np.flatnonzero(np.diff(turn[order])) + 1
    return list(zip(*(np.split(values[order], cuts) for values in (row, thing, iou))))


def close_pairs(rows, objects, crowd, place):
    """Pairs that overlap enough for the lowest threshold, by `place`. -> row, thing, iou: (M,) each"""
    parts = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    for row, thing, iou, _ in paired_ious(rows, objects, crowd=crowd):
        close = iou >= COCO_IOUS[0]
        parts.append((row[close], thing[close], iou[close]))
    row, thing, iou = (np.concatenate(values) for values in zip(*parts))                   # (M,), (M,), (M,)
    order = np.argsort(place[row], kind="stable")                                          # (M,)
    return row[order], thing[order], iou[order]                                            # (M,), (M,), (M,)


def coco_states(rows, turns, crowd, ignored):
    """FOUND, WRONG or IGNORED for every detection at every IoU threshold by pycocotools' rules: (P, 10) int8.

    A crowd object is never used up, any other by the first detection that takes it.
    """
    states = np.full((len(rows.score), len(COCO_IOUS)), WRONG, np.int8)                    # (P, 10)
    taken = np.zeros((len(ignored), len(COCO_IOUS)), bool)                                 # (G, 10)
    for row, thing, iou in turns:
        begin = np.flatnonzero(np.diff(row, prepend=-1))                                   # (n,)
        free = ~taken[thing] | crowd[thing, None]                                          # (M, 10)
        pair = choose(iou, free, ignored[thing], begin)                                    # (n, 10)

        # Write down what was taken, at each threshold on its own: detection d takes an object at threshold t.
        d, t = np.nonzero(pair >= 0)
        thing = thing[pair[d, t]]
        taken[thing, t] = True
        states[row[begin][d], t] = np.where(ignored[thing], IGNORED, FOUND)
    return states                                                                          # (P, 10)


def choose(iou, free, ignored, begin):
    """Which pair each detection of a turn takes, at every threshold: (n, 10), -1 for none.

    iou: (M,), the pairs of one detection side by side.  free, ignored: (M, 10), (M,) bool, of the pair's
    object.  begin: (n,), where the pairs of each detection begin.
    """
    size = np.diff(begin, append=len(iou))                                                 # (n,)

    # What a pair is worth: its IoU where the object is free and the IoU high enough, else -1.
    value = np.where(free & (iou[:, None] >= COCO_IOUS), iou[:, None], -1.0)               # (M, 10)

    # Objects that count come first; an ignored one is taken only where no other is left.
    counting = np.where(ignored[:, None], -1.0, value)                                     # (M, 10)
    any_counting = np.maximum.reduceat(counting, begin) >= 0                               # (n, 10)
    value = np.where(np.repeat(any_counting, size, axis=0), counting, value)               # (M, 10)

    # The highest IoU wins, of equal ones the last. reduceat: the maximum of each detection's own pairs.
    best = np.repeat(np.maximum.reduceat(value, begin), size, axis=0)                      # (M, 10)
    position = np.where((value == best) & (value >= 0), np.arange(len(iou))[:, None], -1)  # (M, 10)
    return np.maximum.reduceat(position, begin)                                            # (n, 10)


def coco_class_ap(found, wrong, total):
    """AP of one class at every IoU threshold: (10,), or None without objects. found, wrong: (N, 10) bool.

    The envelope is read at 101 recalls, 0 where the recall is not reached. pycocotools adds the smallest
    number to the divisor, therefore here too.
    """
    if not total:
        return None
    values = np.zeros(len(COCO_IOUS))                                                      # (10,)
    for t in range(len(COCO_IOUS)):
        recall, envelope = recall_precision(found[:, t], wrong[:, t], total, tiny=np.spacing(1))
        at = np.searchsorted(recall, COCO_RECALLS)                                         # (101,)
        values[t] = np.append(envelope, 0.0)[at].mean()
    return values                                                                          # (10,)
