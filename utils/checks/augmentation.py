"""The augmentation tried out before the first epoch: each transform in use, then whole samples.

A transform that somebody changed breaks here, with its name and the file, and not in a worker after an hour;
or, worse, never.
"""
import random
import time

import numpy as np
import torch

from utils import augment
from utils.dataset import BrokenFile
from utils.errors import UserError
from utils.images import IGNORED

SECONDS = 0.8                   # after that nothing new is begun, but two pictures are always tried
SLACK = 3.0                     # px by which a box may miss what is painted in it: rounding, interpolation
TWIST = 7.0                     # degrees, for a look at the rotation where little is asked for
LOOKS = ("blur", "distort", "change_colours", "mixup")      # these move nothing (mixup adds a picture)
ALIKE = 0.15                    # share of a painted area on which picture and mask may differ: its border


def check_augmentation(data, samples=8):
    """Try the augmentation of a training set on a few samples, spread over its list.

    data: DetectionData or SegmentationData with train=True.
    Errors: a transform raises something, or returns another shape or type, boxes that are not finite, not
    inside or turned, labels or mask values that were not there; boxes or masks that do not follow the picture.
    Transform and file are named.
    """
    began, tried = time.perf_counter(), 0
    count = min(samples, len(data))
    for index in sorted({round(i * (len(data) - 1) / max(1, count - 1)) for i in range(count)}):
        if tried >= 2 and time.perf_counter() - began > SECONDS:
            break
        try:
            image, truth = data.picture(index)[:2] if data.task == "detection" else data.cached(index)[:2]
        except BrokenFile:
            continue                                        # training skips it, and says so

        # Each transform alone: on the sample, and on a painted picture that shows whether the truth follows.
        tried += 1
        truth = inside(truth, image.shape) if data.task == "detection" else truth
        for name, transform in transforms(data):
            check_one(name, transform, data, index, image, truth)
            check_one(name, transform, data, index, *painted(data, image.shape[:2]),
                      follow=min(image.shape[:2]) >= 48 and name not in LOOKS)
        check_flip(data, index, image, truth)

        # Whole samples, one for each stage of the training: small input, usual input, no mosaic any more.
        for epoch in sorted({0, data.small_until, *([data.plain_from] if data.plain_from is not None else [])}):
            if tried == 1 and epoch == 0 or time.perf_counter() - began < SECONDS:
                check_sample(data, epoch, index)
    return tried


def inside(boxes, shape):
    """Boxes (G, 6) cut at the picture, those without area left out: a list of the user may hold others."""
    boxes = boxes.copy()
    boxes[:, 0:4:2] = boxes[:, 0:4:2].clip(0, shape[1])
    boxes[:, 1:4:2] = boxes[:, 1:4:2].clip(0, shape[0])
    return boxes[(boxes[:, 2:4] > boxes[:, :2]).all(1)]


def transforms(data):
    """[(name in augment.py, function (rng, image, truth) -> image, truth)] of what a dataset's settings use.

    truth: boxes (G, 6) or mask (h, w). Looked up by name at each call,
    so that a changed function is the one that is tried.
    """
    shape, place = data.input_shape, (data.scale, data.aspect, data.translate)
    angle = data.rotation or 0.0

    def same(function):                                     # one that changes the pixels only
        return lambda rng, image, truth: (function(rng, image.copy()), truth)

    def call(name, *before, after=()):
        return lambda rng, image, truth: getattr(augment, name)(rng, *before, image, truth, *after)

    # The third value says whether the settings use it.
    boxes = data.task == "detection"
    if boxes:
        found = [("scale_and_crop", call("scale_and_crop", shape, after=(*place, data.fit)), True),
                 ("mosaic", lambda rng, image, truth: augment.mosaic(rng, shape, [(image, truth)] * 4, data.scale, data.aspect, data.fit),
                  data.mosaic_chance),
                 ("zoom_out", lambda rng, image, truth: augment.put_view(shape, image, truth, augment.zoom_out(rng, image.shape[:2]), data.fit),
                  data.zoom_out_chance),
                 ("iou_crop", lambda rng, image, truth: put_crop(rng, shape, image, truth, data.fit), data.iou_crop_chance),
                 ("mixup", lambda rng, image, truth: augment.mixup(rng, image, truth, image, truth), data.mixup_chance),
                 ("flip", lambda rng, image, truth: augment.flip(image, truth), data.flip_chance),
                 ("rotate", lambda rng, image, truth: augment.rotate(min(angle, TWIST), image, truth)[:2], angle)]
    else:
        found = [("scale_and_crop_mask", call("scale_and_crop_mask", shape, after=place), True),
                 ("mosaic_mask", lambda rng, image, truth: augment.mosaic_mask(rng, shape, [(image, truth)] * 4, data.scale, data.aspect),
                  data.mosaic_chance),
                 ("flip_mask", lambda rng, image, truth: augment.flip_mask(image, truth), data.flip_chance),
                 ("rotate", lambda rng, image, truth: augment.rotate(min(angle, TWIST), image, mask=truth)[::2], angle)]

    # Those that change the pixels only are the same for both tasks.
    found += [("blur", same(lambda rng, image: augment.blur(rng, image)), data.blur_chance),
              ("distort", same(lambda rng, image: augment.distort(rng, image)), data.distort_chance),
              ("change_colours", same(lambda rng, image: augment.change_colours(rng, image, data.colours)), any(data.colours))]
    return [(name, function) for name, function, used in found if used]


