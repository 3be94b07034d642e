"""Augmentation: plain functions from one sample, a picture with its boxes or its mask, to another one.

All geometry answers one question: where on the canvas does the picture land? A place is a rectangle
(x, y, w, h) in canvas pixels that may reach beyond the canvas; only what is inside a window is drawn. Random
scale, aspect, translation and crop are a random place; mosaic is four places that share a corner. SSD's
zoom-out and crop ask the same question from the other side: which rectangle of the picture is to be seen?
Such a view (x1, y1, x2, y2), in picture pixels, may reach beyond the picture, and becomes a place. Nothing
larger than the canvas, or the picture as it is kept, is ever computed.

rng: random.Random. The order in which numbers are drawn from it is part of the result.
"""
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import torch

from utils.boxes import pairwise_iou
from utils.images import GREY, IGNORED, fitted_size

MIN_SIDE = 2.0          # px: a box that is thinner after the cut is dropped
MIN_VISIBLE = 0.2       # so is one that has lost more than the rest of its area
GREY_OF_RGB = np.array([0.299, 0.587, 0.114])       # how bright red, green and blue look (ITU-R BT.601)
# SSD, section 2.2: a sample is the whole picture, or a patch with at least this IoU with an object.
WHOLE = None
PATCHES = (WHOLE, 0.0, 0.1, 0.3, 0.5, 0.7, 0.9)
PATCH_SIDE = 0.3        # least side of a patch, as a share of the view's
PATCH_ASPECT = 2.0      # width / height of a patch is at most this, and at least its inverse
TRIES = 50              # patches of one kind that are tried before another kind


@dataclass(frozen=True)
class Augmentation:
    """How the training pictures are varied. Every setting has the name that it has in train.py."""
    scale: tuple = (0.5, 1.5)                   # random size of a picture, times the fitting one
    aspect: float = 0.3                         # random stretch of one side
    translate: float = 0.1                      # random shift, as a share of the input
    flip: float = 0.5                           # chance of a left-right flip
    rotate: float = 0.0                         # some of the pictures are turned by up to so many degrees
    blur: float = 0.0                           # chance of a blurred picture
    colours: tuple = (0.015, 0.7, 0.4)          # random hue, saturation, brightness
    distort: float = 0.0                        # chance of SSD's changes of brightness, contrast and colours
    zoom_out: float = 0.0                       # detection: chance of a small picture somewhere in the input
    iou_crop: float = 0.0                       # detection: chance of a patch around some object
    mosaic: float = 0.0                         # chance of four pictures in one
    mixup: float = 0.0                          # detection: chance of two pictures blended into one
    plain_from: int | None = None               # from this epoch on neither mosaic nor mixup

    def is_plain(self, epoch):
        """Whether this epoch has neither mosaic nor mixup."""
        return self.plain_from is not None and epoch >= self.plain_from


class Sample(NamedTuple):
    """A picture and its truth. Whatever moves the picture moves its boxes and its mask."""
    image: np.ndarray                           # (H, W, 3) uint8 RGB
    boxes: np.ndarray | None = None             # (G, 6) float32: xyxy px, class, difficult; None in segmentation
    mask: np.ndarray | None = None              # (H, W) uint8 labels, never interpolated; None in detection


def new_canvas(shape, sample):
    """What a sample like this one is drawn on: (H, W) px of grey, a mask of IGNORED, no boxes yet."""
    image = np.full((*shape, 3), GREY, np.uint8)
    boxes = None if sample.boxes is None else sample.boxes[:0]
    mask = None if sample.mask is None else np.full(shape, IGNORED, np.uint8)
    return Sample(image, boxes, mask)


