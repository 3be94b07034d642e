"""A picture through an engine: what was found, and the picture with it drawn on it."""
from collections import Counter

import numpy as np

from utils.results import masks
from utils.results.draw import draw_boxes
from utils.results.filters import thresholds_of

LOWEST = 0.001              # boxes down to this score are asked for, to say how close the best one came


def find_objects(s, engine, image, video=False):
    """One image through a detector.

    -> picture to show, found: {"boxes": [...]} as the .json has it, a note when there is nothing to see,
    None (see find_regions).
    """
    names = engine.class_names
    wanted = thresholds_of(s, names)                                                # (K,)
    lowest = wanted if video else np.where(np.isfinite(wanted), np.minimum(LOWEST, wanted), wanted)
    (every,) = engine.detect([image], lowest, s.nms_iou, s.max_boxes, kind=s.nms, agnostic=s.agnostic_nms,
                             most_per_class=s.max_per_class)
    sure = every["scores"] >= wanted[every["labels"]]
    boxes, scores, labels = (every[name][sure] for name in ("boxes", "scores", "labels"))
    found = [{"label": names[label], "score": round(float(score), 4),
              "xyxy": [round(float(edge), 2) for edge in box]}
             for box, score, label in zip(boxes, scores, labels)]

    # How close the best box came tells whether to lower `confidence` or to train longer.
    note = ""
    if not found and len(every["scores"]):
        best, score = names[every["labels"][0]], every["scores"][0]
        note = f'nothing reaches confidence={s.confidence:g}; the best was "{best}" with {score:.3f}'
    elif not found:
        note = f"nothing reaches confidence={s.confidence:g}; no box has even {LOWEST}"
    picture = draw_boxes(image, boxes, labels, names, scores, s.line_width, s.show_labels)
    return picture, {"boxes": found}, note, None


def find_regions(s, engine, image, video=False):
    """The same with a network for segmentation. -> picture, {"classes": [...]}, note,
    labels (h, w) uint8 of the pixels."""
    names = engine.class_names
    (every,) = engine.segment([image], s.threshold, s.scales, s.flip, s.slide)
    labels, best = every["labels"], every["best"]
    classes = masks.pixel_shares(labels, names)

    # One class alone is rarely what was hoped for: how close was the next one?
    note = ""
    if len(classes) == 1 and len(names) > 1:
        only = names.index(classes[0]["label"])
        other = max((i for i in range(len(names)) if i != only), key=lambda i: best[i])
        note = f'everything is "{names[only]}"; ' \
               f'the best other class is "{names[other]}" with {best[other]:.3g} at its best pixel'

    # The legend of a picture names what is in it, that of a video every class: its frames are of one size.
    legend = masks.legend(image.shape[1], names, None if video else classes)
    picture = np.vstack([masks.blend(image, labels, names, s.opacity), legend])
    return picture, {"classes": classes}, note, labels


def tally(found):
    """-> Counter of objects or of pixels by class name."""
    if "boxes" in found:
        return Counter(box["label"] for box in found["boxes"])
    return Counter({row["label"]: row["pixels"] for row in found["classes"]})
