"""Augmentation: plain functions on a picture and its boxes, or its mask.

All geometry answers one question: where on the canvas does the picture land? A place is a rectangle (x, y, w, h) in canvas
pixels that may reach beyond the canvas; only what lies inside a window is drawn. Random scale, aspect, translation and crop are
a random place; mosaic is four places that share a corner. SSD's zoom-out and crop are the same question asked from the other side:
which rectangle of the picture is to be seen? Such a view (x1, y1, x2, y2), in picture pixels, may reach beyond the picture, and becomes
a place. Nothing larger than the canvas, or the picture as it is kept, is ever computed.

image: (H, W, 3) uint8 RGB.  boxes: (G, C) float32, the first four columns xyxy px, the others are carried along.
mask: (H, W) uint8 labels; it takes the place of the picture exactly, is never interpolated, and what lies beside it is IGNORED.
rng: random.Random.
"""
import cv2
import numpy as np
import torch

from utils.boxes import pairwise_iou
from utils.images import GREY, IGNORED, fitted_size

MIN_SIDE = 2.0          # px: a box that is thinner after the cut is dropped
MIN_VISIBLE = 0.2       # so is one of which less than this share is left
GREY_OF_RGB = np.array([0.299, 0.587, 0.114])       # how bright red, green and blue look (ITU-R BT.601)
WHOLE = None                                        # SSD, section 2.2: a training sample is the whole picture, or a patch
PATCHES = (WHOLE, 0.0, 0.1, 0.3, 0.5, 0.7, 0.9)     # that overlaps an object with at least this IoU (0: any patch)
PATCH_SIDE, PATCH_ASPECT, TRIES = 0.3, 2.0, 50      # least side of a patch as a share; width / height up to 2; tries before another kind


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


def parts(place, size, window):
    """Which part of a picture of size (h, w) at this place falls into the window, in whole pixels.

    -> (x1, y1, x2, y2) in the picture, (x1, y1, x2, y2) on the canvas; None when nothing does.
    """
    height, width = size
    x, y, w, h = place
    x1, y1, x2, y2 = window
    left, top, right, bottom = max(x1, round(x)), max(y1, round(y)), min(x2, round(x + w)), min(y2, round(y + h))
    from_x, to_x = max(0, int((left - x) * width / w)), min(width, int(np.ceil((right - x) * width / w)))
    from_y, to_y = max(0, int((top - y) * height / h)), min(height, int(np.ceil((bottom - y) * height / h)))
    if right <= left or bottom <= top or to_x <= from_x or to_y <= from_y:
        return None
    return (from_x, from_y, to_x, to_y), (left, top, right, bottom)


def paste(canvas, picture, source, target, interpolation):
    """Draw the source rectangle of the picture into the target rectangle of the canvas, in place."""
    (from_x, from_y, to_x, to_y), (left, top, right, bottom) = source, target
    cv2.resize(picture[from_y:to_y, from_x:to_x], (right - left, bottom - top), dst=canvas[top:bottom, left:right], interpolation=interpolation)