def random_place(rng, size, window, scale, aspect, translate):
    """A random place for a picture of size (h, w) in the window (x1, y1, x2, y2).

    scale: (low, high) times the size that just fits.  aspect: 0.3 stretches one side against the other by up
    to 1.3. A smaller picture lands anywhere inside, of a larger one any part is seen; translate: 0.1 pushes
    it by up to a tenth of the window.
    """
    height, width = size
    x1, y1, x2, y2 = window

    # How large: the area follows from the scale, the stretch makes one side longer and the other shorter.
    factor = min((x2 - x1) / width, (y2 - y1) / height) * rng.uniform(*scale)
    stretch = (1 + rng.uniform(0, aspect)) ** rng.choice((-0.5, 0.5))
    w = width * factor * stretch
    h = height * factor / stretch

    # Where: anywhere in the room that is left, which is negative when the picture is larger than the window.
    x = x1 + (x2 - x1 - w) * rng.random() + (x2 - x1) * rng.uniform(-translate, translate)
    y = y1 + (y2 - y1 - h) * rng.random() + (y2 - y1) * rng.uniform(-translate, translate)
    return x, y, w, h


def find_parts(place, size, window):
    """Which part of a picture of size (h, w) at this place falls into the window, in whole pixels.

    -> (x1, y1, x2, y2) in the picture, (x1, y1, x2, y2) on the canvas; None when nothing does.
    """
    height, width = size
    x, y, w, h = place
    x1, y1, x2, y2 = window

    # On the canvas: the place, cut at the window.
    left, right = max(x1, round(x)), min(x2, round(x + w))
    top, bottom = max(y1, round(y)), min(y2, round(y + h))

    # In the picture: the same edges, led back through the place and rounded outwards.
    from_x, to_x = max(0, int((left - x) * width / w)), min(width, int(np.ceil((right - x) * width / w)))
    from_y, to_y = max(0, int((top - y) * height / h)), min(height, int(np.ceil((bottom - y) * height / h)))
    if right <= left or bottom <= top or to_x <= from_x or to_y <= from_y:
        return None
    return (from_x, from_y, to_x, to_y), (left, top, right, bottom)


def paste(canvas, picture, source, target, interpolation):
    """Draw the source rectangle of the picture into the target rectangle of the canvas, in place."""
    from_x, from_y, to_x, to_y = source
    left, top, right, bottom = target
    size = (right - left, bottom - top)
    part, place = picture[from_y:to_y, from_x:to_x], canvas[top:bottom, left:right]
    cv2.resize(part, size, dst=place, interpolation=interpolation)


