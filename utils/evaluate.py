"""Network + images -> detections; network + loader -> detections, truths, losses. Training, get_map.py and predict.py all go through here."""
import numpy as np
import torch
from tqdm import tqdm

from utils.boxes import nms
from utils.images import from_input, letterbox
from utils.metrics import detection_results


def to_device(images, targets, device):
    """uint8 images and their targets -> float 0-1 on the device, channels last. The conversion happens there: a quarter of the bytes travel."""
    images = images.to(device, non_blocking=True).float().div_(255)
    targets = [{k: v.to(device, non_blocking=True) if isinstance(v, torch.Tensor) else v for k, v in t.items()} for t in targets]
    return images, targets


@torch.inference_mode()
def detect(model, images, input_shape, confidence=0.5, nms_iou=0.45, max_boxes=300):
    """Find objects in pictures of any size.

    images: list of (H, W, 3) uint8 RGB.  input_shape: (H, W) of the network.
    -> list of dicts (numpy): boxes (P, 4) float32 xyxy px of the picture, scores (P,) falling, labels (P,) int64.
    """
    device = next(model.parameters()).device
    canvases, transforms = zip(*(letterbox(image, input_shape) for image in images))
    batch = torch.from_numpy(np.stack(canvases)).permute(0, 3, 1, 2)
    outputs, _ = model(to_device(batch, [], device)[0])
    found = nms(*model.decode(outputs), confidence, nms_iou, max_boxes)
    return [in_picture(f, transform, image.shape[:2]) for f, transform, image in zip(found, transforms, images)]


def in_picture(found, transform, size):
    """One image's detections in input px (tensors) -> in px of the original picture (numpy)."""
    found = {name: tensor.cpu().numpy() for name, tensor in found.items()}
    found["boxes"] = from_input(found["boxes"], transform, size)
    inside = (found["boxes"][:, 2:] > found["boxes"][:, :2]).all(1)       # the grey beside a picture holds nothing
    return {name: values[inside] for name, values in found.items()}


@torch.inference_mode()
def collect(model, loader, device, confidence=0.001, nms_iou=0.5, max_boxes=300):
    """Run the network over a data set, in eval mode.

    -> detections: list over the images (in the list's order) of dicts boxes, scores, labels;
       truths: the same with boxes, labels, difficult; boxes (numpy) xyxy edges in px of the original picture;
       losses: name -> mean over the images.
    """
    was_training = model.training
    model.eval()
    data = loader.dataset
    detections, truths, sums = [None] * len(data), [None] * len(data), {}
    for images, targets in tqdm(loader, desc="evaluating", leave=False, disable=None):
        images, targets = to_device(images, targets, device)
        outputs, losses = model(images, targets)
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + float(value) * len(targets)
        for found, target in zip(nms(*model.decode(outputs), confidence, nms_iou, max_boxes), targets):
            rows = data.boxes[target["index"]]
            detections[target["index"]] = in_picture(found, target["transform"], target["size"])
            truths[target["index"]] = {"boxes": rows[:, :4], "labels": rows[:, 4].astype(np.int64), "difficult": rows[:, 5] > 0}
    model.train(was_training)
    return detections, truths, {name: value / len(data) for name, value in sums.items()}


def evaluate(model, loader, device, **thresholds):
    """-> results (see utils.metrics.detection_results), losses, detections. get_map.py makes the same two calls, so there is one number."""
    detections, truths, losses = collect(model, loader, device, **thresholds)
    return detection_results(detections, truths, loader.dataset.class_names), losses, detections
