"""Network + images -> detections or labels; network + loader -> results, losses. Training, get_map.py, get_miou.py and predict.py all
go through here."""
import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from utils.boxes import nms
from utils.errors import UserError
from utils.images import STEP, check_fit, fit_image, fitted_size, from_input, nearest_shape, open_image, resize, stack
from utils.metrics import detection_results
from utils.miou import count_confusion, segmentation_results
from utils.settings import check, fill, find, several, whole
from utils.system import distributed

SHOWN = 12                      # predictions of so many pictures are kept for looking at


def to_device(images, targets, device):
    """uint8 images and their targets -> float 0-1 on the device, channels last. The conversion happens there: a quarter of the bytes travel."""
    images = images.to(device, non_blocking=True).float().div_(255)
    targets = [{k: v.to(device, non_blocking=True) if isinstance(v, torch.Tensor) else v for k, v in t.items()} for t in targets]
    for target in targets:
        if "mask" in target:
            target["mask"] = target["mask"].long()
    return images, targets


def choose_input(s, model, info):
    """Give a script's input_shape, fit and nms_iou, where they are None, their values: as in the training, as the recipe says.

    s: its settings.  info: of nets.load.
    Error: the network cannot take such an input.
    """
    fill(s, {"nms_iou": model.recipe.get("nms_iou", 0.5)}, f"recipe of {info['net']}")
    fill(s, {"fit": info["settings"].get("fit", "letterbox"), "input_shape": tuple(info["input_shape"])}, "as trained")
    check(s, input_shape=several(2, whole(1)))
    check_fit(s.fit)
    asked = (STEP, STEP) if s.fit == "short_side" else s.input_shape
    near = nearest_shape(type(model), asked, info["options"])
    if near != asked and s.fit == "short_side":
        raise UserError(f'fit="short_side" makes inputs of any height and width that divide by {STEP}; {info["net"]} cannot take all of these '
                        f"(the smallest are {near[0]} x {near[1]}). Use \"letterbox\" or \"stretch\".")
    if near != asked:
        raise UserError(f"input_shape={asked}: {info['net']} cannot take this size. The nearest is {near}.")


@torch.inference_mode()
def detect(model, images, input_shape, confidence=0.5, nms_iou=None, max_boxes=300, fit="letterbox"):
    """Find objects in pictures of any size.

    images: list of (H, W, 3) uint8 RGB.  input_shape, fit: how they meet the network, see utils.images.fitted_size.  nms_iou: see `suppress`.
    -> list of dicts (numpy): boxes (P, 4) float32 xyxy px of the picture, scores (P,) falling, labels (P,) int64.
    """
    device = next(model.parameters()).device
    canvases, transforms = zip(*(fit_image(image, input_shape, fit) for image in images))
    batch = torch.from_numpy(stack(canvases)).permute(0, 3, 1, 2)
    outputs, _ = model(to_device(batch, [], device)[0])
    found = suppress(model, outputs, confidence, nms_iou, max_boxes)
    return [in_picture(f, transform, image.shape[:2]) for f, transform, image in zip(found, transforms, images)]


def suppress(model, outputs, confidence, nms_iou, max_boxes):
    """A network's outputs -> what remains after NMS, see utils.boxes.nms; how many boxes may enter it is the network's to say.

    nms_iou: None: as its recipe says.
    """
    nms_iou = model.recipe["nms_iou"] if nms_iou is None else nms_iou
    limits = model.candidates(outputs) if hasattr(model, "candidates") else {}
    return nms(*model.decode(outputs), confidence, nms_iou, max_boxes, **limits)


def in_picture(found, transform, size):
    """One image's detections in input px (tensors) -> in px of the original picture (numpy)."""
    found = {name: tensor.cpu().numpy() for name, tensor in found.items()}
    found["boxes"] = from_input(found["boxes"], transform, size)
    inside = (found["boxes"][:, 2:] > found["boxes"][:, :2]).all(1)       # what stands beside a picture holds nothing
    return {name: values[inside] for name, values in found.items()}


