"""Losses that two papers or more use: for detection, and all that a segmenter is trained with."""
import math
import statistics

import torch
import torch.nn as nn
import torch.nn.functional as F

from utils.errors import UserError, did_you_mean
from utils.images import IGNORED
from utils.system.distributed import batch_mean

FOCAL_GAMMA = 2.0               # Focal Loss, §5.1: the best of those tried there
OHEM_SURE = 0.7                 # a pixel whose true class has less probability than this is a hard one
OHEM_SHARE = 0.05               # and so is at least this share of the labelled pixels, the hardest of them
TVERSKY = (0.3, 0.7)            # what a wrongly taken and a missed pixel count: the paper's best, table 1


def sigmoid_focal(logits, truth, alpha=0.25, gamma=2.0):
    """Focal loss of independent yes/no predictions, not reduced: easy ones count little.

    logits, truth: (...) -> (...).
    alpha: weight of the positives (the negatives have 1 - alpha); None: no weights.
    Source: Focal Loss for Dense Object Detection, arXiv 1708.02002, eq. 5.
    """
    wrong = (truth - logits.sigmoid()).abs()                                        # (...,): by how much, 0-1
    loss = wrong**gamma * F.binary_cross_entropy_with_logits(logits, truth, reduction="none")       # (...,)
    if alpha is None:
        return loss                                                                 # (...,)
    return loss * (alpha * truth + (1 - alpha) * (1 - truth))                       # (...,)


def smooth_labels(truth, amount):
    """Label smoothing of yes/no targets, (...) -> (...): 1 becomes 1 - amount/2 and 0 becomes amount/2."""
    return truth * (1 - amount) + 0.5 * amount                                      # (...,)


def true_class_log(logits, masks):
    """log p of the true class of every pixel (anything where none is labelled), and where one is labelled.

    logits: (B, K, H, W).  masks: (B, H, W) int64, IGNORED = not labelled.
    -> (B, H, W) float32, (B, H, W) bool.
    The one number per pixel that cross_entropy, focal and ohem are made of. Picked with gather: no array of K
    ones and zeros per pixel, and on a GPU the same bits in every run, which torch's own cross-entropy of
    images does not promise.
    """
    labelled = masks != IGNORED                                                     # (B, H, W)
    true = masks.where(labelled, 0)[:, None]                                        # (B, 1, H, W); IGNORED is no class
    log_p = F.log_softmax(logits.float(), 1).gather(1, true)[:, 0]                  # (B, H, W)
    return log_p, labelled                                                          # (B, H, W), (B, H, W)


def mean_over(loss, counted, masks, class_weights=None):
    """Mean of loss over the counted pixels, weighted by their true class; 0, with gradient 0, without any.

    loss: (B, H, W), finite.  counted: (B, H, W) bool.  class_weights: (K,) or None: all 1.  -> ()
    sum(w * loss) / sum(w), as torch's weight= does it: doubling all weights changes nothing.
    """
    if class_weights is None:
        weights = counted.float()                                                   # (B, H, W)
    else:
        weights = class_weights[masks.where(counted, 0)] * counted                  # (B, H, W)
    total = batch_mean(weights.sum())                                               # (); the mean over all processes
    return (weights * loss).sum() / total.where(total > 0, 1.0)                     # ()


def cross_entropy(logits, masks, class_weights=None):
    """Mean of -log p, p being the probability of a pixel's true class.  (B, K, H, W), (B, H, W) -> ()"""
    log_p, labelled = true_class_log(logits, masks)                                 # (B, H, W), (B, H, W)
    return mean_over(-log_p, labelled, masks, class_weights)                        # ()


def focal(logits, masks, class_weights=None, gamma=FOCAL_GAMMA):
    """Mean of -(1 - p)**gamma * log p: nearly right pixels hardly count.  (B, K, H, W), (B, H, W) -> ()

    The class weights take the place of the paper's alpha. In detection the sum is divided by the number of
    objects, here by that of the pixels.
    Source: Focal Loss for Dense Object Detection, arXiv 1708.02002, eq. 4 and 5.
    """
    log_p, labelled = true_class_log(logits, masks)                                 # (B, H, W), (B, H, W)
    wrong = -torch.expm1(log_p)                                                     # (B, H, W); 1 - p, also exact near p = 1
    return mean_over(-(wrong**gamma) * log_p, labelled, masks, class_weights)       # ()


