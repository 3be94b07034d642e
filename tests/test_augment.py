"""Augmentation: paint the boxes into the pixels, augment, and find them where the boxes say they are."""
import random

import numpy as np
import pytest

from utils import augment
from utils.images import GREY, from_input, letterbox, resize, to_input


def painted(rng, height=120, width=160, count=3):
    """A dark picture with bright rectangles, one per grey level, and their boxes (G, 6): x1 y1 x2 y2 class difficult."""
    image = np.zeros((height, width, 3), np.uint8)
    boxes = []
    for label in range(count):                              # side by side, so that none hides another
        left = rng.randrange(label * width // count + 2, (label + 1) * width // count - 26)
        top = rng.randrange(2, height - 40)
        right, bottom = left + rng.randrange(14, 24), top + rng.randrange(14, 38)
        image[top:bottom, left:right] = 255 - 25 * label
        boxes.append([left, top, right, bottom, label, 0])
    return image, np.array(boxes, np.float32)


def check(image, boxes, tolerance=1.5):
    """Each box surrounds the pixels of its own grey level as tightly as whole pixels allow."""
    for x1, y1, x2, y2, label, _ in boxes:
        own = np.abs(image[..., 0].astype(int) - (255 - 25 * int(label))) < 8
        rows, columns = np.nonzero(own[max(0, int(y1) - 6):int(y2) + 6, max(0, int(x1) - 6):int(x2) + 6])
        assert len(rows), f"object {int(label)} is not where its box says"
        found = columns.min() + max(0, int(x1) - 6), rows.min() + max(0, int(y1) - 6)
        until = columns.max() + 1 + max(0, int(x1) - 6), rows.max() + 1 + max(0, int(y1) - 6)
        assert np.abs(np.array([*found, *until]) - [x1, y1, x2, y2]).max() <= tolerance


@pytest.mark.parametrize("seed", range(60))
def test_scale_and_crop(seed):
    rng = random.Random(seed)
    canvas, boxes = augment.scale_and_crop(rng, (128, 192), *painted(rng), (0.6, 1.4), 0.3, 0.1)
    assert canvas.shape == (128, 192, 3)
    check(canvas, boxes)


def test_most_objects_stay():
    rng, kept = random.Random(0), 0
    for _ in range(100):
        kept += len(augment.scale_and_crop(rng, (128, 192), *painted(rng), (0.6, 1.4), 0.3, 0.1)[1])
    assert 200 < kept <= 300


@pytest.mark.parametrize("seed", range(60))
def test_mosaic(seed):
    """Each of the four pictures lies in its own quarter; labels tell the pictures apart."""
    rng = random.Random(seed)
    pictures = []
    for number in range(4):
        image, boxes = painted(rng, 100 + 10 * number, 150, 1)
        shade = 255 - 25 * number
        image[image > 0] = shade
        boxes[:, 4] = number
        pictures.append((image, boxes))
    canvas, boxes = augment.mosaic(rng, (160, 160), pictures, (0.6, 1.4), 0.2)
    assert len(boxes) <= 4 and (boxes[:, :2] >= 0).all() and (boxes[:, 2:4] <= 160).all()
    check(canvas, boxes)


def test_mosaic_shows_objects_of_all_four():
    rng = random.Random(3)
    seen = set()
    for _ in range(30):
        originals = [painted(rng, count=1) for _ in range(4)]
        pictures = [(image, np.where(np.arange(6) == 4, number, boxes)) for number, (image, boxes) in enumerate(originals)]
        seen |= set(augment.mosaic(rng, (160, 160), pictures, (0.6, 1.4), 0.2)[1][:, 4])
    assert seen == {0, 1, 2, 3}


def test_flip_twice_is_nothing():
    image, boxes = painted(random.Random(0))
    flipped, moved = augment.flip(image, boxes)
    check(flipped, moved, 0)
    again, back = augment.flip(flipped, moved)
    assert (again == image).all() and (back == boxes).all()


def test_colours_leave_boxes_and_size():
    rng = random.Random(0)
    image = np.full((20, 30, 3), (200, 60, 40), np.uint8)
    same = augment.change_colours(rng, image.copy(), (0, 0, 0))
    assert (same == image).all()
    others = {tuple(augment.change_colours(rng, image.copy(), (0.05, 0.7, 0.4))[0, 0]) for _ in range(20)}
    assert len(others) > 15
    red = np.full((4, 4, 3), (200, 80, 80), np.uint8)
    turned = augment.change_colours(Fixed(1 / 3, 0, 0), red.copy(), (1, 1, 1))[0, 0]
    assert turned.tolist() == [80, 200, 80]                       # a third of the circle: red becomes green
    assert augment.change_colours(Fixed(0, 0, 0.2), red.copy(), (1, 1, 1))[0, 0].tolist() == [240, 96, 96]
    assert np.ptp(augment.change_colours(Fixed(0, -1, 0), red.copy(), (1, 1, 1))) == 0      # no saturation left: grey
    grey = np.full((4, 4, 3), 120, np.uint8)
    assert np.ptp(augment.change_colours(rng, grey, (0.1, 0.7, 0.0)).astype(int)) == 0    # grey has no hue to turn


class Fixed:
    """Stands for a random.Random that draws these numbers."""

    def __init__(self, *numbers):
        self.numbers = list(numbers)

    def uniform(self, low, high):
        return self.numbers.pop(0)


def test_mixup_keeps_both():
    rng = random.Random(0)
    (image1, boxes1), (image2, boxes2) = painted(rng), painted(rng)
    mixed, boxes = augment.mixup(rng, image1, boxes1, image2, boxes2)
    assert len(boxes) == 6
    for x1, y1, x2, y2 in boxes[:, :4].astype(int):
        assert mixed[y1:y2, x1:x2].mean() > 40                    # both pictures still show, at about half strength
    assert 80 < mixed.max() < 250
    white, black = np.full((4, 4, 3), 255, np.uint8), np.zeros((4, 4, 3), np.uint8)
    shares = [augment.mixup(rng, white, boxes1, black, boxes2)[0][0, 0, 0] / 255 for _ in range(200)]
    assert 0.25 < min(shares) < 0.45 and 0.55 < max(shares) < 0.75  # Beta(32, 32): near one half


def test_cut_drops_slivers():
    rows = np.array([[-50, 10, 1, 40, 0, 0], [10, 10, 40, 40, 1, 0], [90, 10, 190, 40, 2, 0], [20, 98.5, 60, 140, 3, 0]], np.float32)
    kept = augment.cut(rows, (0, 0, 100, 100))
    assert kept[:, 4].tolist() == [1]                             # 1 px left, whole, 10 % left, 1.5 px left
    half = augment.cut(np.array([[80, 10, 120, 40, 0, 0]], np.float32), (0, 0, 100, 100))
    assert half.tolist() == [[80, 10, 100, 40, 0, 0]]             # half of it is still to be seen
    assert len(augment.cut(np.zeros((0, 6), np.float32), (0, 0, 9, 9))) == 0


def test_carried_columns_and_empty():
    rng = random.Random(0)
    image, _ = painted(rng)
    canvas, boxes = augment.scale_and_crop(rng, (64, 64), image, np.zeros((0, 6), np.float32), (0.5, 1.5), 0.3, 0.1)
    assert boxes.shape == (0, 6) and canvas.shape == (64, 64, 3)


@pytest.mark.parametrize("size", [(1, 1), (1, 1000), (2000, 1), (37, 53), (416, 416), (333, 500), (1200, 900)])
@pytest.mark.parametrize("shape", [(416, 416), (224, 320)])
def test_letterbox_inverse(size, shape):
    """There and back again is exact, the picture touches two borders, and grey stands beside it."""
    image = np.full((*size, 3), 250, np.uint8)
    canvas, transform = letterbox(image, shape)
    assert canvas.shape == (*shape, 3)
    boxes = np.array([[0, 0, size[1], size[0]], [0.25 * size[1], 0.1 * size[0], 0.5 * size[1], 0.9 * size[0]]], np.float32)
    inside = to_input(boxes, transform)
    assert np.abs(from_input(inside, transform, size) - boxes).max() <= 1e-3
    x1, y1, x2, y2 = inside[0]
    columns, rows = np.nonzero((canvas == 250).any((0, 2)))[0], np.nonzero((canvas == 250).any((1, 2)))[0]
    assert (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) == pytest.approx((x1, y1, x2, y2), abs=1e-3)
    assert x2 - x1 == pytest.approx(shape[1], abs=0.51) or y2 - y1 == pytest.approx(shape[0], abs=0.51)
    assert set(np.unique(canvas)) <= {GREY, 250}


def test_letterbox_of_a_shrunken_copy_is_the_letterbox():
    image = np.random.RandomState(0).randint(0, 255, (300, 500, 3)).astype(np.uint8)
    direct, transform = letterbox(image, (224, 224))
    small = resize(image, 134, 224)
    canvas, same = letterbox(small, (224, 224), size=(300, 500))
    assert (canvas == direct).all() and same == transform