def paste_shrunken(canvas, picture, source, target):
    """The same, bilinear; where four pixels or more become one, their mean: else some would be skipped."""
    from_x, from_y, to_x, to_y = source
    left, top, right, bottom = target
    across = max(1, (to_x - from_x) // (right - left))              # picture pixels for one of the canvas
    down = max(1, (to_y - from_y) // (bottom - top))
    if across * down < 4:
        paste(canvas, picture, source, target, cv2.INTER_LINEAR)
        return

    # First to a multiple of the target, then the mean of whole blocks: quicker than blocks with a fraction.
    width, height = right - left, bottom - top
    blocks = cv2.resize(picture[from_y:to_y, from_x:to_x], (across * width, down * height))
    cv2.resize(blocks, (width, height), dst=canvas[top:bottom, left:right], interpolation=cv2.INTER_AREA)


def put(canvas, sample, place, window=None, visible=MIN_VISIBLE):
    """Draw the part of a sample that falls into the window. -> the canvas with the sample's boxes added.

    Picture and mask of the canvas change in place. The boxes follow exactly the mapping of the whole pixels
    that are drawn.
    window: (x1, y1, x2, y2) px, None: all of the canvas.  visible: see `cut`.
    """
    height, width = canvas.image.shape[:2]
    found = find_parts(place, sample.image.shape[:2], window or (0, 0, width, height))
    if found is None:
        return canvas

    # Labels take the nearest pixel: a number in between two classes would be a third class.
    source, target = found
    paste_shrunken(canvas.image, sample.image, source, target)
    if sample.mask is not None:
        paste(canvas.mask, sample.mask, source, target, cv2.INTER_NEAREST_EXACT)

    boxes = canvas.boxes
    if sample.boxes is not None:
        moved = cut(move_boxes(sample.boxes, source, target), target, visible)
        boxes = np.concatenate([canvas.boxes, moved])
    return Sample(canvas.image, boxes, canvas.mask)


def move_boxes(boxes, source, target):
    """Boxes of a picture whose source rectangle is drawn into the target rectangle of a canvas, in its px."""
    from_x, from_y, to_x, to_y = source
    left, top, right, bottom = target
    scale_x = (right - left) / (to_x - from_x)
    scale_y = (bottom - top) / (to_y - from_y)
    moved = boxes.copy()
    moved[:, 0:4:2] = (boxes[:, 0:4:2] - from_x) * scale_x + left
    moved[:, 1:4:2] = (boxes[:, 1:4:2] - from_y) * scale_y + top
    return moved


def cut(boxes, window, visible=MIN_VISIBLE):
    """Cut boxes at the window (x1, y1, x2, y2), in place. -> those that are left.

    Slivers are dropped, and so is a box when less than the share `visible` of its area is inside.
    """
    if not len(boxes):
        return boxes
    x1, y1, x2, y2 = window
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    boxes[:, 0:4:2] = boxes[:, 0:4:2].clip(x1, x2)
    boxes[:, 1:4:2] = boxes[:, 1:4:2].clip(y1, y2)
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    return boxes[(width >= MIN_SIDE) & (height >= MIN_SIDE) & (width * height >= visible * area)]


def proportions(image, shape, fit):
    """(h, w) whose ratio the picture has at scale 1: its own, or that of the canvas when it is stretched."""
    return shape if fit == "stretch" else image.shape[:2]


def scale_and_crop(rng, shape, sample, scale, aspect, translate, fit="letterbox"):
    """One sample at a random place of a canvas of `shape` (H, W).  fit: "letterbox" or "stretch"."""
    window = (0, 0, shape[1], shape[0])
    place = random_place(rng, proportions(sample.image, shape, fit), window, scale, aspect, translate)
    return put(new_canvas(shape, sample), sample, place)


def zoom_out(rng, size, most=4.0):
    """A view that holds all of a picture of size (h, w) somewhere, up to `most` times as high and as wide.

    Source: SSD (arXiv 1512.02325), section 3.6, for small objects; the paper's 16 times are the area.
    """
    height, width = size
    growth = rng.uniform(1.0, most)
    x, y = rng.uniform(0, (growth - 1) * width), rng.uniform(0, (growth - 1) * height)
    return -x, -y, growth * width - x, growth * height - y


def iou_crop(rng, view, boxes):
    """The whole view, or a random patch of it that overlaps an object well enough.

    -> view, the boxes whose centre is in it, not yet cut.
    Source: SSD, section 2.2. As in its published code the sides of a patch are 0.3 to 1 of the view's
    (the paper: 0.1 to 1), and one object with the wanted IoU is enough. A patch without the centre of any
    object is refused: it would teach nothing.
    """
    centres = (boxes[:, :2] + boxes[:, 2:4]) / 2

    # The kinds of patch in random order: when no patch of one kind is good enough, the next kind is tried.
    for least in rng.sample(PATCHES, len(PATCHES)):
        if least is WHOLE or not len(boxes):
            break

        # All tries at once: which patch holds the centre of which object, and how well do they overlap?
        patches = np.array([random_patch(rng, view) for _ in range(TRIES)], np.float32)                 # (T, 4)
        inside = ((centres > patches[:, None, :2]) & (centres < patches[:, None, 2:])).all(2)           # (T, G)
        overlap = pairwise_iou(torch.from_numpy(patches), torch.from_numpy(boxes[:, :4])).numpy()       # (T, G)

        # The first patch that has an object with both.
        good = (inside & (overlap >= least)).any(1)
        if good.any():
            chosen = good.argmax()
            return tuple(patches[chosen].tolist()), boxes[inside[chosen]]
    return view, boxes


def random_patch(rng, view):
    """-> (x1, y1, x2, y2) inside the view, with an aspect relative to the view's, which may be stretched."""
    x1, y1, x2, y2 = view
    size = rng.uniform(PATCH_SIDE, 1.0)
    narrowest = max(1 / PATCH_ASPECT, size**2)              # so that both sides fit
    widest = min(PATCH_ASPECT, size**-2)
    aspect = rng.uniform(narrowest, widest) ** 0.5
    width, height = (x2 - x1) * size * aspect, (y2 - y1) * size / aspect
    x, y = rng.uniform(x1, x2 - width), rng.uniform(y1, y2 - height)
    return x, y, x + width, y + height


def put_view(shape, sample, view, fit="letterbox"):
    """What a view shows of a sample, letterboxed into or stretched over a canvas of `shape` (H, W).

    A box keeps what is inside the view, however little that is: `iou_crop` has chosen the boxes.
    """
    x1, y1, x2, y2 = view
    height, width = fitted_size(y2 - y1, x2 - x1, shape, fit)
    left, top = (shape[1] - width) // 2, (shape[0] - height) // 2

    # The view fills this window of the canvas, which says where the whole picture would be.
    across, down = width / (x2 - x1), height / (y2 - y1)
    h, w = sample.image.shape[:2]
    place = (left - x1 * across, top - y1 * down, w * across, h * down)
    window = (left, top, left + width, top + height)
    return put(new_canvas(shape, sample), sample, place, window, visible=0.0)


def mosaic(rng, shape, samples, scale, aspect, fit="letterbox"):
    """Four samples that meet in one point of a canvas of `shape` (H, W), each at its own random scale.

    Source: YOLOv4 (arXiv 2004.10934), section 3.3.
    """
    canvas = new_canvas(shape, samples[0])
    sizes = [proportions(sample.image, shape, fit) for sample in samples]
    for sample, (place, window) in zip(samples, mosaic_places(rng, shape, sizes, scale, aspect)):
        canvas = put(canvas, sample, place, window)
    return canvas


def mosaic_places(rng, shape, sizes, scale, aspect):
    """Where four pictures of sizes (h, w) are put so that they meet in one point. -> four (place, window)."""
    height, width = shape
    cx, cy = round(width * rng.uniform(0.3, 0.7)), round(height * rng.uniform(0.3, 0.7))
    windows = [(0, 0, cx, cy), (cx, 0, width, cy), (0, cy, cx, height), (cx, cy, width, height)]

    # Each one's inner corner is the common point: those on the left end there, the others begin there.
    places = []
    for quarter, size in enumerate(sizes):
        on_the_left, above = quarter in (0, 2), quarter in (0, 1)
        _, _, w, h = random_place(rng, size, (0, 0, width, height), scale, aspect, translate=0.0)
        x = cx - w if on_the_left else cx
        y = cy - h if above else cy
        places.append((x, y, w, h))
    return list(zip(places, windows))


def mixup(rng, sample, other):
    """Two samples of one size blended into one, with the boxes of both; for detection.

    Source: arXiv 1710.09412; shares near one half as in YOLOX.
    """
    share = rng.betavariate(32.0, 32.0)
    image = cv2.addWeighted(sample.image, share, other.image, 1 - share, 0)
    return Sample(image, np.concatenate([sample.boxes, other.boxes]))


def flip(sample):
    """Left becomes right."""
    image, boxes, mask = sample
    width = image.shape[1]
    if boxes is not None:
        flipped = boxes.copy()
        flipped[:, [0, 2]] = width - boxes[:, [2, 0]]               # the right edge becomes the left one
        boxes = flipped
    if mask is not None:
        mask = cv2.flip(mask, 1)
    return Sample(cv2.flip(image, 1), boxes, mask)


def rotate(angle, sample):
    """Turn a sample about its middle by `angle` degrees, counter-clockwise.

    Grey and IGNORED come in at the corners. A box becomes the upright one around its turned corners, which is
    larger than the object: keep angles small.
    """
    image, boxes, mask = sample
    height, width = image.shape[:2]
    middle = ((width - 1) / 2, (height - 1) / 2)            # between pixel centres
    matrix = cv2.getRotationMatrix2D(middle, angle, 1.0)
    image = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderValue=(GREY,) * 3)
    if mask is not None:
        mask = cv2.warpAffine(mask, matrix, (width, height), flags=cv2.INTER_NEAREST, borderValue=IGNORED)

    # The matrix maps centres of pixels, boxes are edges: half a pixel goes before and comes back afterwards.
    if boxes is not None and len(boxes):
        corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2) - 0.5               # (G, 4, 2)
        corners = corners @ matrix[:, :2].T + matrix[:, 2] + 0.5
        boxes = boxes.copy()
        boxes[:, :2] = corners.min(1)
        boxes[:, 2:4] = corners.max(1)
        boxes = cut(boxes, (0, 0, width, height))
    return Sample(image, boxes, mask)