def put_crop(rng, shape, image, boxes, fit):
    view, boxes = augment.iou_crop(rng, (0, 0, image.shape[1], image.shape[0]), boxes)
    return augment.put_view(shape, image, boxes, view, fit)


def check_one(name, transform, data, index, image, truth, follow=False):
    """Apply a transform to one picture and judge what comes out.
    follow: the picture is a painted one, its truth must be on the paint."""
    file = data.paths[index]
    before = image.copy(), truth.copy()
    try:
        result, after = transform(random.Random(f"dry run {index}"), image, truth)
    except UserError:
        raise
    except Exception as error:
        raise broken(name, file, f"it raised {type(error).__name__}: {error}") from error

    # The picture: untouched as it was given, a picture as it was returned.
    if not (np.array_equal(image, before[0]) and np.array_equal(truth, before[1])):
        raise broken(name, file, "it changed the picture or the labels that it was given, "
                                 "which are kept for the next epoch: work on a copy")
    shape = data.input_shape if name.startswith(("scale", "mosaic", "zoom", "iou")) else image.shape[:2]
    if not isinstance(result, np.ndarray) or result.dtype != np.uint8 or result.shape != (*shape, 3):
        raise broken(name, file, f"the picture is {kind_of(result)}, expected uint8 {(*shape, 3)}")
    if name in LOOKS and image.mean() > 64 and result.max(initial=0) <= 1 and not (name == "change_colours" and data.colours[2] > 0.9):
        raise broken(name, file, "the picture has become black: values from 0 to 1 in the place of 0 to 255?")

    # The truth: valid by itself, unmoved where nothing moves, on the paint where something does.
    (check_boxes if data.task == "detection" else check_mask)(name, file, after, shape, truth, len(data.class_names))
    if name in LOOKS and name != "mixup" and not np.array_equal(after, truth):
        raise broken(name, file, "it moved boxes or mask, but changes the colours only")
    if follow and name not in ("mosaic", "mosaic_mask") and (data.task == "detection" or len(data.class_names) > 1):
        # At the border the box around a turned corner is larger than what is seen of it.
        at_border = data.task == "detection" and (after[:, :2] <= 0).any() | (after[:, 2:4] >= result.shape[1::-1]).any()
        if not (name == "rotate" and at_border):
            check_follows(name, file, result, after, truth)


def check_boxes(name, file, boxes, shape, given, classes):
    """boxes (G, 6) float32: xyxy px, class, difficult. shape: (H, W)."""
    right_kind = isinstance(boxes, np.ndarray) and boxes.dtype == np.float32
    if not right_kind or boxes.ndim != 2 or boxes.shape[1:] != given.shape[1:]:
        raise broken(name, file, f"the boxes are {kind_of(boxes)}, expected float32 (G, {given.shape[1]})")

    # Where they are.
    if not np.isfinite(boxes).all():
        raise broken(name, file, "a box is NaN or infinite")
    if (boxes[:, :2] < -0.01).any() or (boxes[:, 2:4] > np.array(shape[::-1]) + 0.01).any():
        raise broken(name, file, f"a box reaches beyond the picture of {shape[1]} x {shape[0]} pixels: "
                                 f"{worst(boxes, shape)}")
    if (boxes[:, 2] <= boxes[:, 0]).any() or (boxes[:, 3] <= boxes[:, 1]).any():
        turned = boxes[(boxes[:, 2:4] <= boxes[:, :2]).any(1)]
        raise broken(name, file, f"a box has x1 >= x2 or y1 >= y2: {turned[0, :4].tolist()}")

    # What they are.
    strange = set(boxes[:, 4].tolist()) - set(given[:, 4].tolist())
    if strange or (boxes[:, 4] >= classes).any():
        raise broken(name, file,
                     f"there are objects of the classes {sorted(strange)}, which were not in the picture")


def check_mask(name, file, mask, shape, given, classes):
    """mask (H, W) uint8, values 0 to K-1 and 255, no new ones. shape: (H, W)."""
    if not isinstance(mask, np.ndarray) or mask.dtype != np.uint8 or mask.shape != tuple(shape):
        raise broken(name, file, f"the mask is {kind_of(mask)}, expected uint8 {tuple(shape)}")
    strange = set(np.unique(mask).tolist()) - set(np.unique(given).tolist()) - {IGNORED}
    if strange:
        raise broken(name, file,
                     f"the mask holds the values {sorted(strange)[:5]}, which it did not hold before: "
                                 "masks must be resized with nearest neighbour, never mixed")


