"""Network + images -> detections or labels; network + loader -> results, losses.

Training, get_map.py, get_miou.py and predict.py all go through here, so there is one number.
"""
from contextlib import nullcontext

import numpy as np
import torch
import torch.nn.functional as F

from utils.boxes import nms
from utils.errors import UserError
from utils.images import (
    GREY,
    MEAN,
    STEP,
    check_fit,
    fit_image,
    from_input,
    nearest_shape,
    resize,
    stack,
)
from utils.metrics import detection_results
from utils.miou import count_confusion, list_results
from utils.settings import check, fill, several, whole
from utils.system import distributed
from utils.system.bars import progress
from utils.system.device import autocast
from utils.views import covered, scaled, window_starts

SHOWN = 12                      # the predictions of so many images are kept to be drawn


def to_device(images, targets, device):
    """uint8 images (B, 3, H, W) and their targets -> float 0-1 on the device, and the targets there.

    Nothing is changed in place. The conversion happens on the device: a quarter of the bytes travel.
    """
    images = images.to(device, non_blocking=True).float().div_(255)
    moved = []
    for target in targets:
        target = dict(target)
        for name, value in target.items():
            if isinstance(value, torch.Tensor):
                target[name] = value.to(device, non_blocking=True)
        if "mask" in target:
            target["mask"] = target["mask"].long()
        moved.append(target)
    return images, moved


def choose_input(s, model, info, tight=False):
    """Fill in a script's input_shape, fit and nms_iou where they are None: as trained, as the recipe says.

    s: its settings, changed in place.  info: of nets.load.  tight: "rect" instead of "letterbox", where the
    network can take it.
    Error: the network cannot take such an input.
    """
    fill(s, {"nms_iou": model.recipe.get("nms_iou", 0.5)}, f"recipe of {info['net']}")
    as_trained = {"fit": info["settings"].get("fit", "letterbox"), "input_shape": tuple(info["input_shape"])}
    if tight and s.fit is None and as_trained["fit"] == "letterbox" and takes_rectangles(model, info):
        s.put("fit", "rect", "as trained, with less grey")
    fill(s, as_trained, "as trained")
    check(s, input_shape=several(2, whole(1)))
    check_fit(s.fit)

    # With these every image has a size of its own, so the network must take each multiple of STEP.
    near = nearest_shape(type(model), (STEP, STEP), info["options"])
    if s.fit in ("rect", "short_side") and near != (STEP, STEP):
        raise UserError(f'fit="{s.fit}" makes inputs of any height and width divisible by {STEP}; '
                        f"{info['net']} cannot take all of these (the smallest are {near[0]} x {near[1]}). "
                        'Use "letterbox" or "stretch".')
    near = nearest_shape(type(model), s.input_shape, info["options"])
    if s.fit != "short_side" and near != s.input_shape:
        raise UserError(f"input_shape={s.input_shape}: {info['net']} cannot take this size. "
                        f"The nearest is {near}.")


def takes_rectangles(model, info):
    """Whether a detector finds the same in inputs of any height and width. SSD's boxes are shares of the
    input, so its stride is 1; others lay theirs out in pixels."""
    network = type(model)
    any_size = nearest_shape(network, (STEP, STEP), info["options"]) == (STEP, STEP)
    return model.task == "detection" and network.stride > 1 and any_size


def no_clock(stage):
    return nullcontext()


