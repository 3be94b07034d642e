"""The augmentation tried out before the first epoch: every transform that the settings use, alone, and then
whole samples.

A transform that somebody changed breaks here, with its name and the file, and not in a worker after an hour;
or, worse, never.
"""
import random
import time

import numpy as np
import torch

from utils import augment
from utils.augment import Sample
from utils.dataset import BrokenFile
from utils.errors import UserError
from utils.images import IGNORED

SECONDS = 0.8                   # then nothing more is begun, once two pictures and a whole sample were tried
SLACK = 3.0                     # px by which a box may miss what is painted in it: rounding, interpolation
TWIST = 7.0                     # degrees: the rotation is tried with this angle, or with a smaller setting
LOOKS = ("blur", "distort", "change_colours", "mixup")      # nothing moves (mixup adds a second picture)
ON_CANVAS = ("scale_and_crop", "mosaic", "zoom_out", "iou_crop")        # the result is as large as the input
ALIKE = 0.15                    # share of a painted area on which picture and mask may differ: its border
SMALLEST = 48                   # px: in a smaller picture the painted rectangle is too small to be followed


def check_augmentation(data, samples=8):
    """Try the augmentation of a training set on a few samples, spread over its list. -> how many were tried.

    data: DetectionData or SegmentationData with an augmentation.
    Errors: a transform raises something, or returns another shape or type; boxes that are not finite, outside
    or upside down; labels or mask values that were not there; boxes or masks that do not follow the picture.
    Transform and file are named.
    """
    began = time.perf_counter()
    tried = 0
    for index in spread(len(data), samples):
        if tried >= 2 and time.perf_counter() - began > SECONDS:
            break
        try:
            sample, _ = data.load(index)
        except BrokenFile:
            continue                                        # training skips it, and says so
        tried += 1

        # Each transform alone: on the picture, and on a painted one, where one sees if the truth follows.
        sample = clip_boxes(sample)
        canvas = paint(data, sample.image.shape[:2])
        for name, transform in transforms(data):
            followed = min(sample.image.shape[:2]) >= SMALLEST and name not in LOOKS
            check_one(name, transform, data, index, sample)
            check_one(name, transform, data, index, canvas, follow=followed)
        check_flip(data, index, sample)

        # Whole samples of each kind of epoch: with a small input, with everything, without mosaic.
        epochs = {0, data.small_until, data.augmentation.plain_from or 0}
        for epoch in sorted(epochs):
            if tried == 1 and epoch == 0 or time.perf_counter() - began < SECONDS:
                check_sample(data, epoch, index)
    return tried


def spread(length, count):
    """-> at most `count` indices from 0 to length - 1, evenly spread, with the first and the last."""
    count = min(count, length)
    return sorted({round(i * (length - 1) / max(1, count - 1)) for i in range(count)})


def clip_boxes(sample):
    """The sample with its boxes cut at the picture, those without area left out: a list may hold such."""
    if sample.boxes is None:
        return sample
    height, width = sample.image.shape[:2]
    boxes = sample.boxes.copy()
    boxes[:, 0:4:2] = boxes[:, 0:4:2].clip(0, width)
    boxes[:, 1:4:2] = boxes[:, 1:4:2].clip(0, height)
    return Sample(sample.image, boxes[(boxes[:, 2:4] > boxes[:, :2]).all(1)])


def transforms(data):
    """[(name in augment.py, function (rng, sample) -> sample)] of what the settings of a dataset use.

    They are looked up in `augment` at each call, so that a function that was changed is the one that is
    tried.
    """
    how, shape = data.augmentation, data.input_shape

    def scale_and_crop(rng, sample):
        return augment.scale_and_crop(rng, shape, sample, how.scale, how.aspect, how.translate, data.fit)

    def mosaic(rng, sample):
        return augment.mosaic(rng, shape, [sample] * 4, how.scale, how.aspect, data.fit)

    def zoom_out(rng, sample):
        return augment.put_view(shape, sample, augment.zoom_out(rng, sample.image.shape[:2]), data.fit)

    def iou_crop(rng, sample):
        whole = (0, 0, sample.image.shape[1], sample.image.shape[0])
        view, boxes = augment.iou_crop(rng, whole, sample.boxes)
        return augment.put_view(shape, Sample(sample.image, boxes), view, data.fit)

    def rotate(rng, sample):
        return augment.rotate(min(how.rotate, TWIST), sample)

    def pixels(name, *more):                    # of a function that changes a picture, in place or not
        def transform(rng, sample):
            image = getattr(augment, name)(rng, sample.image.copy(), *more)
            return Sample(image, sample.boxes, sample.mask)
        return transform

    found = [("scale_and_crop", scale_and_crop, True), ("mosaic", mosaic, how.mosaic)]
    if data.task == "detection":
        found += [("zoom_out", zoom_out, how.zoom_out), ("iou_crop", iou_crop, how.iou_crop),
                  ("mixup", lambda rng, sample: augment.mixup(rng, sample, sample), how.mixup)]
    found += [("flip", lambda rng, sample: augment.flip(sample), how.flip), ("rotate", rotate, how.rotate),
              ("blur", pixels("blur"), how.blur), ("distort", pixels("distort"), how.distort),
              ("change_colours", pixels("change_colours", how.colours), any(how.colours))]
    return [(name, function) for name, function, used in found if used]


