"""How much boxes overlap, in NumPy: for tracks, tiles and views, which need no network and no PyTorch.

Boxes are (N, 4) xyxy px.
"""
import numpy as np


def areas(boxes):
    """-> (N,), 0 for a box turned inside out."""
    return np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(1)


def iou(boxes, others):
    """What each box shares with each of the others, as a share of what the two cover. -> (N, M)"""
    top_left = np.maximum(boxes[:, None, :2], others[None, :, :2])
    bottom_right = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    shared = np.clip(bottom_right - top_left, 0, None).prod(2)
    union = areas(boxes)[:, None] + areas(others)[None] - shared
    return shared / np.maximum(union, 1e-9)