@torch.inference_mode()
def detect(model, images, input_shape, confidence=0.5, nms_iou=None, max_boxes=300, fit="letterbox",
           fitted=None, precision=None, clock=no_clock, **rules):
    """Find objects in images of any size.

    images: list of (h, w, 3) uint8 RGB.  confidence, nms_iou, rules: see `suppress`.
    input_shape, fit: how the images are put into the network's input, see utils.images.fitted_size.
    fitted: what `fit_image` gave for them, where that was done before.
    precision: dtype of the network's layers, None: as they are.  clock: see utils.prediction.pipeline.
    -> list of dicts (numpy): boxes (P, 4) float32 xyxy px of the image, scores (P,) falling, labels (P,);
    where nothing was found also best: (score, label) of the highest score that there is, or None.
    """
    # Each image on a canvas of the input's size, and all canvases in one batch.
    device = next(model.parameters()).device
    canvases, transforms = zip(*(fitted or [fit_image(image, input_shape, fit) for image in images]))
    with clock("network"):
        beside = GREY if fit == "rect" else MEAN
        batch = torch.from_numpy(stack(canvases, beside)).permute(0, 3, 1, 2)       # (B, 3, H, W)
        batch, _ = to_device(batch, [], device)                                     # (B, 3, H, W)
        with autocast(device, precision):
            outputs, _ = model(batch)
        if device.type == "cuda" and clock is not no_clock:
            torch.cuda.synchronize(device)              # it has only been asked for until here

    # What remains after NMS, back in pixels of the original images.
    results = []
    with clock("decode + NMS"):
        boxes, scores = decode_good(model, outputs, confidence)                     # (B, N, 4), (B, N, K)
        detections = keep_best(model, outputs, boxes, scores, confidence, nms_iou, max_boxes, **rules)
        for found, transform, image in zip(detections, transforms, images):
            results.append(in_picture(found, transform, image.shape[:2]))

        # How close it was, of every score there is.
        if not all(len(result["boxes"]) for result in results):
            _, scores = model.decode(outputs)                                       # (B, N, K)
            for result, all_scores in zip(results, scores):
                if not len(result["boxes"]):
                    result["best"] = highest(all_scores, confidence)
    return results


def decode_good(model, outputs, confidence):
    """What `model.decode` says, without the predictions of which no class is sure, if it can."""
    if hasattr(model, "decode_above"):
        return model.decode_above(outputs, float(np.min(confidence)))
    return model.decode(outputs)


def highest(scores, confidence):
    """-> (score, label) of the best of all predictions of an image, None if there are none.

    scores: (N, K).  confidence: a number or one for each class; classes where it is infinite are left out.
    """
    wanted = torch.as_tensor(confidence, device=scores.device).expand(scores.shape[1]).isfinite()       # (K,)
    if not scores.numel() or not wanted.any():
        return None
    score, label = scores.amax(0).float().masked_fill(~wanted, -1).max(0)           # (), ()
    return score.item(), label.item()


def suppress(model, outputs, confidence, nms_iou, max_boxes, **rules):
    """A network's outputs -> what remains after NMS, see `keep_best`."""
    return keep_best(model, outputs, *model.decode(outputs), confidence, nms_iou, max_boxes, **rules)


def keep_best(model, outputs, boxes, scores, confidence, nms_iou, max_boxes, **rules):
    """A network's outputs, and what they say decoded -> what remains after NMS, see utils.boxes.nms.

    confidence: a number, or one for each class.  nms_iou: None: as the network's recipe says.
    rules: kind, agnostic, most_per_class.  How many boxes may enter the network says in `candidates`.
    """
    if nms_iou is None:
        nms_iou = model.recipe["nms_iou"]
    limits = model.candidates(outputs) if hasattr(model, "candidates") else {}
    return nms(boxes, scores, confidence, nms_iou, max_boxes, **limits, **rules)


def in_picture(found, transform, size):
    """One image's detections in input px (tensors) -> in px of the original picture (numpy)."""
    found = {name: tensor.cpu().numpy() for name, tensor in found.items()}
    found["boxes"] = from_input(found["boxes"], transform, size)
    inside = (found["boxes"][:, 2:] > found["boxes"][:, :2]).all(1)         # (P,); boxes in the padding end up empty
    return {name: values[inside] for name, values in found.items()}


@torch.inference_mode()
def collect(model, loader, device, confidence=0.001, nms_iou=None, max_boxes=300):
    """Run the network over a dataset, in eval mode. nms_iou: see `suppress`.

    -> detections: list over the images (in the list's order) of dicts boxes, scores, labels;
       truths: the same with boxes, labels, difficult; boxes (numpy) xyxy edges in px of the original image;
       losses: name -> mean over the images.
    """
    was_training = model.training
    model.eval()
    data, rows, sums = loader.dataset, [], []
    for images, targets in progress(loader, "evaluating", bar_off()):
        images, targets = to_device(images, targets, device)
        outputs, losses = model(images, targets)

        # A batch's share of the mean loss: the last batch may be smaller.
        shares = {name: float(value) * len(targets) / len(data) for name, value in losses.items()}
        sums.append((targets[0]["index"], shares))
        detections = suppress(model, outputs, confidence, nms_iou, max_boxes)
        for found, target in zip(detections, targets):
            rows.append((target["index"], in_picture(found, target["transform"], target["size"])))
    model.train(was_training)

    return [found for _, found in in_order(rows)], data.truths(), summed(sums)


