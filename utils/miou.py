"""Metrics of segmentation: pixels of every true class that were given every class, and what is computed from these counts."""
import numpy as np

from utils.errors import UserError
from utils.images import IGNORED


def count_confusion(truth, labels, num_classes, where=""):
    """One picture -> (K, K) int64 pixel counts, rows true classes, columns predicted ones. Add them up over the pictures.

    truth: (h, w) uint8, IGNORED pixels do not count.  labels: (h, w) uint8, the prediction.  where: begins the error, e.g. the file.
    Errors: sizes that differ; a true value that is neither a class nor IGNORED; a predicted value that is no class, anywhere.
    """
    if truth.dtype != np.uint8 or labels.dtype != np.uint8:
        raise TypeError(f"count_confusion takes uint8, not {truth.dtype} and {labels.dtype}")
    where = f"{where}: " if where else ""
    if truth.shape != labels.shape:
        (height, width), (h, w) = truth.shape, labels.shape
        turned = " (it lies on its side)" if (height, width) == (w, h) else ""
        raise UserError(f"{where}the prediction is {w} x {h} pixels{turned}, the mask {width} x {height}.")
    pairs = truth.astype(np.uint16).ravel()
    pairs <<= 8
    pairs |= labels.ravel()
    counts = np.bincount(pairs, minlength=65536).reshape(256, 256)          # of all pairs of values: the impossible ones show up too
    known = f"there are {num_classes} classes, 0 to {num_classes - 1}"
    check_values(f"{where}the mask", counts[num_classes:IGNORED].sum(1), num_classes, f"{known}, and {IGNORED} for what is not labelled")
    check_values(f"{where}the prediction", counts[:, num_classes:].sum(0), num_classes, known)
    return counts[:num_classes, :num_classes].copy()


def check_values(what, counts, first, known):
    """Stop when one of the values first, first + 1, ... occurs. counts: how many pixels have each of them."""
    bad = np.flatnonzero(counts)
    if len(bad):
        found = ", ".join(f"{first + i} ({counts[i]} pixels)" for i in bad[:5]) + (" ..." if len(bad) > 5 else "")
        raise UserError(f"{what} holds the value{'s' if len(bad) > 1 else ''} {found}, but {known}.")


def ratio(part, whole):
    """One fraction per class, NaN where the divisor is 0."""
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)


def mean(values):
    """Mean of those that are defined, None without any."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else None


def segmentation_results(matrix, class_names):
    """All numbers of an evaluation as plain values, ready for JSON; fractions, None where undefined.

    matrix: (K, K) int64 of count_confusion, summed over the pictures.
    Per class: iou = right / (true or predicted); pa (pixel accuracy, recall) = right / true; precision = right / predicted;
    f1 (Dice) = 2 * right / (true + predicted); pixels: true ones; predicted: given this class among the labelled ones.
    miou and mf1 are means over the classes with a true or predicted pixel, mpa over those with a true one, mprecision over
    those with a predicted one; absent: names of the classes without either. accuracy: right / all; fwiou: mean IoU,
    weighted with the true pixels. Background is a class like the others.
    Source: Fully Convolutional Networks, arXiv 1411.4038, §5; the mean over what occurs as in VOC and Cityscapes.
    """
    matrix = np.asarray(matrix, np.int64)
    right, true, predicted = np.diag(matrix), matrix.sum(1), matrix.sum(0)
    total = int(matrix.sum())
    values = {"iou": ratio(right, true + predicted - right), "pa": ratio(right, true),
              "precision": ratio(right, predicted), "f1": ratio(2 * right, true + predicted)}
    table = [{"name": name, **{key: None if np.isnan(one[c]) else float(one[c]) for key, one in values.items()},
              "pixels": int(true[c]), "predicted": int(predicted[c])} for c, name in enumerate(class_names)]
    return {**{"m" + key: mean(one) for key, one in values.items()},
            "accuracy": int(right.sum()) / total if total else None,
            "fwiou": float(np.nansum(true * values["iou"]) / total) if total else None,
            "pixels": total, "absent": [row["name"] for row in table if row["iou"] is None], "per_class": table}
