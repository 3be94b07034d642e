"""Darknet references without darknet: weights and picture from a fixed random stream, the outputs that darknet computed from them.

numpy's legacy RandomState is frozen, so the same weights come out everywhere. The npz beside the tests holds AlexeyAB's darknet's
outputs for them: every 5th value of each raw head, and its detections before NMS.
"""
import numpy as np
from torch import nn

SEED = 20240
HEAD_GAIN = {"yolov4_tiny": 5.0}            # makes the raw heads spread over about +-5
ACT_GAIN = {nn.LeakyReLU: 2.0 / 1.01}


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
    with open(path, "wb") as file:
        np.array([0, 2, 5], "<i4").tofile(file)
        np.array([0], "<u8").tofile(file)
        for k, (conv, norm, act) in enumerate(convolutions(model)[:stop]):
            stream = np.random.RandomState(SEED + k)
            shape, fan_in = conv.weight.shape, conv.weight[0].numel()
            if norm:
                parts = [stream.uniform(-0.2, 0.2, shape[0]), stream.uniform(0.8, 1.2, shape[0]), 0.1 * stream.uniform(-0.2, 0.2, shape[0]),
                         0.01 * stream.uniform(0.5, 1.5, shape[0])]         # a small variance: a wrong eps shows
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
