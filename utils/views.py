"""Which part of a picture a network looks at, and at what size: several scales, windows, without the padding.

Nothing here knows PyTorch or another program that runs a network: utils/evaluate.py uses it, and
utils/prediction/onnx_engine.py.
"""
from utils.images import fitted_size


def scaled(size, scale, step=1):
    """(h, w) times scale, in multiples of step."""
    return tuple(max(step, round(side * scale / step) * step) for side in size)


def covered(scores, transform, size, input_shape):
    """scores (K, H, W) of a letterboxed input -> (K, n, m) without padding. size: (h, w) of the original."""
    n, m = fitted_size(*size, input_shape)
    _, _, left, top = transform
    return scores[:, top:top + n, left:left + m]                                    # (K, n, m)


def window_starts(length, window, step=None):
    """Where windows begin that cover 0..length at equal distances. 1000, 512 -> [0, 244, 488].

    step: the farthest from one to the next; None: so that they overlap by a third or more.
    """
    count = 1 + max(0, -(-(length - window) // (step or window * 2 // 3)))
    return [round(i * (length - window) / max(count - 1, 1)) for i in range(count)]