def blur(rng, image):
    """Out of focus: a Gaussian of 5 x 5 px, by a random amount."""
    return cv2.GaussianBlur(image, (5, 5), rng.uniform(0.3, 1.5))


def change_colours(rng, image, colours):
    """Random hue, saturation and brightness (HSV), in place.

    colours: (0.015, 0.7, 0.4) turns the hue by up to 1.5 % of the circle, and multiplies saturation and
    brightness by 1 +- 0.7 and 1 +- 0.4.

    All three are linear in RGB, so that one 3 x 3 matrix does them in a tenth of the time of a way there and
    back through HSV: the hue is a turn around the grey axis, the saturation a stretch away from the pixel's
    own grey, the brightness a factor.
    """
    hue, saturation, brightness = (rng.uniform(-most, most) for most in colours)
    matrix = (1 + brightness) * hue_matrix(hue) @ saturation_matrix(saturation)
    cv2.transform(image, matrix, dst=image)
    return image


def hue_matrix(turn):
    """The (3, 3) matrix on RGB that turns the hue by this share of the circle: a third makes red green."""
    cos, sin = np.cos(2 * np.pi * turn), np.sin(2 * np.pi * turn) / np.sqrt(3)
    cross = np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])
    return np.full((3, 3), (1 - cos) / 3) + cos * np.eye(3) + sin * cross