def in_order(rows):
    """[(index, value)] of this process -> those of all, by index: as one process would have made them."""
    return sorted((row for part in distributed.gather(rows) for row in part), key=lambda row: row[0])


def summed(rows):
    """[(index, {name: float})] of this process -> {name: sum over all processes}.

    Added up in the order of the indices, so that any number of processes gives the same bits.
    """
    sums = {}
    for _, losses in in_order(rows):
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + value
    return sums


def bar_off():
    """For tqdm's disable: no bar where nobody looks, or where the first process shows one."""
    return True if distributed.rank() else None


@torch.inference_mode()
def segment(model, images, input_shape, threshold=0.5, scales=(1.0,), flip=False, slide=False):
    """The class of every pixel of images of any size.

    images: list of (h, w, 3) uint8 RGB.  input_shape: (H, W) of the network.
    threshold: only with two classes: a pixel is class 1 where its score is above this. Else the highest wins.
    scales, flip: the scores are the mean over copies of these sizes, and mirrored ones (multi-scale test).
    slide: windows of input_shape over the image at its own size, overlapping by a third, instead of the whole
    image shrunk into the input.
    -> list of dicts (numpy): labels (h, w) uint8; best (K,) float32, each class's highest score in the image.
    """
    results = []
    for image in images:
        # The scores of the image at every scale: with `slide` the image is resized, else the input.
        views = []
        for scale in scales:
            if slide:
                copy = resize(image, *scaled(image.shape[:2], scale))               # (n, m, 3)
                views.append(slide_scores(model, copy, input_shape, flip))
            else:
                views.append(whole_scores(model, image, scaled(input_shape, scale, model.stride), flip))

        # Their mean, at the size of the first one.
        size = views[0].shape[1:]
        total = sum(F.interpolate(view[None], size, mode="bilinear")[0] for view in views)      # (K, n, m)
        mean = total / len(views)                                                   # (K, n, m)
        labels = classify(mean, image.shape[:2], threshold)                         # (h, w)
        results.append({"labels": labels, "best": mean.amax((1, 2)).cpu().numpy()})
    return results


def scores_of(model, canvases, flip):
    """canvases: list of (H, W, 3) uint8 -> scores (B, K, H, W) float32.

    flip: the mean with those of the mirrored images, mirrored back.
    """
    batch = torch.from_numpy(np.stack(canvases)).permute(0, 3, 1, 2)                # (B, 3, H, W)
    images, _ = to_device(batch, [], next(model.parameters()).device)               # (B, 3, H, W)
    scores = model.decode(model(images)[0]).float()                                 # (B, K, H, W)
    if not flip:
        return scores                                                               # (B, K, H, W)
    mirrored = model.decode(model(images.flip(3))[0]).float()                       # (B, K, H, W)
    return (scores + mirrored.flip(3)) / 2                                          # (B, K, H, W)


def whole_scores(model, image, input_shape, flip=False):
    """The whole image in the network's input. -> scores (K, n, m) of the part that the image covers."""
    canvas, transform = fit_image(image, input_shape)
    return covered(scores_of(model, [canvas], flip)[0], transform, image.shape[:2], input_shape)


