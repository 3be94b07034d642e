"""Weights without a weight file: every tensor gets its values from its own name, so that another program can be given the same.

Reference outputs in tests/data were computed by the networks of other projects filled by this rule. The order of the random
draws and of the arithmetic (in float64) is part of the rule: numpy's RandomState is frozen, its numbers are the same for ever.
"""
import re
import sys
import zlib
from unittest import mock

import numpy as np
import torch

from nets.layers import IMAGENET_MEAN, IMAGENET_STD

SMALL = 0.1                 # the size of what goes into a BatchNorm: small variances, so that a wrong eps is seen in the output


def fill(model_or_state_dict, seed=0, rename=None, factors=()):
    """Give every tensor values that follow from its name. A module is filled in place.

    rename: a dict or a function, our name -> the name in the network that made the reference (a name not in the dict stays).
    factors: pairs (regular expression for a reference name, factor on a weight).
    -> state dict: our names, float32 values. The order of the names counts: before a norm layer a bias is small, too.
    """
    module = isinstance(model_or_state_dict, torch.nn.Module)
    tensors = model_or_state_dict.state_dict() if module else model_or_state_dict
    theirs = rename if callable(rename) else lambda name: (rename or {}).get(name, name)
    owners = list(dict.fromkeys(split(name)[0] for name in tensors))
    norms = {owner for owner in owners if join(owner, "running_var") in tensors}
    before_norm = {owner for owner, behind in zip(owners, owners[1:] + [None])
                   if owner not in norms and (join(owner, "bias") not in tensors or behind in norms)}
    filled = {}
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() and not name.endswith("num_batches_tracked"):
            filled[name] = tensor.clone()                   # a table of indices, no weight
            continue
        factor = np.prod([value for pattern, value in factors if re.search(pattern, theirs(name))])
        size = SMALL if split(name)[0] in before_norm else 1
        filled[name] = torch.from_numpy(draw(theirs(name), tuple(tensor.shape), seed, size, factor))
    if module:
        model_or_state_dict.load_state_dict(filled)
    return filled


def draw(name, shape, seed, size, factor):
    """The values of one tensor. size: SMALL in front of a norm layer, else 1. -> array of float32 (int64 for a counter)."""
    random = np.random.RandomState((zlib.crc32(name.encode()) + seed) % 2 ** 32)
    kind = split(name)[1]
    if kind == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if kind == "running_mean":
        values = SMALL * random.uniform(-0.2, 0.2, shape)
    elif kind == "running_var":
        values = SMALL * SMALL * random.uniform(0.5, 1.5, shape)
    elif kind == "scale_weight":                            # SSD's L2 norm
        values = 20 * random.uniform(0.8, 1.2, shape)
    elif kind == "weight" and len(shape) == 1:              # of a norm layer
        values = factor * random.uniform(0.8, 1.2, shape)
    elif kind == "weight":                                  # He's deviation; a mean near 0 keeps the outputs of a deep network apart
        values = random.standard_normal(shape)
        values = values - 0.9 * values.mean(axis=tuple(range(1, len(shape))), keepdims=True)
        values = values * (np.sqrt(2 / int(np.prod(shape[1:]))) * factor * size)
    elif kind == "bias":
        values = random.uniform(-0.2, 0.2, shape) * size
    elif kind in ("edge_weights", "gamma", "lambda_1"):
        values = 0.5 + random.uniform(-0.2, 0.2, shape)
    else:                                                   # position embeddings, tokens
        values = 0.1 * random.standard_normal(shape)
    return np.asarray(values, np.float32)


def image(seed, h, w):
    """A picture of blobs of six sizes. -> (3, h, w) float32 in 0-1, of 8-bit values."""
    random = np.random.RandomState(seed)
    total = np.zeros((h, w, 3))
    for side in (96, 48, 24, 12, 4, 1):
        cells = random.standard_normal((-(-h // side), -(-w // side), 3))
        total += cells.repeat(side, 0).repeat(side, 1)[:h, :w]
    total = (total - total.mean()) / total.std()
    pixels = np.clip(np.rint(127.5 + 50 * total), 0, 255).astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1).astype(np.float32) / np.float32(255))


def sub(a, n=20000):
    """About n values of an array, evenly spread: every step-th, the step being odd. -> values (N,), step."""
    a = np.asarray(a)
    step = max(1, a.size // n)
    step += step > 1 and step % 2 == 0
    return a.reshape(-1)[::step].copy(), step


def split(name):
    """"layer1.0.conv1.weight" -> "layer1.0.conv1", "weight"."""
    owner, _, kind = name.rpartition(".")
    return owner, kind


def join(owner, kind):
    return f"{owner}.{kind}" if owner else kind


def difference(found, expected):
    """The largest difference, relative to the largest value."""
    assert found.shape == expected.shape and expected.std() > 1e-3
    return float((found - expected).abs().max() / expected.abs().max())


def labels(h, w, classes):
    """The masks of the references: blocks of 16 pixels, some ignored. -> (2, h, w) int64"""
    blocks = np.random.RandomState(5).randint(0, classes + 1, (2, -(-h // 16), -(-w // 16)))
    masks = blocks.repeat(16, 1).repeat(16, 2)[:, :h, :w].astype(np.int64)
    return torch.from_numpy(np.where(masks == classes, 255, masks))


def as_reference(model, h, w, classes, **parts):
    """A segmenter in float64 on the pictures 11 and 12 of the references, normalised in float32 as there.

    parts: a name -> a module of the model.  -> dict: the name -> the values of that module's output; losses.
    """
    images = torch.from_numpy(np.stack([image(seed, h, w) for seed in (11, 12)]))
    mean, deviation = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    module, found = sys.modules[type(model).__module__], {}
    handles = [part.register_forward_hook(lambda _, __, output, name=name: found.update({name: output})) for name, part in parts.items()]
    with mock.patch.object(module, "normalise", lambda x: x), torch.no_grad():
        _, losses = model.double().eval()(((images - mean) / deviation).double(), [{"mask": mask} for mask in labels(h, w, classes)])
    for handle in handles:
        handle.remove()
    return found, losses
