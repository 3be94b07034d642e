"""Losses that two papers or more use."""
import torch.nn.functional as F


def sigmoid_focal(logits, truth, alpha=0.25, gamma=2.0):
    """Focal loss of independent yes/no predictions, not reduced: easy ones count little.

    logits, truth: (...) -> (...).  alpha: weight of the positives (the negatives have 1 - alpha); None: no weights.
    Source: Focal Loss for Dense Object Detection, arXiv 1708.02002, eq. 5.
    """
    wrong = (truth - logits.sigmoid()).abs()
    loss = wrong**gamma * F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    return loss if alpha is None else loss * (alpha * truth + (1 - alpha) * (1 - truth))


def smooth_labels(truth, amount):
    """Label smoothing for independent yes/no targets: 1 becomes 1 - amount/2 and 0 becomes amount/2. truth: (...) -> (...)."""
    return truth * (1 - amount) + 0.5 * amount