def ohem(logits, masks, class_weights=None, sure=OHEM_SURE, share=OHEM_SHARE):
    """Cross-entropy of the hard pixels alone (online hard example mining).  (B, K, H, W), (B, H, W) -> ()

    Hard are those whose true class has a probability below `sure`, and in any case `share` of the labelled
    pixels, the hardest (and all that equal the last of these): without this hardly a pixel would be left once
    the network is good. A share and not a number of pixels, so that it means the same at every input size and
    batch size.
    Source: Training Region-based Object Detectors with Online Hard Example Mining, arXiv 1604.03540;
    for pixels, with threshold and least number: High-performance Semantic Segmentation Using Very Deep FCNs,
    arXiv 1604.04339.
    """
    log_p, labelled = true_class_log(logits, masks)                                 # (B, H, W), (B, H, W)

    # Which pixels are hard is a choice and has no gradient. The least sure pixel that is taken in any case
    # draws the line.
    with torch.no_grad():
        hardest_first = log_p.where(labelled, math.inf).flatten().sort().values     # (B*H*W,)
        least = (labelled.sum() * share).ceil().long().clamp(min=1)                 # (); at least one pixel
        line = hardest_first[least - 1]                                             # ()
        hard = labelled & ((log_p < math.log(sure)) | (log_p <= line))              # (B, H, W)
    return mean_over(-log_p, hard, masks, class_weights)                            # ()


def label_smoothing(logits, masks, class_weights=None):
    """Mean over all classes of -log p: least where no class is given up.  (B, K, H, W), (B, H, W) -> ()

    Not to be used alone. {"cross_entropy": 0.9, "label_smoothing": 0.1} is the cross-entropy with smoothed
    labels: the true class is asked for 0.9, and a tenth is shared among all. It keeps a network from being
    ever surer of labels that may be wrong.
    Source: Rethinking the Inception Architecture, arXiv 1512.00567, section 7.
    """
    labelled = masks != IGNORED                                                     # (B, H, W)
    log_p = F.log_softmax(logits.float(), 1).mean(1)                                # (B, H, W)
    return mean_over(-log_p, labelled, masks, class_weights)                        # ()


def dice(logits, masks, class_weights=None):
    """1 - the mean Dice coefficient of the classes that occur in the truth.  (B, K, H, W), (B, H, W) -> ()

    Dice of class c over all labelled pixels of the batch: 2 * sum(p_c where c is true) / (sum(p_c) + pixels
    of c). Rare and frequent classes count the same, therefore class_weights are not used.
    A class that does not occur has no coefficient (0/0 when the prediction is right), so it is left out:
    pixels that it gets wrongly are missing in the other classes. A class that occurs has at least one pixel,
    so its divisor is at least 1 and needs no smoothing term: a right and confident prediction gives 0,
    however small the objects.
    Of several processes each takes this over its own share of the batch: a mean of such fractions is not that
    of the whole batch.
    Source: V-Net, arXiv 1606.04797, §3, without its squares; several classes as in arXiv 1707.03237.
    """
    p, true = probabilities(logits, masks)                                          # (B, K, H, W), (B, K, H, W)
    pixels = true.sum((0, 2, 3))                                                    # (K,)
    coefficient = 2 * (p * true).sum((0, 2, 3)) / (p.sum((0, 2, 3)) + pixels).clamp(min=1)          # (K,)
    occurs = (pixels > 0).float()                                                   # (K,)
    return ((1 - coefficient) * occurs).sum() / occurs.sum().clamp(min=1)           # ()