def check_one(name, transform, data, index, sample, follow=False):
    """Apply a transform to one sample and judge what comes out. follow: the truth must be on the paint."""
    file = data.paths[index]
    image, truth = sample.image, truth_of(sample, data.task)
    image_before, truth_before = image.copy(), truth.copy()
    try:
        result = transform(random.Random(f"dry run {index}"), sample)
    except UserError:
        raise
    except Exception as error:
        raise broken(name, file, f"it raised {type(error).__name__}: {error}") from error
    if not isinstance(result, Sample):
        raise broken(name, file, f"it returned {kind_of(result)}, expected Sample(image, boxes, mask)")

    # What it was given must be as before: it may be a picture in the cache.
    if not (np.array_equal(image, image_before) and np.array_equal(truth, truth_before)):
        raise broken(name, file, "it changed the picture or its labels that it was given "
                                 "(they are kept for the next epoch): work on a copy")

    # The picture.
    shape = data.input_shape if name in ON_CANVAS else image.shape[:2]
    if not is_array(result.image, np.uint8) or result.image.shape != (*shape, 3):
        raise broken(name, file, f"the picture is {kind_of(result.image)}, expected uint8 {(*shape, 3)}")
    may_be_black = name == "change_colours" and data.augmentation.colours[2] > 0.9
    if name in LOOKS and image.mean() > 64 and result.image.max(initial=0) <= 1 and not may_be_black:
        raise broken(name, file, "the picture has become black: values from 0 to 1 instead of 0 to 255?")

    # Its boxes, or its mask.
    after = truth_of(result, data.task)
    check_truth = check_boxes if data.task == "detection" else check_mask
    check_truth(name, file, after, shape, truth, len(data.class_names))
    if name in LOOKS and name != "mixup" and not np.array_equal(after, truth):
        raise broken(name, file, "it moved boxes or mask, but changes the colours only")
    if follow and can_be_followed(name, data, result):
        check_follows(name, file, result, sample)


def truth_of(sample, task):
    """Its boxes (G, 6) or its mask (h, w)."""
    return sample.boxes if task == "detection" else sample.mask


def can_be_followed(name, data, result):
    """Whether the place of a painted rectangle can be compared with the truth of a transform's result."""
    if name == "mosaic" or data.task == "segmentation" and len(data.class_names) == 1:
        return False
    if name != "rotate" or data.task == "segmentation":
        return True

    # At the border the box around a turned corner is larger than what is seen of it.
    height, width = result.image.shape[:2]
    at_border = (result.boxes[:, :2] <= 0).any() or (result.boxes[:, 2:4] >= (width, height)).any()
    return not at_border


def check_boxes(name, file, boxes, shape, given, classes):
    """boxes (G, 6) float32: xyxy px, class, difficult. shape: (H, W)."""
    if not is_array(boxes, np.float32) or boxes.ndim != 2 or boxes.shape[1:] != given.shape[1:]:
        raise broken(name, file, f"the boxes are {kind_of(boxes)}, expected float32 (G, {given.shape[1]})")
    if not np.isfinite(boxes).all():
        raise broken(name, file, "a box is NaN or infinite")

    # Inside the picture, and the right way round.
    if (boxes[:, :2] < -0.01).any() or (boxes[:, 2:4] > np.array(shape[::-1]) + 0.01).any():
        size = f"{shape[1]} x {shape[0]} pixels"
        raise broken(name, file, f"a box reaches beyond the picture of {size}: {worst(boxes, shape)}")
    turned = (boxes[:, 2:4] <= boxes[:, :2]).any(1)
    if turned.any():
        raise broken(name, file, f"a box has x1 >= x2 or y1 >= y2: {boxes[turned][0, :4].tolist()}")

    strange = set(boxes[:, 4].tolist()) - set(given[:, 4].tolist())
    if strange or (boxes[:, 4] >= classes).any():
        raise broken(name, file, f"there are objects of the classes {sorted(strange)}, "
                                 "which were not in the picture")


def check_mask(name, file, mask, shape, given, classes):
    """mask (H, W) uint8, values 0 to K-1 and 255, no new ones. shape: (H, W)."""
    if not is_array(mask, np.uint8) or mask.shape != tuple(shape):
        raise broken(name, file, f"the mask is {kind_of(mask)}, expected uint8 {tuple(shape)}")
    strange = set(np.unique(mask).tolist()) - set(np.unique(given).tolist()) - {IGNORED}
    if strange:
        raise broken(name, file, f"the mask holds the values {sorted(strange)[:5]}, "
                                 "which it did not hold before: "
                                 "masks must be resized with nearest neighbour, never mixed")


