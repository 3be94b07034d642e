"""Augmentation: plain functions on a picture and its boxes.

All geometry answers one question: where on the canvas does the picture land? A place is a rectangle (x, y, w, h) in canvas
pixels that may reach beyond the canvas; only what lies inside a window is drawn. Random scale, aspect, translation and crop are
a random place; mosaic is four places that share a corner. Nothing larger than the canvas is ever computed.

image: (H, W, 3) uint8 RGB.  boxes: (G, C) float32, the first four columns xyxy px, the others are carried along.
rng: random.Random.
"""
import cv2
import numpy as np

from utils.images import GREY

MIN_SIDE = 2.0          # px: a box that is thinner after the cut is dropped
MIN_VISIBLE = 0.2       # so is one of which less than this share is left
GREY_OF_RGB = np.array([0.299, 0.587, 0.114])       # how bright red, green and blue look (ITU-R BT.601)


def new_canvas(shape):
    """shape: (H, W) -> grey (H, W, 3) uint8."""
    return np.full((*shape, 3), GREY, np.uint8)


def random_place(rng, size, window, scale, aspect, translate):
    """A random place for a picture of size (h, w) in the window (x1, y1, x2, y2).

    scale: (low, high) times the size that just fits.  aspect: 0.3 stretches one side against the other by up to 1.3.
    A smaller picture lands anywhere inside, of a larger one any part is seen; translate: 0.1 pushes it by up to a tenth of the window.
    """
    height, width = size
    x1, y1, x2, y2 = window
    factor = min((x2 - x1) / width, (y2 - y1) / height) * rng.uniform(*scale)
    stretch = (1 + rng.uniform(0, aspect)) ** rng.choice((-0.5, 0.5))
    w, h = width * factor * stretch, height * factor / stretch
    x = x1 + (x2 - x1 - w) * rng.random() + (x2 - x1) * rng.uniform(-translate, translate)
    y = y1 + (y2 - y1 - h) * rng.random() + (y2 - y1) * rng.uniform(-translate, translate)
    return x, y, w, h


def put(canvas, image, boxes, place, window=None):
    """Draw the part of the picture that falls into the window on the canvas (in place). -> its boxes in canvas pixels.

    The visible part is taken in whole pixels of the picture and of the canvas, and the boxes follow exactly that mapping.
    """
    height, width = image.shape[:2]
    x, y, w, h = place
    x1, y1, x2, y2 = window or (0, 0, canvas.shape[1], canvas.shape[0])
    left, top = max(x1, round(x)), max(y1, round(y))                                # on the canvas
    right, bottom = min(x2, round(x + w)), min(y2, round(y + h))
    from_x, to_x = max(0, int((left - x) * width / w)), min(width, int(np.ceil((right - x) * width / w)))     # in the picture
    from_y, to_y = max(0, int((top - y) * height / h)), min(height, int(np.ceil((bottom - y) * height / h)))
    if right <= left or bottom <= top or to_x <= from_x or to_y <= from_y:
        return boxes[:0]
    part = image[from_y:to_y, from_x:to_x]
    cv2.resize(part, (right - left, bottom - top), dst=canvas[top:bottom, left:right], interpolation=cv2.INTER_LINEAR)
    scale_x, scale_y = (right - left) / (to_x - from_x), (bottom - top) / (to_y - from_y)
    moved = boxes.copy()
    moved[:, 0:4:2] = (boxes[:, 0:4:2] - from_x) * scale_x + left
    moved[:, 1:4:2] = (boxes[:, 1:4:2] - from_y) * scale_y + top
    return cut(moved, (left, top, right, bottom))


def cut(boxes, window):
    """Boxes cut at the window (x1, y1, x2, y2); slivers and what is hardly visible any more are dropped."""
    if not len(boxes):
        return boxes
    x1, y1, x2, y2 = window
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    boxes[:, 0:4:2] = boxes[:, 0:4:2].clip(x1, x2)
    boxes[:, 1:4:2] = boxes[:, 1:4:2].clip(y1, y2)
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    return boxes[(width >= MIN_SIDE) & (height >= MIN_SIDE) & (width * height >= MIN_VISIBLE * area)]


def scale_and_crop(rng, shape, image, boxes, scale, aspect, translate):
    """One picture at a random place of a canvas of `shape` (H, W). -> canvas, boxes."""
    canvas = new_canvas(shape)
    window = (0, 0, shape[1], shape[0])
    return canvas, put(canvas, image, boxes, random_place(rng, image.shape[:2], window, scale, aspect, translate))


def mosaic(rng, shape, pictures, scale, aspect):
    """Four pictures that meet in one point of a canvas of `shape` (H, W), each at its own random scale.

    pictures: four (image, boxes). -> canvas, boxes. Source: YOLOv4 (arXiv 2004.10934), section 3.3.
    """
    height, width = shape
    canvas = new_canvas(shape)
    cx, cy = round(width * rng.uniform(0.3, 0.7)), round(height * rng.uniform(0.3, 0.7))
    windows = (0, 0, cx, cy), (cx, 0, width, cy), (0, cy, cx, height), (cx, cy, width, height)
    found = []
    for number, ((image, boxes), window) in enumerate(zip(pictures, windows)):
        _, _, w, h = random_place(rng, image.shape[:2], (0, 0, width, height), scale, aspect, 0.0)
        place = (cx - w if number % 2 == 0 else cx, cy - h if number < 2 else cy, w, h)
        found.append(put(canvas, image, boxes, place, window))
    return canvas, np.concatenate(found)


def mixup(rng, image, boxes, other_image, other_boxes):
    """Two pictures of one size laid over each other, with the boxes of both. Source: arXiv 1710.09412; share near one half as in YOLOX."""
    share = rng.betavariate(32.0, 32.0)
    return cv2.addWeighted(image, share, other_image, 1 - share, 0), np.concatenate([boxes, other_boxes])


def flip(image, boxes):
    """Left becomes right."""
    flipped = boxes.copy()
    flipped[:, [0, 2]] = image.shape[1] - boxes[:, [2, 0]]
    return cv2.flip(image, 1), flipped


def change_colours(rng, image, gains):
    """Random hue, saturation and brightness (HSV), in place. gains: (0.015, 0.7, 0.4) turns the hue by up to 1.5 % of the circle,
    and multiplies saturation and brightness by 1 +- 0.7 and 1 +- 0.4.

    All three are linear in RGB, so that one 3 x 3 matrix does them in a tenth of the time of a way there and back through HSV:
    the hue is a turn around the grey axis, the saturation a stretch away from the pixel's own grey, the brightness a factor.
    """
    hue, saturation, brightness = (rng.uniform(-gain, gain) for gain in gains)
    cos, sin = np.cos(2 * np.pi * hue), np.sin(2 * np.pi * hue) / np.sqrt(3)
    turn = np.full((3, 3), (1 - cos) / 3) + cos * np.eye(3) + sin * np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    stretch = (1 + saturation) * np.eye(3) - saturation * GREY_OF_RGB
    cv2.transform(image, (1 + brightness) * turn @ stretch, dst=image)
    return image
