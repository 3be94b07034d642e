"""utils/checks/augmentation.py: a broken augmentation is named before the first epoch."""
import random
import time

import cv2
import numpy as np
import pytest
from PIL import Image
from varied import dataset_options

from utils import augment
from utils.augment import Sample
from utils.checks import augmentation as dry_run
from utils.dataset import DetectionData, SegmentationData
from utils.errors import UserError

EVERYTHING = {"rotate": 10.0, "blur": 0.5, "distort": 0.5, "mosaic": 0.5, "plain_from": 2}
BOXES = {**EVERYTHING, "mixup": 0.3, "zoom_out": 0.3, "iou_crop": 0.5}


def make_data(root, task, count=6, size=(60, 48), shape=(64, 96), **settings):
    rng, lines = np.random.default_rng(3), []
    for number in range(count):
        Image.fromarray(rng.integers(0, 255, (*size[::-1], 3), dtype=np.uint8)).save(root / f"图 {number}.jpg")
        if task == "segmentation":
            mask = np.zeros(size[::-1], np.uint8)
            mask[5:30, 4:30], mask[:3] = 1, 255
            Image.fromarray(mask).save(root / f"图 {number}.png")
            lines.append(f"图 {number}.jpg\t图 {number}.png\n")
        else:
            lines.append(f"图 {number}.jpg" + " 3,4,30,40,1 20,5,55,25,0,1" * (number > 0) + "\n")
    (root / "list.txt").write_text("".join(lines), encoding="utf-8")
    kind = SegmentationData if task == "segmentation" else DetectionData
    return kind("list.txt", ["cat", "dog"], shape, **dataset_options(**settings))


@pytest.mark.parametrize("fit", ["letterbox", "stretch"])
@pytest.mark.parametrize("size, shape", [((60, 48), (64, 96)), ((300, 40), (96, 64)), ((7, 300), (64, 64)), ((1, 1), (64, 64)),
                                         ((500, 375), (96, 96))])
def test_ours_passes(root, size, shape, fit):
    data = make_data(root, "detection", size=size, shape=shape, fit=fit, **BOXES)
    assert dry_run.check_augmentation(data) >= 2
    if fit == "letterbox":
        assert dry_run.check_augmentation(make_data(root, "segmentation", size=size, shape=shape, **EVERYTHING)) >= 2


@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_plain_settings_and_one_image(root, task):
    data = make_data(root, task, count=1, flip=0.0, colours=(0, 0, 0))
    assert dry_run.check_augmentation(data) == 1
    assert [name for name, _ in dry_run.transforms(data)] == ["scale_and_crop"]


def test_it_takes_less_than_a_second(root):
    data = make_data(root, "detection", count=10, size=(640, 480), shape=(416, 416), **BOXES)
    began = time.process_time()
    assert dry_run.check_augmentation(data) >= 2
    assert time.process_time() - began < 4                  # alone on a core it is 1 s: the machine of the tests is shared


def test_every_sample_is_on_time_spread_over_the_list(root, monkeypatch):
    data, seen = make_data(root, "detection", count=6), []
    monkeypatch.setattr(dry_run, "check_sample", lambda data, epoch, index: seen.append(index))
    monkeypatch.setattr(dry_run, "SECONDS", 100)
    dry_run.check_augmentation(data, samples=3)
    assert seen == [0, 2, 5]


def wrong(change):
    """A transform whose boxes are changed afterwards."""
    def broken(real):
        def transform(*arguments, **options):
            image, boxes, _ = real(*arguments, **options)
            return Sample(image, change(boxes))
        return transform
    return broken


def wrong_mask(change):
    """A transform whose mask is changed afterwards."""
    def broken(real):
        def transform(*arguments, **options):
            image, _, mask = real(*arguments, **options)
            return Sample(image, mask=change(mask))
        return transform
    return broken


def wrong_image(change):
    """A transform whose picture is changed afterwards."""
    def broken(real):
        def transform(*arguments, **options):
            image, boxes, mask = real(*arguments, **options)
            return Sample(change(image), boxes, mask)
        return transform
    return broken


def crash(*_, **__):
    raise ZeroDivisionError("division by zero")


def with_row(boxes, *row):
    return np.concatenate([boxes, np.array([row], np.float32)])


def only_the_image(sample):
    return Sample(cv2.flip(sample.image, 1), sample.boxes, sample.mask)


def in_place(real):
    def flip(sample):
        sample.boxes[:] = real(sample).boxes
        return only_the_image(sample)
    return flip