def paste_shrunken(canvas, picture, source, target):
    """The same, bilinear; where four pixels or more become one, their mean: bilinear alone would skip some, and small things with them."""
    (from_x, from_y, to_x, to_y), (left, top, right, bottom) = source, target
    across, down = max(1, (to_x - from_x) // (right - left)), max(1, (to_y - from_y) // (bottom - top))
    if across * down < 4:
        paste(canvas, picture, source, target, cv2.INTER_LINEAR)
    else:                                                                   # whole blocks: quicker than blocks with a fraction
        blocks = cv2.resize(picture[from_y:to_y, from_x:to_x], (across * (right - left), down * (bottom - top)))
        cv2.resize(blocks, (right - left, bottom - top), dst=canvas[top:bottom, left:right], interpolation=cv2.INTER_AREA)


def put(canvas, image, boxes, place, window=None, visible=MIN_VISIBLE):
    """Draw the part of the picture that falls into the window on the canvas (in place). -> its boxes in canvas pixels.

    The boxes follow exactly the mapping of the whole pixels that are drawn.  visible: see `cut`.
    """
    found = parts(place, image.shape[:2], window or (0, 0, canvas.shape[1], canvas.shape[0]))
    if not found:
        return boxes[:0]
    (from_x, from_y, to_x, to_y), (left, top, right, bottom) = found
    paste_shrunken(canvas, image, *found)
    scale_x, scale_y = (right - left) / (to_x - from_x), (bottom - top) / (to_y - from_y)
    moved = boxes.copy()
    moved[:, 0:4:2] = (boxes[:, 0:4:2] - from_x) * scale_x + left
    moved[:, 1:4:2] = (boxes[:, 1:4:2] - from_y) * scale_y + top
    return cut(moved, found[1], visible)


def put_mask(canvas, labels, image, mask, place, window):
    """The same for a picture with a mask; `labels`, the canvas's mask, is drawn in place as well."""
    found = parts(place, image.shape[:2], window)
    if found:
        paste_shrunken(canvas, image, *found)
        paste(labels, mask, *found, cv2.INTER_NEAREST_EXACT)


def cut(boxes, window, visible=MIN_VISIBLE):
    """Boxes cut at the window (x1, y1, x2, y2); slivers, and those of which less than the share `visible` is left, are dropped."""
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


def scale_and_crop(rng, shape, image, boxes, scale, aspect, translate, fit="letterbox"):
    """One picture at a random place of a canvas of `shape` (H, W). -> canvas, boxes. fit: "letterbox" or "stretch", as it is in evaluation."""
    canvas = new_canvas(shape)
    window = (0, 0, shape[1], shape[0])
    return canvas, put(canvas, image, boxes, random_place(rng, proportions(image, shape, fit), window, scale, aspect, translate))


def scale_and_crop_mask(rng, shape, image, mask, scale, aspect, translate):
    """The same for a picture with a mask. -> canvas, labels (H, W)."""
    canvas, labels = new_canvas(shape), np.full(shape, IGNORED, np.uint8)
    window = (0, 0, shape[1], shape[0])
    put_mask(canvas, labels, image, mask, random_place(rng, image.shape[:2], window, scale, aspect, translate), window)
    return canvas, labels


def zoom_out(rng, size, most=4.0):
    """A view of a picture of size (h, w) from further away: it lies somewhere on a canvas up to `most` times as high and as wide.

    Source: SSD (arXiv 1512.02325), section 3.6, for small objects; the paper's 16 times are the area.
    """
    height, width = size
    growth = rng.uniform(1.0, most)
    x, y = rng.uniform(0, (growth - 1) * width), rng.uniform(0, (growth - 1) * height)
    return -x, -y, growth * width - x, growth * height - y


def iou_crop(rng, view, boxes):
    """The whole view, or a random patch of it that overlaps an object well enough. -> view, the boxes whose centre lies in it, not yet cut.

    Source: SSD, section 2.2. As in its published code the sides of a patch are 0.3 to 1 of the view's (the paper: 0.1 to 1), and one
    object with the wanted IoU is enough. A patch without the centre of any object is not taken: it would teach nothing.
    """
    centres = (boxes[:, :2] + boxes[:, 2:4]) / 2
    for least in rng.sample(PATCHES, len(PATCHES)):                         # when no patch is good enough, another kind
        if least is WHOLE or not len(boxes):
            break
        patches = np.array([random_patch(rng, view) for _ in range(TRIES)], np.float32)                 # (T, 4)
        inside = ((centres > patches[:, None, :2]) & (centres < patches[:, None, 2:])).all(2)          # (T, G)
        overlap = pairwise_iou(torch.from_numpy(patches), torch.from_numpy(boxes[:, :4])).numpy()       # (T, G)
        good = (inside & (overlap >= least)).any(1)
        if good.any():
            chosen = good.argmax()
            return tuple(patches[chosen].tolist()), boxes[inside[chosen]]
    return view, boxes


def random_patch(rng, view):
    """-> (x1, y1, x2, y2) inside the view; its aspect is relative to the view's, so that it means the same in a stretched picture."""
    x1, y1, x2, y2 = view
    size = rng.uniform(PATCH_SIDE, 1.0)
    aspect = rng.uniform(max(1 / PATCH_ASPECT, size**2), min(PATCH_ASPECT, size**-2)) ** 0.5      # so that both sides fit
    width, height = (x2 - x1) * size * aspect, (y2 - y1) * size / aspect
    x, y = rng.uniform(x1, x2 - width), rng.uniform(y1, y2 - height)
    return x, y, x + width, y + height


def put_view(shape, image, boxes, view, fit="letterbox"):
    """What a view of the picture shows, letterboxed into or stretched over a canvas of `shape` (H, W). -> canvas, boxes.

    Of a box only what lies inside stays, however little that is: `iou_crop` has chosen.
    """
    x1, y1, x2, y2 = view
    height, width = fitted_size(y2 - y1, x2 - x1, shape, fit)
    left, top = (shape[1] - width) // 2, (shape[0] - height) // 2
    across, down = width / (x2 - x1), height / (y2 - y1)
    place = left - x1 * across, top - y1 * down, image.shape[1] * across, image.shape[0] * down
    canvas = new_canvas(shape)
    return canvas, put(canvas, image, boxes, place, (left, top, left + width, top + height), visible=0.0)


def mosaic(rng, shape, pictures, scale, aspect, fit="letterbox"):
    """Four pictures that meet in one point of a canvas of `shape` (H, W), each at its own random scale.

    pictures: four (image, boxes). -> canvas, boxes. Source: YOLOv4 (arXiv 2004.10934), section 3.3.
    """
    canvas, places = new_canvas(shape), mosaic_places(rng, shape, [proportions(image, shape, fit) for image, _ in pictures], scale, aspect)
    return canvas, np.concatenate([put(canvas, image, boxes, *place) for (image, boxes), place in zip(pictures, places)])


def mosaic_mask(rng, shape, pictures, scale, aspect):
    """The same for four (image, mask). -> canvas, labels (H, W)."""
    canvas, labels = new_canvas(shape), np.full(shape, IGNORED, np.uint8)
    places = mosaic_places(rng, shape, [image.shape[:2] for image, _ in pictures], scale, aspect)
    for (image, mask), (place, window) in zip(pictures, places):
        put_mask(canvas, labels, image, mask, place, window)
    return canvas, labels


def mosaic_places(rng, shape, sizes, scale, aspect):
    """Where four pictures of sizes (h, w) lie that meet in one point. -> four (place, window)."""
    height, width = shape
    cx, cy = round(width * rng.uniform(0.3, 0.7)), round(height * rng.uniform(0.3, 0.7))
    windows = (0, 0, cx, cy), (cx, 0, width, cy), (0, cy, cx, height), (cx, cy, width, height)
    for number, (size, window) in enumerate(zip(sizes, windows)):
        _, _, w, h = random_place(rng, size, (0, 0, width, height), scale, aspect, 0.0)
        yield (cx - w if number % 2 == 0 else cx, cy - h if number < 2 else cy, w, h), window


def mixup(rng, image, boxes, other_image, other_boxes):
    """Two pictures of one size laid over each other, with the boxes of both. Source: arXiv 1710.09412; share near one half as in YOLOX."""
    share = rng.betavariate(32.0, 32.0)
    return cv2.addWeighted(image, share, other_image, 1 - share, 0), np.concatenate([boxes, other_boxes])


def flip(image, boxes):
    """Left becomes right."""
    flipped = boxes.copy()
    flipped[:, [0, 2]] = image.shape[1] - boxes[:, [2, 0]]
    return cv2.flip(image, 1), flipped


def flip_mask(image, mask):
    return cv2.flip(image, 1), cv2.flip(mask, 1)


def rotate(angle, image, boxes=None, mask=None):
    """Turn the picture about its middle by `angle` degrees, counter-clockwise; grey and IGNORED come in at the corners.

    -> image, boxes, mask. A box becomes the upright one around its turned corners, which is larger than the object: keep angles small.
    """
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.0)       # between pixel centres
    image = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderValue=(GREY,) * 3)
    if mask is not None:
        mask = cv2.warpAffine(mask, matrix, (width, height), flags=cv2.INTER_NEAREST, borderValue=IGNORED)
    if boxes is not None and len(boxes):
        corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2) - 0.5                # (G, 4, 2), edges -> between centres
        corners = corners @ matrix[:, :2].T + matrix[:, 2] + 0.5
        boxes = boxes.copy()
        boxes[:, :2], boxes[:, 2:4] = corners.min(1), corners.max(1)
        boxes = cut(boxes, (0, 0, width, height))
    return image, boxes, mask


