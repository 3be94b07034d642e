"""Darknet references without darknet: weights and picture from a fixed random stream, the outputs that darknet computed from them.

numpy's legacy RandomState is frozen, so the same weights come out everywhere. The npz files beside the tests hold AlexeyAB's darknet's
outputs for them: every 5th value (tiny) or every 17th of each raw head, and its detections before NMS. At the end what the tests of
decode and loss share: random heads, truths, and the formulas of one box in plain Python.
"""
import math

import numpy as np
import torch
from torch import nn

import nets
from nets.yolov3 import Residual

SEED = 20240
HEAD_GAIN = {"yolov3": 1.5, "yolov4": 2.5, "yolov4_tiny": 5.0}      # makes the raw heads spread over about +-5
ACT_GAIN = {nn.LeakyReLU: 2.0 / 1.01, nn.Mish: 2.2}


def convolutions(model):
    """[(conv, its BatchNorm or None, its activation or None)] in the order of the model, which is that of the weight file."""
    modules = [m for m in model.modules() if not list(m.children())]
    rows = []
    for i, m in enumerate(modules):
        if isinstance(m, nn.Conv2d):
            normed = i + 1 < len(modules) and isinstance(modules[i + 1], nn.BatchNorm2d)
            rows.append((m, modules[i + 1], modules[i + 2]) if normed else (m, None, None))
    return rows


def weight_file(path, model, name, stop=None):
    """Write the recipe's random weights for this model in darknet's format; stop: only the first so many convolutions."""
    added = {block.conv2.norm for block in model.modules() if isinstance(block, Residual)}      # what a shortcut adds is kept small
    with open(path, "wb") as file:
        np.array([0, 2, 5], "<i4").tofile(file)
        np.array([0], "<u8").tofile(file)
        for k, (conv, norm, act) in enumerate(convolutions(model)[:stop]):
            stream = np.random.RandomState(SEED + k)
            shape, fan_in = conv.weight.shape, conv.weight[0].numel()
            if norm:
                parts = [stream.uniform(-0.2, 0.2, shape[0]), stream.uniform(0.8, 1.2, shape[0]), 0.1 * stream.uniform(-0.2, 0.2, shape[0]),
                         0.01 * stream.uniform(0.5, 1.5, shape[0])]         # a small variance: a wrong eps shows
                parts[1] *= 0.5 if norm in added else 1.0
            else:
                parts = [stream.uniform(-0.5, 0.5, shape[0])]
            weight = stream.standard_normal(tuple(shape))
            weight = weight - 0.9 * weight.mean(axis=(1, 2, 3), keepdims=True)
            weight = weight * (0.1 * np.sqrt(ACT_GAIN[type(act)] / fan_in) if norm else HEAD_GAIN[name] / np.sqrt(fan_in))
            for part in (*parts, weight):
                part.astype("<f4").tofile(file)