def tversky(logits, masks, class_weights=None, taken=TVERSKY[0], missed=TVERSKY[1]):
    """1 - the mean Tversky index of the classes that occur in the truth.  (B, K, H, W), (B, H, W) -> ()

    Of class c: right / (right + taken * wrongly + missed * missing), each a sum of probabilities. At 0.5, 0.5
    it is dice; a pixel that is missed counts more here, which helps where the objects are small and few.
    What is said of dice about class_weights, absent classes and several processes holds here too.
    Source: Tversky loss function for image segmentation, arXiv 1706.05721, eq. 4.
    """
    p, true = probabilities(logits, masks)                                          # (B, K, H, W), (B, K, H, W)
    pixels = true.sum((0, 2, 3))                                                    # (K,)
    right = (p * true).sum((0, 2, 3))                                               # (K,)
    wrongly, missing = p.sum((0, 2, 3)) - right, pixels - right                     # (K,), (K,)
    occurs = (pixels > 0).float()                                                   # (K,)
    whole = (right + taken * wrongly + missed * missing).where(pixels > 0, 1.0)     # (K,)
    return ((1 - right / whole) * occurs).sum() / occurs.sum().clamp(min=1)         # ()


def lovasz(logits, masks, class_weights=None):
    """The mean over the classes that occur of 1 - IoU, made smooth.  (B, K, H, W), (B, H, W) -> ()

    IoU counts pixels, and a count has no gradient. Sort the pixels of a class by how wrong they are, the
    worst first, and give up one after the other: each costs some IoU. The loss is the sum of the errors, each
    weighted with that cost. It is 1 - IoU itself where every error is 0 or 1, and in between its gradient
    knows what a pixel is worth. class_weights are not used, as in dice. It learns slowly from scratch: put it
    beside cross_entropy.
    Source: The Lovasz-Softmax loss, arXiv 1705.08790, eq. 8 and 11, algorithm 1.
    """
    p, true = probabilities(logits, masks)                                          # (B, K, H, W), (B, K, H, W)
    p, true = (x.transpose(0, 1).flatten(1) for x in (p, true))                     # (K, B*H*W), (K, B*H*W)
    errors, order = (p - true.float()).abs().sort(1, descending=True)               # (K, N), (K, N)
    true = true.gather(1, order)                                                    # (K, N)

    # IoU when the first 1, 2, ... N of them are wrong, in whole numbers. Ignored pixels have no error and no
    # class: they come last and cost nothing.
    given_up = true.long().cumsum(1)                                                # (K, N)
    places = torch.arange(1, true.shape[1] + 1, device=p.device)                    # (N,)
    pixels = given_up[:, -1:]                                                       # (K, 1)
    union = (pixels + places - given_up).clamp(min=1)                               # (K, N)
    lost = 1 - (pixels - given_up) / union                                          # (K, N)

    # What each pixel costs: the difference to the one before.
    cost = torch.diff(lost, dim=1, prepend=torch.zeros_like(lost[:, :1]))           # (K, N)
    occurs = (pixels[:, 0] > 0).float()                                             # (K,)
    return ((errors * cost).sum(1) * occurs).sum() / occurs.sum().clamp(min=1)      # ()


def probabilities(logits, masks):
    """Softmax, 0 where nothing is labelled; whether a class is the true one. -> (B, K, H, W) float32, bool"""
    labelled = (masks != IGNORED)[:, None]                                          # (B, 1, H, W)
    p = F.softmax(logits.float(), 1).where(labelled, 0.0)                           # (B, K, H, W)
    classes = torch.arange(p.shape[1], device=p.device)[:, None, None]              # (K, 1, 1)
    true = masks[:, None] == classes                                                # (B, K, H, W)
    return p, true                                                                  # (B, K, H, W), (B, K, H, W)


PARTS = {"cross_entropy": cross_entropy, "focal": focal, "ohem": ohem, "dice": dice, "lovasz": lovasz,
         "tversky": tversky, "label_smoothing": label_smoothing}


def softmax_logits(logits):
    """Logits of a segmenter -> (B, K, H, W) for softmax.

    One channel x, a yes or no per pixel, becomes the two channels (0, x): softmax gives these exactly
    sigmoid(-x) and sigmoid(x), so every loss above is its own binary form.
    """
    if logits.shape[1] != 1:
        return logits                                                               # (B, K, H, W)
    return torch.cat([torch.zeros_like(logits), logits], 1)                         # (B, 2, H, W)


def class_scores(logits):
    """Logits (B, K, H, W), or (B, 1, H, W) of a sigmoid network (K = 2) -> (B, K, H, W) float32, 0-1."""
    return F.softmax(softmax_logits(logits.float()), 1)                             # (B, K, H, W)