def blur(rng, image):
    """Out of focus: a Gaussian of 5 x 5 px, by a random amount."""
    return cv2.GaussianBlur(image, (5, 5), rng.uniform(0.3, 1.5))


def change_colours(rng, image, gains):
    """Random hue, saturation and brightness (HSV), in place. gains: (0.015, 0.7, 0.4) turns the hue by up to 1.5 % of the circle,
    and multiplies saturation and brightness by 1 +- 0.7 and 1 +- 0.4.

    All three are linear in RGB, so that one 3 x 3 matrix does them in a tenth of the time of a way there and back through HSV:
    the hue is a turn around the grey axis, the saturation a stretch away from the pixel's own grey, the brightness a factor.
    """
    hue, saturation, brightness = (rng.uniform(-gain, gain) for gain in gains)
    cv2.transform(image, (1 + brightness) * turned(hue) @ saturated(saturation), dst=image)
    return image


def turned(hue):
    """The (3, 3) matrix on RGB that turns the hue by this share of the circle: a third makes red green."""
    cos, sin = np.cos(2 * np.pi * hue), np.sin(2 * np.pi * hue) / np.sqrt(3)
    return np.full((3, 3), (1 - cos) / 3) + cos * np.eye(3) + sin * np.array([[0, -1, 1], [1, 0, -1], [-1, 1, 0]])


def saturated(gain):
    """The (3, 3) matrix on RGB that multiplies the saturation by 1 + gain."""
    return (1 + gain) * np.eye(3) - gain * GREY_OF_RGB


def distort(rng, image):
    """Brightness, contrast, saturation and hue, each with chance one half, in random order, in place.

    Source: SSD, section 2.2, with the amounts of its published code: +- 32 of 255, times 0.5 to 1.5 for the next two, +- a tenth of the
    circle. That code can also swap the channels, but its chance for that is 0. As in `change_colours` one matrix does it all, with a
    fourth column that is added.
    """
    total = np.eye(4)
    for change in rng.sample(("brightness", "contrast", "saturation", "hue"), 4):
        if rng.random() < 0.5:
            step = np.eye(4)
            if change == "brightness":
                step[:3, 3] = rng.uniform(-32, 32)
            elif change == "contrast":
                step[:3, :3] *= rng.uniform(0.5, 1.5)
            elif change == "saturation":
                step[:3, :3] = saturated(rng.uniform(-0.5, 0.5))
            else:
                step[:3, :3] = turned(rng.uniform(-0.1, 0.1))
            total = step @ total
    cv2.transform(image, total[:3], dst=image)
    return image