def picture(height, width):
    """(height, width, 3) uint8 RGB: blobs and noise at several scales, so that every stride sees structure."""
    stream = np.random.RandomState(SEED)
    image = np.zeros((height, width, 3))
    for cell in (104, 52, 26, 13, 4, 1):
        coarse = stream.standard_normal((-(-height // cell), -(-width // cell), 3))
        image += np.kron(coarse, np.ones((cell, cell, 1)))[:height, :width]
    image = (image - image.mean()) / image.std()
    return np.clip(np.rint(127.5 + 50 * image), 0, 255).astype(np.uint8)


def as_input(picture):
    """(H, W, 3) uint8 -> (1, 3, H, W) float 0-1."""
    return torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255


def distances(rows, boxes, scores, size):
    """How far each of darknet's detections is from its nearest twin of the same class: box, as a share of itself, plus score.

    rows: (D, 7) class, score, objectness, cx, cy, w, h relative.  boxes: (N, 4) xyxy px, scores: (N, K); size: (H, W) px.
    """
    height, width = size
    boxes, scores = boxes.numpy() / [width, height, width, height], scores.numpy()
    layout = np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], 1)
    found = []
    for label, score, _, *box in rows:
        off = np.abs(layout - box).max(1) / max(1.0, *box[2:]) + np.abs(scores[:, int(label)] - score)
        found.append(off.min())
    return np.array(found)


def statistics(values):
    """What the table of darknet's layers holds: mean, deviation, first, middle, last value."""
    values = values.numpy().ravel()
    return [values.mean(), values.std(), values[0], values[values.size // 2], values[-1]]


def official(name, folder):
    """The network as its official file (with the recipe's weights) gives it, and what goes with it: see nets.load."""
    path = folder / f"{name}.weights"
    weight_file(path, nets.build(name, 80), name)
    try:
        return nets.load(path, net=name)
    finally:
        path.unlink()                                       # a quarter of a gigabyte


def run(model, height, width):
    """The network's heads, boxes and scores for the picture of that size."""
    with torch.inference_mode():
        heads, _ = model(as_input(picture(height, width)))
        return heads, *model.decode(heads)


def check_256(reference, heads, boxes, scores, count, head_bar, box_bar):
    """The raw heads at 256 x 320 against every 17th of darknet's numbers, and its `count` detections before NMS."""
    for head, name in zip(heads, ("fine", "middle", "coarse")):
        assert reference[name].std() > 0.9
        assert np.abs(head.numpy().ravel()[::17] - reference[name]).max() <= head_bar
    rows = reference["detections"]
    assert (scores > float(rows[:, 1].min()) - 5e-6).sum() == len(rows) == count
    assert distances(rows, boxes[0], scores[0], (256, 320)).max() < box_bar


def check_416(model, heads, raw, active, bar):
    """The raw heads at 416 x 416, and what decode makes of them led back to cells, against darknet's statistics, fine head first."""
    boxes, t = model.read(heads)
    for head, level_boxes, level_t, stride, raw_row, active_row in zip(heads, boxes.split([3 * 52**2, 3 * 26**2, 3 * 13**2], 1),
                                                                      t.split([3 * 52**2, 3 * 26**2, 3 * 13**2], 1), (8, 16, 32), raw, active):
        assert np.abs(np.subtract(statistics(head), raw_row)).max() < bar
        n = 416 // stride
        centre = ((level_boxes[..., :2] + level_boxes[..., 2:]) / 2 / stride).view(3, n, n, 2)
        centre[..., 0] -= torch.arange(n)
        centre[..., 1] -= torch.arange(n)[:, None]
        parts = [centre, level_t[..., 2:4].view(3, n, n, 2), level_t[..., 4:].sigmoid().view(3, n, n, 81)]
        map_of_darknet = torch.cat(parts, -1).permute(0, 3, 1, 2)
        assert np.abs(np.subtract(statistics(map_of_darknet), active_row)).max() < bar


def random_heads(classes, height=64, width=96, batch=2, channels=3):
    torch.manual_seed(3)
    return [torch.randn(batch, channels * (5 + classes), height // s, width // s, requires_grad=True) for s in (8, 16, 32)]


def targets(*boxes_and_labels):
    return [{"boxes": torch.tensor([row[:4] for row in rows], dtype=torch.float32).view(-1, 4),
             "labels": torch.tensor([row[4] for row in rows], dtype=torch.int64)} for rows in boxes_and_labels]


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def iou(a, b):
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(w, 0) * max(h, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def plain_box(head, image, classes, anchor, row, column, stride, size, scale=1.0):
    """One box by the published formula."""
    x, y, w, h = head[image, anchor * (5 + classes):anchor * (5 + classes) + 4, row, column].tolist()
    cx, cy = ((sigmoid(v) * scale - (scale - 1) / 2 + cell) * stride for v, cell in ((x, column), (y, row)))
    w, h = math.exp(w) * size[0], math.exp(h) * size[1]
    return cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2


TRUTHS = targets([[5, 5, 40, 52, 1], [50, 10, 62, 40, 0], [3, 3, 9, 12, 2]], [[0, 0, 95, 63, 2]], [])