def painted(data, size):
    """A black picture of size (h, w) with one white rectangle left of the middle, and its truth."""
    height, width = size
    x1, x2 = width // 8, max(width // 8 + 1, width * 3 // 8)
    y1, y2 = height // 4, max(height // 4 + 1, height * 3 // 4)
    image = np.zeros((height, width, 3), np.uint8)
    image[y1:y2, x1:x2] = 255
    if data.task == "detection":
        return image, np.array([[x1, y1, x2, y2, 0, 0]], np.float32)
    mask = np.zeros(size, np.uint8)
    mask[y1:y2, x1:x2] = len(data.class_names) - 1
    return image, mask


def check_follows(name, file, image, truth, before):
    """Error when box or mask (before: those of `painted`) are not where the white rectangle has gone to."""
    white = image.min(2) > 180
    if truth.ndim == 2 and truth.dtype == np.float32:
        check_box_follows(name, file, white, truth, before)
        return

    # The mask: every pixel that is known should agree with the paint, except along the border.
    known = truth != IGNORED
    foreground = truth[known].max(initial=0)
    inside = truth == foreground if foreground else np.zeros_like(known)
    area = max(inside.sum(), (white & known).sum())
    if area > 64 and ((white != inside) & known).sum() > ALIKE * area + 6 * area**0.5:
        raise broken(name, file, "the mask does not follow the picture")


def check_box_follows(name, file, white, boxes, before):
    """The same for boxes (G, 6). white: (H, W) bool, where the rectangle is seen."""
    if len(boxes) != 1:
        return
    sides = boxes[0, 2:4] - boxes[0, :2]
    if not white.any():
        if sides.min() > 2 * SLACK:
            raise broken(name, file, "the box stays, but its object is not in the picture any more")
        return

    # What is enlarged has a soft border, so it may miss by more.
    rows, columns = np.flatnonzero(white.any(1)), np.flatnonzero(white.any(0))
    seen = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    larger = (sides / (before[0, 2:4] - before[0, :2])).max()
    if np.abs(boxes[0, :4] - seen).max() > SLACK + max(1.0, larger):
        raise broken(name, file,
                     f"the box does not follow the picture: it is {np.round(boxes[0, :4], 1).tolist()}, "
                                 f"its object is at {seen.tolist()}")


def check_flip(data, index, image, truth):
    """Turned over twice a picture must be what it was."""
    if data.flip_chance:
        flip = augment.flip if data.task == "detection" else augment.flip_mask
        again = flip(*flip(image, truth))
        if not np.array_equal(again[0], image) or not np.allclose(again[1], truth, atol=0.01):
            raise broken(flip.__name__, data.paths[index], "done twice, it does not give back the picture and its labels")


def check_sample(data, epoch, index):
    """Error when the sample that training will see is none: image (3, H, W) uint8,
    boxes or mask as in dataset.py; always the same."""
    file, shape = data.paths[index], data.shape(epoch)
    try:
        (image, target), (again, other) = data[epoch, index], data[epoch, index]
    except UserError:
        raise
    except Exception as error:
        raise broken("sample", file, f"it raised {type(error).__name__}: {error}") from error

    # A damaged file that another sample stands in for is no fault of the augmentation.
    for sentence in target.get("damaged", ()):              # it is told once only
        print(f"NOTE: {sentence} Training goes on without it.")
    if image.dtype != torch.uint8 or image.shape != (3, *shape):
        raise broken("sample", file,
                     f"the image is {image.dtype} {tuple(image.shape)}, expected torch.uint8 {(3, *shape)}")

    if data.task == "detection":
        columns = [target["boxes"], target["labels"][:, None], torch.zeros(len(target["labels"]), 1)]
        rows = torch.cat(columns, 1).numpy().astype(np.float32)
        known = np.array([[0, 0, 1, 1, label, 0] for label in range(len(data.class_names))], np.float32)
        check_boxes("sample", file, rows, shape, known, len(data.class_names))
    else:
        check_mask("sample", file, target["mask"].numpy(), shape, np.arange(len(data.class_names)), len(data.class_names))

    # The two samples were asked for in the same way: nothing may be left to chance.
    part = "boxes" if data.task == "detection" else "mask"
    if not torch.equal(image, again) or not torch.equal(target[part], other[part]):
        raise broken("sample", file, "the same sample came out differently the second time: "
                                     "draw all random numbers from the rng that is passed, "
                                     "so that resumed trainings stay exact")


def broken(name, file, what):
    """name: of a transform, or "sample" for all of them together."""
    place = "The augmented sample" if name == "sample" else f"The augmentation {name} (utils/augment.py)"
    return UserError(f"{place} is not right, tried on {file}: {what}.")


def kind_of(value):
    return f"{value.dtype} {tuple(value.shape)}" if hasattr(value, "dtype") else type(value).__name__


def worst(boxes, shape):
    """The box that reaches furthest beyond the picture."""
    beyond = np.maximum(-boxes[:, :2], boxes[:, 2:4] - np.array(shape[::-1])).max(1)
    return np.round(boxes[beyond.argmax(), :4], 1).tolist()
