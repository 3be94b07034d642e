"""The photo of the figures and its truth, and pictures of the built-in dataset."""
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch

from docs.figures.drawing import COLOURS
from utils.augment import Sample
from utils.formats.shapes import CLASSES, draw_picture
from utils.images import IGNORED, fit_image, open_image, to_input

PHOTO = Path(__file__).parent / "photo.jpg"                 # whose it is: SOURCE.txt
NAMES = ("picture", "man", "woman", "table")                # of the objects; man and woman are of one class
KINDS = ("picture", "person", "table")                      # the classes
LABELS = (0, 1, 1, 2)
PAINTS = (COLOURS[4], COLOURS[0], COLOURS[1], COLOURS[2])    # of the objects
BOXES = np.array([(74, 27, 99, 57), (238, 63, 319, 236), (343, 62, 395, 268), (80, 33, 316, 270)], np.float32)     # xyxy px
MAN = ((273, 76), (279, 66), (290, 63), (302, 66), (306, 80), (303, 86), (312, 95), (317, 105), (318, 125), (319, 150), (318, 172),
       (314, 182), (312, 205), (311, 235), (306, 221), (284, 221), (282, 195), (280, 183), (274, 180), (274, 160), (277, 135),
       (276, 126), (256, 132), (243, 133), (238, 129), (246, 126), (275, 113), (279, 100), (283, 97), (280, 86))
WOMAN = ((388, 63), (394, 66), (385, 77), (380, 88), (379, 100), (375, 108), (376, 113), (386, 120), (391, 135), (394, 165), (394, 198),
         (388, 202), (385, 215), (378, 247), (377, 268), (366, 268), (367, 245), (366, 232), (365, 210), (362, 198), (357, 215),
         (355, 235), (352, 248), (354, 262), (350, 265), (343, 263), (345, 255), (343, 240), (346, 205), (346, 192), (344, 180),
         (349, 165), (353, 145), (347, 143), (349, 125), (355, 110), (353, 95), (358, 84), (366, 81), (374, 86), (378, 84))


@cache
def photo():
    """(270, 480, 3) uint8."""
    return open_image(PHOTO)


def photo_mask():
    """(270, 480) uint8: 1 man, 2 woman."""
    mask = np.zeros(photo().shape[:2], np.uint8)
    for label, outline in ((1, MAN), (2, WOMAN)):
        cv2.fillPoly(mask, [np.array(outline, np.int32)], label)
    return mask


def photo_sample(mask=False):
    """The photo with its boxes, or with its mask."""
    if mask:
        return Sample(photo(), None, photo_mask())
    return Sample(photo(), rows(BOXES, LABELS))


def rows(boxes, labels):
    """(G, 6) float32: xyxy px, class, difficult."""
    return np.concatenate([boxes, np.array(labels, np.float32)[:, None], np.zeros((len(boxes), 1), np.float32)], 1)


def as_input(input_shape, fit="letterbox"):
    """The photo as a network gets it. -> images (1, 3, H, W), target of its four objects, transform."""
    canvas, transform = fit_image(photo(), input_shape, fit)
    images = torch.from_numpy(canvas).permute(2, 0, 1)[None].float() / 255
    target = {"boxes": torch.from_numpy(to_input(BOXES, transform)), "labels": torch.tensor(LABELS)}
    return images, target, transform


def shapes_sample(index, seed=0):
    """A picture of the built-in dataset. -> Sample with boxes, mask (h, w) uint8: 0 background, 1 + class."""
    picture, instances, objects, _ = draw_picture(seed, index)
    boxes = np.array([one["xyxy"] for one in objects], np.float32).reshape(-1, 4)
    labels = [CLASSES.index(one["name"]) for one in objects]
    mask = np.zeros(256, np.uint8)
    mask[1:1 + len(labels)] = np.array(labels, np.uint8) + 1
    return Sample(np.asarray(picture), rows(boxes, labels)), mask[np.asarray(instances)]


def paint_mask(pixels, mask, colours=(None, COLOURS[0], COLOURS[1], COLOURS[2], COLOURS[3], COLOURS[4], COLOURS[5])):
    """A picture with its mask laid over it; IGNORED becomes a dark grey."""
    painted = pixels.astype(np.float64)
    for label in np.unique(mask):
        if label == IGNORED:
            painted[mask == label] = painted[mask == label] * 0.4 + 30
        elif label:
            code = colours[label]
            rgb = np.array([int(code[i:i + 2], 16) for i in (1, 3, 5)])
            painted[mask == label] = painted[mask == label] * 0.45 + rgb * 0.55
    return painted.round().astype(np.uint8)