@torch.inference_mode()
def collect(model, loader, device, confidence=0.001, nms_iou=None, max_boxes=300):
    """Run the network over a data set, in eval mode. nms_iou: see `suppress`.

    -> detections: list over the images (in the list's order) of dicts boxes, scores, labels;
       truths: the same with boxes, labels, difficult; boxes (numpy) xyxy edges in px of the original picture;
       losses: name -> mean over the images.
    """
    was_training = model.training
    model.eval()
    data, rows, sums = loader.dataset, [], []
    for images, targets in tqdm(loader, desc="evaluating", leave=False, disable=bar_off()):
        images, targets = to_device(images, targets, device)
        outputs, losses = model(images, targets)
        sums.append((targets[0]["index"], {name: float(value) * len(targets) / len(data) for name, value in losses.items()}))
        for found, target in zip(suppress(model, outputs, confidence, nms_iou, max_boxes), targets):
            rows.append((target["index"], in_picture(found, target["transform"], target["size"])))
    model.train(was_training)
    detections = [found for _, found in in_order(rows)]
    truths = [{"boxes": boxes[:, :4], "labels": boxes[:, 4].astype(np.int64), "difficult": boxes[:, 5] > 0} for boxes in data.boxes]
    return detections, truths, summed(sums)


def in_order(rows):
    """[(number, value)] of this process -> those of all processes, by number: as one process would have made them."""
    return sorted((row for part in distributed.gather(rows) for row in part), key=lambda row: row[0])


def summed(rows):
    """[(number, {name: float})] of this process -> {name: sum over all processes}, added up in the order of the numbers, so to the same bits."""
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
    """The class of every pixel of pictures of any size.

    images: list of (h, w, 3) uint8 RGB.  input_shape: (H, W) of the network.
    threshold: only with two classes: a pixel is class 1 where its score is above this; else the highest score wins.
    scales, flip: the scores are the mean over copies of these sizes, and mirrored ones (multi-scale test).
    slide: windows of input_shape over the picture at its own size, overlapping by a third, instead of the whole picture shrunk into the input.
    -> list of dicts (numpy): labels (h, w) uint8; best (K,) float32, the highest score of each class anywhere in the picture.
    """
    score = slide_scores if slide else whole_scores
    found = []
    for image in images:
        views = [score(model, resize(image, *scaled(image.shape[:2], scale)), input_shape, flip) if slide else
                 score(model, image, scaled(input_shape, scale, model.stride), flip) for scale in scales]       # (K, h', w') each
        mean = sum(F.interpolate(view[None], views[0].shape[1:], mode="bilinear")[0] for view in views) / len(views)
        found.append({"labels": classify(mean, image.shape[:2], threshold), "best": mean.amax((1, 2)).cpu().numpy()})
    return found


def scaled(size, scale, step=1):
    """(h, w) times scale, in multiples of step."""
    return tuple(max(step, round(side * scale / step) * step) for side in size)


def scores_of(model, canvases, flip):
    """canvases: list of (H, W, 3) uint8 -> scores (B, K, H, W) float32, if asked the mean with those of the mirrored pictures."""
    batch = torch.from_numpy(np.stack(canvases)).permute(0, 3, 1, 2)
    images, _ = to_device(batch, [], next(model.parameters()).device)
    scores = model.decode(model(images)[0]).float()
    return (scores + model.decode(model(images.flip(3))[0]).float().flip(3)) / 2 if flip else scores


def whole_scores(model, image, input_shape, flip=False):
    """The whole picture in the network's input. -> scores (K, h', w') of the part of the input that the picture covers."""
    canvas, transform = fit_image(image, input_shape)
    return covered(scores_of(model, [canvas], flip)[0], transform, image.shape[:2], input_shape)