def paint(data, size):
    """-> Sample: a black picture of size (h, w) with a white rectangle left of the middle, and its truth."""
    height, width = size
    x1, y1 = width // 8, height // 4
    x2, y2 = max(x1 + 1, width * 3 // 8), max(y1 + 1, height * 3 // 4)
    image = np.zeros((height, width, 3), np.uint8)
    image[y1:y2, x1:x2] = 255
    if data.task == "detection":
        return Sample(image, np.array([[x1, y1, x2, y2, 0, 0]], np.float32))
    mask = np.zeros(size, np.uint8)
    mask[y1:y2, x1:x2] = len(data.class_names) - 1
    return Sample(image, mask=mask)


def check_follows(name, file, result, before):
    """Error when the result's box or mask is not where the white rectangle of `before` (see `paint`) went."""
    white = result.image.min(2) > 180
    if result.boxes is not None:
        check_box_follows(name, file, white, result.boxes, before.boxes)
    else:
        check_mask_follows(name, file, white, result.mask)


def check_box_follows(name, file, white, boxes, before):
    """white: (H, W) bool.  boxes, before: (G, 6) px of the result and of the painted picture."""
    if len(boxes) != 1:
        return
    sides = boxes[0, 2:4] - boxes[0, :2]
    if not white.any():
        if sides.min() > 2 * SLACK:
            raise broken(name, file, "the box stays, but its object is not in the picture any more")
        return

    # The white pixels' own box; what is enlarged has a soft border, which is that much wider.
    rows, columns = np.flatnonzero(white.any(1)), np.flatnonzero(white.any(0))
    seen = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
    larger = (sides / (before[0, 2:4] - before[0, :2])).max()
    if np.abs(boxes[0, :4] - seen).max() > SLACK + max(1.0, larger):
        box = np.round(boxes[0, :4], 1).tolist()
        raise broken(name, file, f"the box does not follow the picture: it is {box}, "
                                 f"its object is at {seen.tolist()}")


def check_mask_follows(name, file, white, mask):
    """white: (H, W) bool.  mask: (H, W) of the result; its largest label is that of the painted rectangle."""
    known = mask != IGNORED
    label = mask[known].max(initial=0)
    inside = (mask == label) & (label > 0)

    # A border may differ: a share of the area, and a few pixels along its edges.
    area = max(inside.sum(), (white & known).sum())
    different = ((white != inside) & known).sum()
    if area > 64 and different > ALIKE * area + 6 * area**0.5:
        raise broken(name, file, "the mask does not follow the picture")


def check_flip(data, index, sample):
    """Flipped twice a sample must be what it was."""
    if not data.augmentation.flip:
        return
    again = augment.flip(augment.flip(sample))
    truths = [truth_of(one, data.task) for one in (again, sample)]
    if not np.array_equal(again.image, sample.image) or not np.allclose(*truths, atol=0.01):
        file = data.paths[index]
        raise broken("flip", file, "done twice, it does not give back the picture and its labels")


def check_sample(data, epoch, index):
    """Error when the sample that training will see is not one: image (3, H, W) uint8, boxes or mask as in
    dataset.py; the same each time."""
    file, shape = data.paths[index], data.shape(epoch)
    try:
        image, target = data[epoch, index]
        same_image, same_target = data[epoch, index]
    except UserError:
        raise
    except Exception as error:
        raise broken("sample", file, f"it raised {type(error).__name__}: {error}") from error

    for sentence in target.get("damaged", ()):              # it is told once only
        print(f"NOTE: {sentence} Training goes on without it.")
    if image.dtype != torch.uint8 or image.shape != (3, *shape):
        raise broken("sample", file, f"the image is {kind_of(image)}, expected torch.uint8 {(3, *shape)}")

    # The truth, judged by the rules of the single transforms: every class of the list may be there.
    classes = len(data.class_names)
    if data.task == "detection":
        labels = target["labels"][:, None]
        rows = torch.cat([target["boxes"], labels, torch.zeros_like(labels)], 1).numpy().astype(np.float32)
        known = np.array([[0, 0, 1, 1, label, 0] for label in range(classes)], np.float32)
        check_boxes("sample", file, rows, shape, known, classes)
    else:
        check_mask("sample", file, target["mask"].numpy(), shape, np.arange(classes), classes)

    # The second time everything must be as the first time.
    part = "boxes" if data.task == "detection" else "mask"
    if not torch.equal(image, same_image) or not torch.equal(target[part], same_target[part]):
        raise broken("sample", file, "the same sample came out differently the second time: draw all "
                                     "chance from the rng that is passed, so that resuming stays exact")


def broken(name, file, what):
    """name: of a transform, or "sample" for all of them together."""
    place = "The augmented sample" if name == "sample" else f"The augmentation {name} (utils/augment.py)"
    return UserError(f"{place} is wrong, tried on {file}: {what}.")


def is_array(value, dtype):
    return isinstance(value, np.ndarray) and value.dtype == dtype


def kind_of(value):
    return f"{value.dtype} {tuple(value.shape)}" if hasattr(value, "dtype") else type(value).__name__


def worst(boxes, shape):
    """The box that reaches furthest beyond the picture."""
    beyond = np.maximum(-boxes[:, :2], boxes[:, 2:4] - np.array(shape[::-1])).max(1)
    return np.round(boxes[beyond.argmax(), :4], 1).tolist()