BROKEN = [                                                  # transform, what is done to it, words of the message
    ("flip", lambda real: crash, ["flip", "ZeroDivisionError"]),
    ("flip", lambda real: only_the_image, ["flip", "does not follow"]),
    ("flip", lambda real: lambda sample: Sample(sample.image, real(sample).boxes), ["flip", "does not follow"]),
    ("flip", lambda real: lambda sample: tuple(real(sample))[:2], ["flip", "returned tuple", "expected Sample"]),
    ("flip", in_place, ["flip", "work on a copy"]),
    ("flip", wrong(lambda boxes: boxes[:, [2, 1, 0, 3, 4, 5]]), ["flip", "x1 >= x2"]),
    ("flip", wrong(lambda boxes: None), ["flip", "NoneType"]),
    ("flip", wrong_image(lambda image: image.astype(np.float32) / 255), ["flip", "float32", "expected uint8"]),
    ("rotate", wrong(lambda boxes: boxes.astype(np.float64)), ["rotate", "float64"]),
    ("rotate", wrong(lambda boxes: boxes * np.float32(np.nan)), ["rotate", "NaN"]),
    ("rotate", wrong(lambda boxes: boxes + np.float32([0, 0, 500, 0, 0, 0])), ["rotate", "reaches beyond"]),
    ("rotate", wrong_image(lambda image: image[:-1]), ["rotate", "expected uint8"]),
    ("blur", lambda real: lambda rng, image: (image / 255).astype(np.uint8), ["blur", "black"]),
    ("distort", lambda real: lambda rng, image: image[..., 0], ["distort", "expected uint8"]),
    ("change_colours", lambda real: lambda rng, image, colours: None, ["change_colours", "NoneType"]),
    ("scale_and_crop", wrong(lambda boxes: boxes[..., [1, 0, 3, 2, 4, 5]]), ["scale_and_crop"]),
    ("scale_and_crop", wrong(lambda boxes: boxes + np.float32([9, 0, 9, 0, 0, 0])), ["scale_and_crop"]),
    ("scale_and_crop", wrong(lambda boxes: with_row(boxes, 1, 1, 5, 5, 7, 0)), ["scale_and_crop", "classes [7.0]"]),
    ("mosaic", wrong(lambda boxes: boxes[:, :5]), ["mosaic", "(G, 6)"]),
    ("mixup", wrong(lambda boxes: with_row(boxes, 1, 1, 0, 5, 0, 0)), ["mixup", "x1 >= x2"]),
    ("iou_crop", lambda real: lambda rng, view, boxes: real(rng, view, boxes[:, :4]), ["iou_crop"]),
    ("zoom_out", lambda real: crash, ["zoom_out", "ZeroDivisionError"]),
]
BROKEN_MASKS = [
    ("flip", lambda real: only_the_image, ["flip", "does not follow"]),
    ("flip", wrong_mask(lambda mask: mask.astype(np.int64)), ["flip", "int64"]),
    ("rotate", wrong_mask(lambda mask: mask[:, ::-1].copy()), ["rotate", "does not follow"]),
    ("scale_and_crop", wrong_mask(lambda mask: cv2.blur(mask, (5, 5))), ["nearest neighbour"]),
    ("scale_and_crop", wrong_mask(lambda mask: mask[:, ::-1].copy()), ["scale_and_crop", "does not follow"]),
    ("scale_and_crop", wrong_mask(lambda mask: mask[:-1]), ["scale_and_crop", "expected uint8"]),
    ("mosaic", lambda real: crash, ["mosaic", "ZeroDivisionError"]),
]
CASES = [("detection", *case) for case in BROKEN] + [("segmentation", *case) for case in BROKEN_MASKS]


@pytest.mark.parametrize("task, name, change, words", CASES)
def test_a_broken_transform_is_named(root, monkeypatch, task, name, change, words):
    data = make_data(root, task, **(BOXES if task == "detection" else EVERYTHING))
    monkeypatch.setattr(augment, name, change(getattr(augment, name)))
    with pytest.raises(UserError) as caught:
        dry_run.check_augmentation(data)
    for word in [*words, "图 ", ".jpg"]:
        assert word in str(caught.value)


def test_what_is_not_used_is_not_tried(root, monkeypatch):
    data = make_data(root, "detection", flip=0.0)
    monkeypatch.setattr(augment, "flip", crash)
    assert dry_run.check_augmentation(data)


@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_whole_samples(root, monkeypatch, task):
    data = make_data(root, task)
    real = type(data).vary
    monkeypatch.setattr(type(data), "vary", lambda self, rng, *key: real(self, random, *key))
    with pytest.raises(UserError, match="the second time"):
        dry_run.check_augmentation(data)
    monkeypatch.setattr(type(data), "vary", wrong_image(lambda image: image[:-2])(real))
    with pytest.raises(UserError, match="expected torch.uint8"):
        dry_run.check_augmentation(data)


def test_a_damaged_file_is_left_to_the_training(root, capsys):
    data = make_data(root, "detection", cache=False)
    (root / "图 0.jpg").write_bytes((root / "图 0.jpg").read_bytes()[:300])
    assert dry_run.check_augmentation(data, samples=3) == 2