def covered(scores, transform, size, input_shape):
    """scores (K, H, W) of a letterboxed input -> (K, h', w') without what lies beside the picture. size: (h, w) of the original."""
    height, width = fitted_size(*size, input_shape)
    _, _, left, top = transform
    return scores[:, top:top + height, left:left + width]


def slide_scores(model, image, input_shape, flip=False):
    """Windows of the network's input over a picture. -> scores (K, h, w) at its own size, where windows overlap their mean."""
    height, width = image.shape[:2]
    if height <= input_shape[0] and width <= input_shape[1]:
        return F.interpolate(whole_scores(model, image, input_shape, flip)[None], (height, width), mode="bilinear")[0]
    padded, _ = fit_image(image, (max(height, input_shape[0]), max(width, input_shape[1])))
    top, left = (padded.shape[0] - height) // 2, (padded.shape[1] - width) // 2
    sums, times = 0.0, 0.0
    for y in window_starts(padded.shape[0], input_shape[0]):
        for x in window_starts(padded.shape[1], input_shape[1]):
            part = (slice(y, y + input_shape[0]), slice(x, x + input_shape[1]))
            scores = scores_of(model, [padded[part]], flip)[0]
            if not torch.is_tensor(sums):
                sums, times = scores.new_zeros(len(scores), *padded.shape[:2]), scores.new_zeros(padded.shape[:2])
            sums[(slice(None), *part)] += scores
            times[part] += 1
    return (sums / times)[:, top:top + height, left:left + width]


def window_starts(length, window):
    """Where windows begin that cover 0..length and overlap by a third or more. 1000, 512 -> [0, 244, 488]."""
    count = 1 + -(-(length - window) // (window * 2 // 3))
    return [round(i * (length - window) / max(count - 1, 1)) for i in range(count)]


def classify(scores, size, threshold=0.5):
    """scores: (K, h', w') -> labels (h, w) uint8 at size (h, w). Class by class, so that a large picture with many classes fits into memory."""
    best, labels = None, None
    for number, plane in enumerate(scores):
        plane = F.interpolate(plane[None, None], size, mode="bilinear")[0, 0]
        if best is None:
            best, labels = plane, torch.zeros(size, dtype=torch.uint8, device=plane.device)
        else:
            labels[plane > (threshold if len(scores) == 2 else best)] = number
            best = torch.maximum(best, plane)
    return labels.cpu().numpy()


@torch.inference_mode()
def segment_list(model, loader, device, threshold=0.5, scales=(1.0,), flip=False, slide=False):
    """Run the network over a data set, in eval mode. -> generator of (index, labels (h, w) uint8, losses name -> float) for each image.

    The losses are those of the image's batch; with scales, flip or slide there are none.
    """
    was_training, data = model.training, loader.dataset
    model.eval()
    try:
        if slide or flip or tuple(scales) != (1.0,):
            for index, path in enumerate(tqdm(data.paths, desc="evaluating", leave=False, disable=bar_off())):
                found = segment(model, [open_image(find(path))], data.input_shape, threshold, scales, flip, slide)
                yield index, found[0]["labels"], {}
            return
        for images, targets in tqdm(loader, desc="evaluating", leave=False, disable=bar_off()):
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

    Detection: see `collect` and utils.metrics.detection_results; segmentation: `segment_list` and utils.miou.segmentation_results.
    get_map.py and get_miou.py make the same calls, so there is one number.
    """
    data = loader.dataset
    if data.task == "detection":
        detections, truths, losses = collect(model, loader, device, **settings)
        return detection_results(detections, truths, data.class_names), losses, detections
    matrix, sums, shown = 0, [], []
    for index, labels, losses in segment_list(model, loader, device, **settings):
        matrix = matrix + count_confusion(data.truth(index, labels.shape), labels, len(data.class_names), data.masks[index])
        sums.append((index, {name: value / len(data) for name, value in losses.items()}))
        if index < SHOWN:
            shown.append((index, labels))
    return segmentation_results(sum(distributed.gather(matrix)), data.class_names), summed(sums), [labels for _, labels in in_order(shown)]