def saturation_matrix(gain):
    """The (3, 3) matrix on RGB that multiplies the saturation by 1 + gain."""
    return (1 + gain) * np.eye(3) - gain * GREY_OF_RGB


def distort(rng, image):
    """Brightness, contrast, saturation and hue, each with chance one half, in random order, in place.

    Source: SSD, section 2.2, with the amounts of its published code: +- 32 of 255, times 0.5 to 1.5 for the
    next two, +- a tenth of the circle. That code can also swap the channels, but its chance for that is 0. As
    in `change_colours` one matrix does it all, with a fourth column that is added.
    """
    total = np.eye(4)
    for change in rng.sample(("brightness", "contrast", "saturation", "hue"), 4):
        if rng.random() >= 0.5:
            continue

        # This change alone, as a matrix on (red, green, blue, 1).
        step = np.eye(4)
        if change == "brightness":
            step[:3, 3] = rng.uniform(-32, 32)
        elif change == "contrast":
            step[:3, :3] *= rng.uniform(0.5, 1.5)
        elif change == "saturation":
            step[:3, :3] = saturation_matrix(rng.uniform(-0.5, 0.5))
        else:
            step[:3, :3] = hue_matrix(rng.uniform(-0.1, 0.1))
        total = step @ total

    cv2.transform(image, total[:3], dst=image)
    return image
