"""An .onnx file against the network that it was made of: what both find in the same pictures, after NMS."""
from types import SimpleNamespace

import numpy as np
from tqdm import tqdm

from utils.errors import UserError
from utils.evaluate import detect, segment
from utils.images import fitted_size
from utils.metrics import detection_results
from utils.miou import count_confusion, list_results
from utils.prediction.onnx_engine import VARYING
from utils.prediction.suppression import iou_with
from utils.settings import counted

BOX = 1e-3                      # px of the input that an edge may be off
SCORE = 1e-4                    # and a score
FAR = 100                       # times these limits: beyond it is another box
TWIN = 0.3                      # IoU with a box that is as good
MOST = 100                      # boxes of a picture
LOWEST = 0.001                  # score from which on boxes count in a mean AP
PIXELS = 1e-3                   # share of pixels that may get another class: where two are as likely
CONFIDENCES = (0.3, 0.05, 0.01, 0.001)      # the first at which there is something to compare


def compare(model, engine, images):
    """-> largest differences: edges in px of the input, scores; found: boxes, or pixels of another class.

    Error: they are larger than allowed, or one side finds what the other does not.
    """
    difference = SimpleNamespace(boxes=0.0, scores=0.0, found=0, confidence=None)
    if model.task == "segmentation":
        compare_regions(model, engine, images, difference)
    else:
        compare_objects(model, engine, images, difference)

    # Without a picture that shows what is different nobody would believe it, so it is an error.
    if not (difference.boxes <= BOX and difference.scores <= SCORE):
        raise UserError(f"The graph does not compute what the network does: boxes differ by up to "
                        f"{difference.boxes:.2g} pixels of the input (allowed {BOX:g}), scores by up to "
                        f"{difference.scores:.2g} (allowed {SCORE:g}). Nothing was written.")
    return difference


def compare_objects(model, engine, images, difference):
    """The boxes of both. difference: is filled in."""
    # With the suppression inside its values are given; else so that there is something to compare.
    inside = engine.info["suppression"]
    most = inside["max_boxes"] if inside else MOST
    nms_iou = inside["nms_iou"] if inside else engine.info["nms_iou"]
    for confidence in [inside["confidence"]] if inside else CONFIDENCES:
        ours = [detect(model, [image], engine.input_shape, confidence, nms_iou, most, engine.fit)[0]
                for image in images]
        if sum(len(one["boxes"]) for one in ours) >= len(images):
            break

    # In one batch where the inputs are of one size.
    groups = [[image] for image in images] if engine.fit in VARYING else [images]
    theirs = [found for group in groups for found in engine.detect(group, confidence, nms_iou, most)]
    difference.confidence = confidence

    for number, (one, other, image) in enumerate(zip(ours, theirs, images), 1):
        # A box whose score is that of the limit may be on one side of it here, on the other there.
        full = [some["scores"].min() for some in (one, other) if len(some["scores"]) == most]
        cut = max([confidence, *full])
        boxes, scores, lost = gaps(one, other, cut + SCORE)
        if lost:
            raise UserError(f"Picture {number}: {counted(lost, 'box')} of score {cut:.3g} or more "
                            "are found by the network and not by the graph, or by the graph alone. "
                            "Nothing was written.")

        # Pixels of the picture may be smaller than those of the input.
        fitted = fitted_size(*image.shape[:2], engine.input_shape, engine.fit)
        scale = max(1, *(side / small for side, small in zip(image.shape, fitted)))
        difference.boxes = max(difference.boxes, boxes / scale)
        difference.scores = max(difference.scores, scores)
        difference.found += len(one["boxes"])


def gaps(ours, theirs, cut):
    """Each box with its nearest of the same class -> largest difference of an edge, of a score; how many
    above `cut` have none."""
    free = np.ones(len(theirs["boxes"]), bool)
    edges, scores, lost = [0.0], [0.0], 0
    for box, score, label in zip(ours["boxes"], ours["scores"], ours["labels"]):
        # What could be the same box: much further off than allowed, so that a difference is measured.
        edge = np.abs(theirs["boxes"] - box).max(1, initial=0)                      # (P,)
        near = np.abs(theirs["scores"] - score) < FAR * SCORE                       # (P,)
        possible = np.flatnonzero(free & near & (theirs["labels"] == label) & (edge < FAR * BOX))
        if not len(possible):
            lost += int(score > cut and not has_twin(box, score, label, theirs))
            continue

        partner = possible[edge[possible].argmin()]
        free[partner] = False
        edges.append(float(edge[partner]))
        scores.append(abs(float(score - theirs["scores"][partner])))
    for box, score, label in zip(*(theirs[name][free] for name in ("boxes", "scores", "labels"))):
        lost += int(score > cut and not has_twin(box, score, label, ours))
    return max(edges), max(scores), lost


def has_twin(box, score, label, others):
    """Whether another box of this score is there: of two equal ones NMS keeps the one or the other."""
    equal = (others["labels"] == label) & (np.abs(others["scores"] - score) <= SCORE)
    return bool((iou_with(box, others["boxes"][equal]) > TWIN).any())


def compare_regions(model, engine, images, difference):
    """The class of every pixel, and the best score of every class. difference: is filled in."""
    threshold = engine.info["settings"].get("threshold") or 0.5
    other = pixels = 0
    for image in images:
        (ours,) = segment(model, [image], engine.input_shape, threshold)
        (theirs,) = engine.segment([image], threshold)

        # The best score of a class, and which pixels it got.
        difference.scores = max(difference.scores, float(np.abs(ours["best"] - theirs["best"]).max()))
        other += int((ours["labels"] != theirs["labels"]).sum())
        pixels += ours["labels"].size

    difference.found = other
    if other > PIXELS * pixels:
        raise UserError(f"The graph does not compute what the network does: {other / pixels:.2%} of the "
                        f"pixels get another class (allowed {PIXELS:.1%}). Nothing was written.")


def measure(engine, data):
    """-> "mAP50:95" of a detector on a list or "mIoU" of a network for segmentation, and its value.

    data: a DetectionData or SegmentationData.
    """
    detections, matrix = [], 0
    for index in tqdm(range(len(data)), desc="measuring", leave=False, disable=None):
        image = data.whole_image(index)
        if data.task == "detection":
            detections += engine.detect([image], LOWEST, engine.info["nms_iou"], 3 * MOST)
            continue

        # Of masks only the counts are kept.
        (found,) = engine.segment([image], engine.info["settings"].get("threshold") or 0.5)
        truth = data.truth(index, found["labels"].shape)
        matrix = matrix + count_confusion(truth, found["labels"], len(data.class_names), data.masks[index])

    if data.task == "detection":
        return "mAP50:95", detection_results(detections, data.truths(), data.class_names)["map50_95"]
    return "mIoU", list_results(matrix, data.class_names)["miou"]
