"""How good is a segmenter? Pixels counted by true and predicted class, and what follows from the counts."""
import cv2
import numpy as np

from utils.errors import UserError
from utils.images import IGNORED

EXACT = 2**24                   # whole numbers up to here are all floats of 32 bits


def count_confusion(truth, labels, num_classes, where=""):
    """One image -> (K, K) int64 pixel counts, rows true classes, columns predicted ones. Add them up.

    truth: (h, w) uint8, IGNORED pixels do not count.  labels: (h, w) uint8, the prediction.
    where: begins the error message, e.g. the file.
    Errors: sizes that differ; a true value that is neither a class nor IGNORED; a predicted value that is no
    class, also where the pixel is IGNORED.
    """
    # What does not fit is reported, never counted.
    if truth.dtype != np.uint8 or labels.dtype != np.uint8:
        raise TypeError(f"count_confusion takes uint8, not {truth.dtype} and {labels.dtype}")
    where = f"{where}: " if where else ""
    if truth.shape != labels.shape:
        (height, width), (h, w) = truth.shape, labels.shape
        turned = " (rotated by 90 degrees)" if (height, width) == (w, h) else ""
        raise UserError(f"{where}the prediction is {w} x {h} pixels{turned}, the mask {width} x {height}.")

    # All 256 x 256 pairs of values are counted, so that impossible ones show up too. OpenCV is quickest, but
    # counts in float32, which is exact only up to EXACT: so larger images are counted in strips.
    counts = np.zeros((256, 256), np.int64)                                         # (256, 256)
    both = truth.reshape(1, -1), labels.reshape(1, -1)                              # (1, n), (1, n)
    for first in range(0, truth.size, EXACT):
        strips = [values[:, first:first + EXACT] for values in both]                # (1, m), (1, m)
        counts += cv2.calcHist(strips, [0, 1], None, [256, 256], [0, 256, 0, 256]).astype(np.int64)

    known = f"there are {num_classes} classes, 0 to {num_classes - 1}"
    known_true = f"{known}, and {IGNORED} for what is not labelled"
    check_labels(f"{where}the mask", counts[num_classes:IGNORED].sum(1), num_classes, known_true)
    check_labels(f"{where}the prediction", counts[:, num_classes:].sum(0), num_classes, known)
    return counts[:num_classes, :num_classes].copy()                                # (K, K)


def check_labels(what, counts, first, known):
    """Stop when one of the values first, first + 1, ... occurs. counts: how many pixels have each of them."""
    bad = np.flatnonzero(counts)
    if len(bad):
        found = [f"{first + i} ({counts[i]} {'pixel' if counts[i] == 1 else 'pixels'})" for i in bad[:5]]
        more = " ..." if len(bad) > 5 else ""
        values = "values" if len(bad) > 1 else "value"
        raise UserError(f"{what} contains the {values} {', '.join(found)}{more}, but {known}.")


def ratio(part, whole):
    """One fraction per class, NaN where the divisor is 0."""
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)


def mean_defined(values):
    """Mean of those that are defined, None without any."""
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else None


def kappa(right, true, predicted):
    """Cohen's kappa, (accuracy - by luck) / (1 - by luck); None where luck alone is always right.

    right: pixels.  true, predicted: K pixel counts.  In whole numbers: it may be near 0 / 0.
    """
    total = sum(true)
    by_luck = sum(t * p for t, p in zip(true, predicted))                           # times total**2
    if by_luck == total**2:
        return None
    return (total * right - by_luck) / (total**2 - by_luck)


def segmentation_results(matrix, class_names):
    """All numbers of an evaluation as plain values, ready for JSON; fractions, None where undefined.

    matrix: (K, K) int64 of count_confusion, summed over the pictures.
    Per class: iou = right / (true or predicted); pa (pixel accuracy, recall) = right / true;
    precision = right / predicted; f1 (Dice) = 2 * right / (true + predicted); pixels: true ones;
    predicted: given this class among the labelled ones. Background is a class like the others.
    miou and mf1 are means over the classes with a true or predicted pixel, mpa over those with a true one,
    mprecision over those with a predicted one; absent: names of the classes without either.
    kappa: how far the accuracy is above that of a network which says each class as often as this one, but
    anywhere, as a share of what is possible: 0 is luck, 1 is perfect (Cohen's kappa).
    accuracy: right / all; fwiou: mean IoU, weighted with the true pixels.
    Source: Fully Convolutional Networks, arXiv 1411.4038, §5; means as in VOC and Cityscapes.
    """
    # On the diagonal true and predicted class are the same; a row holds all true pixels of its class.
    matrix = np.asarray(matrix, np.int64)                                           # (K, K)
    right = np.diag(matrix)                                                         # (K,)
    true = matrix.sum(1)                                                            # (K,)
    predicted = matrix.sum(0)                                                       # (K,)
    total = int(matrix.sum())
    values = {                                                                      # (K,)
        "iou": ratio(right, true + predicted - right), "pa": ratio(right, true),
        "precision": ratio(right, predicted), "f1": ratio(2 * right, true + predicted)}

    # One row for each class.
    table = []
    for c, name in enumerate(class_names):
        fractions = {key: None if np.isnan(one[c]) else float(one[c]) for key, one in values.items()}
        table.append({"name": name, **fractions, "pixels": int(true[c]), "predicted": int(predicted[c])})

    # Over all classes: means of the columns, and two numbers in which every pixel counts the same.
    return {**{"m" + key: mean_defined(one) for key, one in values.items()},
            "accuracy": int(right.sum()) / total if total else None,
            "fwiou": float(np.nansum(true * values["iou"]) / total) if total else None,
            "kappa": kappa(int(right.sum()), true.tolist(), predicted.tolist()),
            "pixels": total, "absent": [row["name"] for row in table if row["iou"] is None],
            "per_class": table}


def list_results(matrix, class_names):
    """segmentation_results of a whole list. Where its masks hold one class only no mean is defined: a network
    that always says this class would be perfect."""
    results = segmentation_results(matrix, class_names)
    if np.count_nonzero(np.sum(matrix, 1)) == 1:
        results |= dict.fromkeys(("miou", "mpa", "mprecision", "mf1", "kappa"))
    return results
