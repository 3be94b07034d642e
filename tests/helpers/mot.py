"""Tracks against the truth: a made sequence whose truth is known, and the usual measures of tracks.

MOTA: Bernardin and Stiefelhagen, "Evaluating Multiple Object Tracking Performance: The CLEAR MOT Metrics", 2008.
IDF1: Ristani et al., arXiv 1609.01775.
"""
import itertools

import numpy as np

from utils.prediction.overlap import iou

WIDTH, HEIGHT, FRAMES = 640, 360, 120


def made_sequence(seed=0):
    """Six objects of one class that move, cross, vanish behind one another and are missed now and then.

    -> list over the frames of (truth: dict number -> box, boxes (P, 4), scores (P,)).  What the detector makes of the
    truth: places are off by a few px; an object that is hidden by more than a third has a score of 0.15 to 0.45, by
    more than three quarters it is not found; one box in fifty is missed anyway, the third object in the frames 70 to 79
    as well; every fifth frame has a box where nothing is.
    """
    rng = np.random.default_rng(seed)
    # centre x, centre y, velocity x, velocity y, width, height; later ones stand in front of earlier ones
    objects = np.array([[60, 100, 4.2, 0.4, 50, 90], [600, 110, -4.4, 0.3, 46, 84], [80, 250, 3.5, 0.1, 80, 50],
                        [560, 252, -3.6, 0, 76, 52], [320, 40, 0.2, 2.2, 40, 60], [330, 330, 0.1, -2.3, 44, 66]], float)
    sequence = []
    for frame in range(FRAMES):
        centres = objects[:, :2] + objects[:, 2:4] * frame
        truth = dict(enumerate(np.hstack([centres - objects[:, 4:] / 2, centres + objects[:, 4:] / 2]), 1))
        truth = {number: box for number, box in truth.items() if box[0] > 0 and box[1] > 0 and box[2] < WIDTH and box[3] < HEIGHT}
        sequence.append((truth, *detected(frame, truth, rng)))
    return sequence


def detected(frame, truth, rng):
    boxes, scores = [], []
    for number, box in truth.items():
        in_front = [other for n, other in truth.items() if n > number]
        hidden = max([shared(box, other) for other in in_front], default=0)
        missed = hidden > 0.75 or rng.random() < 0.02 or number == 3 and 70 <= frame < 80
        noise = rng.normal(0, 1.5, 4)
        score = rng.uniform(0.15, 0.45) if hidden > 0.33 else rng.uniform(0.6, 0.95)
        if not missed:
            boxes.append(box + noise)
            scores.append(score)
    if frame % 5 == 2:
        x, y = rng.uniform(0, WIDTH - 40), rng.uniform(0, HEIGHT - 40)
        boxes.append([x, y, x + 40, y + 40])
        scores.append(rng.uniform(0.1, 0.55))
    return np.array(boxes).reshape(-1, 4), np.array(scores)


def shared(box, other):
    """The share of a box that another one covers."""
    width, height = np.clip(np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2]), 0, None)
    return width * height / np.prod(box[2:] - box[:2])


def mot_metrics(frames, least=0.5):
    """frames: list of (truth, found), each a dict number -> box. -> dict mota, idf1, switches, missed, false."""
    switches = missed = false = total = 0
    last, together = {}, {}
    for truth, found in frames:
        total += len(truth)
        overlap = iou(np.array(list(truth.values())).reshape(-1, 4), np.array(list(found.values())).reshape(-1, 4))
        names, numbers = list(truth), list(found)
        for i, j in zip(*np.nonzero(overlap >= least)):
            together[names[i], numbers[j]] = together.get((names[i], numbers[j]), 0) + 1

        # Who was together stays together, the rest is joined by overlap.
        pairs = {name: last[name] for name in names if last.get(name) in numbers
                 and overlap[names.index(name), numbers.index(last[name])] >= least}
        for i, j in sorted(zip(*np.nonzero(overlap >= least)), key=lambda pair: -overlap[pair]):
            if names[i] not in pairs and numbers[j] not in pairs.values():
                pairs[names[i]] = numbers[j]
        switches += sum(name in last and last[name] != number for name, number in pairs.items())
        missed += len(truth) - len(pairs)
        false += len(found) - len(pairs)
        last |= pairs

    # IDF1: each object belongs to one track of the whole sequence, so that the most frames agree.
    right = best_sum(together)
    claimed = sum(len(found) for _, found in frames)
    return {"mota": 1 - (missed + false + switches) / total, "idf1": 2 * right / (total + claimed), "switches": switches,
            "missed": missed, "false": false}


def best_sum(values):
    """The largest sum of values[row, column] with every row and column used once at most: all ways are tried, which is
    what makes it slow and certain."""
    rows = sorted({row for row, _ in values})
    columns = sorted({column for _, column in values}) + [None] * len(rows)
    best = {(): 0}                                              # columns that are used -> the best sum so far
    for row in rows:
        following = {}
        for used, total in best.items():
            for column in columns[:len(columns) - len(rows) + 1]:
                if column is not None and column in used:
                    continue
                key = used if column is None else tuple(sorted((*used, column)))
                following[key] = max(following.get(key, 0), total + values.get((row, column), 0))
        best = following
    return max(best.values())


def best_join(overlap, least):
    """What the Hungarian method would find, by trying everything: pairs (row, column) of the best sum."""
    small, turned = (overlap, False) if len(overlap) <= len(overlap.T) else (overlap.T, True)
    best = max(itertools.permutations(range(small.shape[1]), len(small)), key=lambda columns: sum(
        small[row, column] for row, column in enumerate(columns) if small[row, column] > least))
    pairs = [(row, column) for row, column in enumerate(best) if small[row, column] > least]
    return sorted((column, row) if turned else (row, column) for row, column in pairs)
