"""Metrics of segmentation: pixels of every true class that were given every class, and what is computed from these counts."""
import numpy as np

from utils.errors import UserError
from utils.images import IGNORED
from utils.report import number, text_table

COLUMNS = ("iou", "pa", "precision", "f1", "pixels", "predicted")
MEANS = (("mIoU", "miou", "mean IoU over the classes that occur, in the truth or in the predictions"),
         ("mPA", "mpa", "mean PA over the classes that occur in the truth"),
         ("mPrecision", "mprecision", "mean precision over the classes that were predicted"),
         ("mF1", "mf1", "mean F1 over the classes of the mIoU"),
         ("accuracy", "accuracy", "share of all labelled pixels that are right; large classes decide it"),
         ("FWIoU", "fwiou", "mean IoU, each class weighted with its share of the labelled pixels"))


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


def segmentation_report(results):
    """segmentation_results -> text: a table with one line per class, and the overall numbers with what they mean."""
    table = [["class", *COLUMNS]] + [[row["name"], *(number(row[column]) for column in COLUMNS)] for row in results["per_class"]]
    images = f"{results['images']} images, " if "images" in results else ""
    lines = text_table(table) + [
        "",
        "iou: right pixels / those that are of the class, were given it, or both. pa, the pixel accuracy, is the recall; f1 is Dice.",
        f"{images}{results['pixels']} labelled pixels; the others (value {IGNORED}) count nowhere. –: undefined."]
    if results["absent"]:
        lines.append(f"Left out of the means, because neither the truth nor a prediction holds them: {', '.join(results['absent'])}.")
    foreign = [row["name"] for row in results["per_class"] if row["predicted"] and not row["pixels"]]
    if foreign:
        lines.append(f"Predicted, but nowhere in the truth, hence iou 0: {', '.join(foreign)}.")
    width = max(len(name) for name, _, _ in MEANS)
    return "\n".join([*lines, "", *(f"{name:<{width}}  {number(results[key]):<5}  {meaning}" for name, key, meaning in MEANS)])
