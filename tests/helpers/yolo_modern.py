"""YOLOX and YOLOv8 references without their code: pictures, weights and objects from fixed random streams, the numbers computed from them.

numpy's legacy RandomState is frozen, so the same values come out everywhere. The npz files beside the tests hold what the authors' own
networks and losses made of them: some values of each raw head and of the decoded boxes, and which prediction was taught which object.
"""
import zlib

import numpy as np
import torch

# class, x1, y1, x2, y2 in px of the input (256, 320). The second case of each: what the other picture of the batch holds.
OBJECTS = [[3, 40, 30, 168, 190], [17, 100, 80, 190.5, 150.25], [3, 236, 20, 244, 26], [60, 20, 204, 44, 220], [79, 180, 120, 310, 250]]
CROWDED = [[5, 200, 40, 264, 104], [6, 203, 42, 267, 106], [7, 197, 45, 261, 109], [8, 207, 38, 263, 110]]
OTHERS = [[0, 0, 0, 320, 256], [17, 60.5, 60.25, 100.75, 130.5], [25, 70, 64, 110, 120]]
CASES = {"A": (OBJECTS, []), "B": (OBJECTS, OTHERS), "C": ([], []), "D": (OBJECTS, CROWDED)}


def targets(case):
    """The objects of one of CASES as the contract has them."""
    rows = [torch.tensor(objects, dtype=torch.float32).view(-1, 5) for objects in CASES[case]]
    return [{"boxes": table[:, 1:], "labels": table[:, 0].long()} for table in rows]


def picture(seed, height=256, width=320):
    """(height, width, 3) uint8 RGB: blobs and noise at several scales, so that every stride sees structure."""
    stream = np.random.RandomState(seed)
    image = np.zeros((height, width, 3))
    for cell in (96, 48, 24, 12, 4, 1):
        coarse = stream.standard_normal((-(-height // cell), -(-width // cell), 3))
        image += np.kron(coarse, np.ones((cell, cell, 1)))[:height, :width]
    image = (image - image.mean()) / image.std()
    return np.clip(np.rint(127.5 + 50 * image), 0, 255).astype(np.uint8)


def images():
    """(2, 3, 256, 320) float32 RGB 0-1."""
    return torch.from_numpy(np.stack([picture(3), picture(4)])).permute(0, 3, 1, 2).contiguous().float() / 255


def state_dict(shapes, gain, bias):
    """Random weights for the tensors of a reference network. shapes: its names -> shapes.

    gain: name of a convolution -> what its weights are multiplied with.  bias: name of a bias -> what is added to it.
    """
    state = {}
    for name, shape in shapes.items():
        stream = np.random.RandomState(zlib.crc32(name.encode()))
        kind = name.rsplit(".", 1)[1]
        if kind == "num_batches_tracked":
            value = np.zeros(shape)
        elif kind == "running_mean":
            value = 0.1 * stream.uniform(-0.2, 0.2, shape)
        elif kind == "running_var":
            value = 0.01 * stream.uniform(0.5, 1.5, shape)          # small: a wrong eps shows
        elif ".bn." in name:
            value = stream.uniform(*((0.8, 1.2) if kind == "weight" else (-0.2, 0.2)), shape)
        elif kind == "bias":
            value = stream.uniform(-0.2, 0.2, shape) + bias(name)
        else:
            value = stream.standard_normal(shape)
            value = value - 0.9 * value.mean(axis=(1, 2, 3), keepdims=True)
            value = value * np.sqrt(2 / np.prod(shape[1:])) * gain(name)
        state[name] = torch.from_numpy(np.asarray(value)).to(torch.int64 if kind == "num_batches_tracked" else torch.float32)
    return state


def furthest(values, reference, name, relative=0.0):
    """How far a whole tensor is from what a reference file holds of it, beyond `relative` of its values.

    reference: the npz; of the tensor `name` it has every n-th value (C order), under the key "name@n".
    """
    (key,) = (key for key in reference if key.split("@")[0] == name)
    stored = reference[key]
    values = values.detach().numpy().ravel()[::int(key.split("@")[1])]
    assert values.shape == stored.shape and stored.std() > 0.1
    return (np.abs(values - stored) - relative * np.abs(stored)).max()


def names_and_shapes(reference):
    """The tensors of the reference network in its order: name -> shape. Stored as text, a line each: name, tab, sizes."""
    lines = [line.split("\t") for line in str(reference["tensors"]).splitlines()]
    return {name: tuple(int(size) for size in sizes.split()) for name, sizes in lines}