class SegmentationLoss(nn.Module):
    """The loss of every segmenter: a sum of parts, each with its weight.

    num_classes: K, background included.
    parts: dict name -> weight > 0; names: those of PARTS; None: {"cross_entropy": 1.0}.
    class_weights: K numbers >= 0 or None; they weigh the pixels of cross_entropy, focal and ohem by their
    true class.
    sigmoid: one output channel instead of two when there are two classes.  `channels`: what the network must
    put out.
    """

    def __init__(self, num_classes, parts=None, class_weights=None, sigmoid=False):
        super().__init__()
        self.parts = check_parts({"cross_entropy": 1.0} if parts is None else parts)
        if sigmoid and num_classes != 2:
            raise UserError("sigmoid=True is for two classes, background and one more; "
                            f"there are {num_classes}. Set sigmoid=False.")
        self.channels = 1 if sigmoid else num_classes
        weights = None
        if class_weights is not None:
            weights = torch.tensor(check_class_weights(class_weights, num_classes))
        self.register_buffer("class_weights", weights, persistent=False)    # a setting, not something learned

    def forward(self, logits, targets, weight=1.0, prefix=""):
        """All parts of the loss. -> {prefix + name: () float32}

        logits: (B, channels, H, W).  targets: list of B dicts, "mask" (H, W) int64.
        weight multiplies every part, prefix begins its name: what an auxiliary head needs. The masks are on
        the device of the logits. IGNORED pixels count in no part; when a batch has no others, every part is 0
        with a gradient of 0.
        """
        masks = torch.stack([target["mask"] for target in targets])                 # (B, H, W)
        batch, channels, height, width = logits.shape
        if channels != self.channels or (batch, height, width) != masks.shape:
            raise ValueError(f"logits {tuple(logits.shape)} do not fit masks {tuple(masks.shape)} "
                             f"and {self.channels} channels")

        logits = softmax_logits(logits)                                             # (B, K, H, W)
        losses = {}
        for name, part in self.parts.items():
            losses[prefix + name] = weight * part * PARTS[name](logits, masks, self.class_weights)          # ()
        return losses


def check_parts(parts):
    """The parts of a loss as the user gave them -> dict name -> float."""
    if not isinstance(parts, dict) or not parts:
        raise UserError(f'loss={parts!r}: expected parts with their weights, '
                        f'like {{"cross_entropy": 1.0, "dice": 1.0}}. Parts: {", ".join(PARTS)}.')
    for name, weight in parts.items():
        if name not in PARTS:
            raise UserError(f'loss={parts!r}: there is no part "{name}".{did_you_mean(name, PARTS)} '
                            f'Parts: {", ".join(PARTS)}.')
        if not is_number(weight) or weight <= 0:
            raise UserError(f'loss={parts!r}: the weight of "{name}" must be a number above 0.')
    return {name: float(weight) for name, weight in parts.items()}


def check_class_weights(weights, num_classes):
    """The class weights as the user gave them -> list of K floats."""
    if not isinstance(weights, (list, tuple)) or len(weights) != num_classes:
        count = f"{len(weights)} numbers" if isinstance(weights, (list, tuple)) else repr(weights)
        raise UserError(f"class_weights holds {count}: expected {num_classes}, one for each class, "
                        "background included.")
    if not all(is_number(weight) and weight >= 0 for weight in weights) or not any(weights):
        raise UserError(f"class_weights={weights!r}: expected numbers, 0 or more, and one of them above 0.")
    return [float(weight) for weight in weights]


def is_number(value):
    """A finite number; True and False are none, though Python counts them as 1 and 0."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def balanced_weights(pixels):
    """Class weights against rare classes: the median share of a class divided by the share of this one.

    pixels: K pixel counts of the training masks, IGNORED not among them.  -> list of K floats. The median
    class has weight 1. A class without pixels gets 0, since no pixel needs its weight in training, and it is
    left out of the median. The paper takes the shares only over the images that contain the class; here over
    all.
    Source: median frequency balancing, Eigen and Fergus 2015, arXiv 1411.4734.
    """
    present = [int(count) for count in pixels if count > 0]
    if not present:
        raise UserError('class_weights="balanced": the training masks contain no labelled pixel.')
    middle = statistics.median(present)
    return [middle / int(count) if count > 0 else 0.0 for count in pixels]