def slide_scores(model, image, input_shape, flip=False):
    """Windows of the network's input over an image. -> scores (K, h, w), the mean where windows overlap."""
    h, w = image.shape[:2]
    window_h, window_w = input_shape
    if h <= window_h and w <= window_w:
        scores = whole_scores(model, image, input_shape, flip)                      # (K, n, m)
        return F.interpolate(scores[None], (h, w), mode="bilinear")[0]              # (K, h, w)

    # An image that is narrower than a window is padded on both sides until one fits.
    padded_h, padded_w = max(h, window_h), max(w, window_w)
    padded, _ = fit_image(image, (padded_h, padded_w))                              # (padded_h, padded_w, 3)

    # Scores are added up, and for each pixel is counted how many windows have seen it.
    sums = times = None
    for y in window_starts(padded_h, window_h):
        for x in window_starts(padded_w, window_w):
            rows, columns = slice(y, y + window_h), slice(x, x + window_w)
            scores = scores_of(model, [padded[rows, columns]], flip)[0]             # (K, H, W)
            if sums is None:
                sums = scores.new_zeros(len(scores), padded_h, padded_w)            # (K, padded_h, padded_w)
                times = scores.new_zeros(padded_h, padded_w)                        # (padded_h, padded_w)
            sums[:, rows, columns] += scores
            times[rows, columns] += 1

    # The mean, without the padding.
    top, left = (padded_h - h) // 2, (padded_w - w) // 2
    return (sums / times)[:, top:top + h, left:left + w]                            # (K, h, w)


def classify(scores, size, threshold=0.5):
    """scores: (K, n, m) -> labels (h, w) uint8 at this size.

    Class by class, so that a large image with many classes fits into memory. threshold: see `segment`.
    """
    h, w = size
    labels = torch.zeros((h, w), dtype=torch.uint8, device=scores.device)           # (h, w)
    best = None                                             # the highest score of each pixel so far
    for c, plane in enumerate(scores):
        plane = F.interpolate(plane[None, None], (h, w), mode="bilinear")[0, 0]     # (h, w)
        if best is None:
            best = plane                                                            # (h, w)
            continue
        labels[plane > (threshold if len(scores) == 2 else best)] = c
        best = torch.maximum(best, plane)                                           # (h, w)
    return labels.cpu().numpy()                                                     # (h, w)


@torch.inference_mode()
def segment_list(model, loader, device, threshold=0.5, scales=(1.0,), flip=False, slide=False):
    """Run the network over a dataset, in eval mode.

    -> generator of (index, labels (h, w) uint8, losses name -> float) for each image. The losses are those of
    the image's batch; with scales, flip or slide there are none.
    """
    was_training, data = model.training, loader.dataset
    model.eval()
    try:
        # Several views of an image, or windows: from the file, each at the sizes that it needs.
        if slide or flip or tuple(scales) != (1.0,):
            for index in progress(range(len(data)), "evaluating", bar_off()):
                image = data.whole_image(index)
                (found,) = segment(model, [image], data.input_shape, threshold, scales, flip, slide)
                yield index, found["labels"], {}
            return

        # Else as in training, in batches of the loader.
        for images, targets in progress(loader, "evaluating", bar_off()):
            images, targets = to_device(images, targets, device)
            outputs, losses = model(images, targets)
            losses = {name: float(value) for name, value in losses.items()}
            for scores, target in zip(model.decode(outputs).float(), targets):
                part = covered(scores, target["transform"], target["size"], data.input_shape)
                yield target["index"], classify(part, target["size"], threshold), losses
    finally:
        model.train(was_training)


def evaluate(model, loader, device, **settings):
    """-> results, mean losses, what was found: detections of all images, or labels of the first SHOWN.

    Detection: see `collect` and utils.metrics.detection_results; segmentation: `segment_list` and
    utils.miou.list_results.
    """
    data = loader.dataset
    if data.task == "detection":
        detections, truths, losses = collect(model, loader, device, **settings)
        return detection_results(detections, truths, data.class_names), losses, detections

    # Image by image, since all masks of a dataset do not fit into memory: only their counts are kept.
    matrix, sums, shown = 0, [], []
    for index, labels, losses in segment_list(model, loader, device, **settings):
        truth = data.truth(index, labels.shape)                                     # (h, w)
        matrix = matrix + count_confusion(truth, labels, len(data.class_names), data.masks[index])
        sums.append((index, {name: value / len(data) for name, value in losses.items()}))
        if index < SHOWN:
            shown.append((index, labels))

    # Together with what the other processes have counted.
    results = list_results(sum(distributed.gather(matrix)), data.class_names)
    return results, summed(sums), [labels for _, labels in in_order(shown)]
