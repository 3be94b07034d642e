"""Augmentation: paint the boxes into the pixels, augment, and find them where the boxes say they are."""
import random

import numpy as np
import pytest

from utils import augment
from utils.augment import Sample
from utils.images import GREY, fit_image, from_input, resize, to_input

NO_BOXES = np.zeros((0, 6), np.float32)


def painted(rng, height=120, width=160, count=3):
    """A dark picture with bright rectangles, one per grey level, and their boxes (G, 6): x1 y1 x2 y2 class difficult. -> Sample."""
    image = np.zeros((height, width, 3), np.uint8)
    boxes = []
    for label in range(count):                              # side by side, so that none hides another
        left = rng.randrange(label * width // count + 2, (label + 1) * width // count - 26)
        top = rng.randrange(2, height - 40)
        right, bottom = left + rng.randrange(14, 24), top + rng.randrange(14, 38)
        image[top:bottom, left:right] = 255 - 25 * label
        boxes.append([left, top, right, bottom, label, 0])
    return Sample(image, np.array(boxes, np.float32))


def check(sample, tolerance=1.5):
    """Each box surrounds the pixels of its own grey level as tightly as whole pixels allow."""
    image, boxes, _ = sample
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
    canvas = augment.scale_and_crop(rng, (128, 192), painted(rng), (0.6, 1.4), 0.3, 0.1)
    assert canvas.image.shape == (128, 192, 3)
    check(canvas)


def test_most_objects_stay():
    rng, kept = random.Random(0), 0
    for _ in range(100):
        kept += len(augment.scale_and_crop(rng, (128, 192), painted(rng), (0.6, 1.4), 0.3, 0.1).boxes)
    assert 200 < kept <= 300


def test_stretched_pictures_fill_the_canvas():
    """At scale 1 without shift the whole picture covers all of it, whatever its proportions; letterboxed it does not."""
    rng = random.Random(0)
    sample = painted(rng)
    sample.image[sample.image == 0] = 60
    for fit, columns in (("stretch", 192), ("letterbox", 171)):
        canvas = augment.scale_and_crop(rng, (128, 192), sample, (1.0, 1.0), 0.0, 0.0, fit)
        check(canvas)
        assert (canvas.image != GREY).any((0, 2)).sum() == columns and len(canvas.boxes) == 3
    samples = [Sample(np.full((50, 100, 3), shade, np.uint8), NO_BOXES) for shade in (10, 20, 30, 40)]
    assert (augment.mosaic(rng, (160, 160), samples, (1.0, 1.0), 0.0, "stretch").image != GREY).all()
    assert (augment.mosaic(rng, (160, 160), samples, (1.0, 1.0), 0.0).image == GREY).any()


@pytest.mark.parametrize("fit", ["letterbox", "stretch"])
@pytest.mark.parametrize("seed", range(40))
def test_zoom_out_and_crop(seed, fit):
    """The boxes still surround what they did, and what is beside the picture is grey."""
    rng = random.Random(seed)
    sample = painted(rng)
    view = augment.zoom_out(rng, sample.image.shape[:2])
    check(augment.put_view((256, 448), sample, view, fit))
    view, kept = augment.iou_crop(rng, view, sample.boxes)
    cropped = augment.put_view((256, 448), Sample(sample.image, kept), view, fit)
    canvas = cropped.image
    assert canvas.shape == (256, 448, 3) and 1 <= len(cropped.boxes) <= len(kept)
    check(cropped, 4)                                              # whole pixels of an enlarged picture
    rows = np.nonzero((np.abs(canvas.astype(int) - GREY) > 2).any(2))
    covered = rows[0].min(), rows[1].min(), rows[0].max() + 1, rows[1].max() + 1
    assert (canvas[covered[0]:covered[2], covered[1]:covered[3]] == GREY).all(2).mean() < 0.05


def test_zoom_out_looks_from_further_away():
    rng = random.Random(0)
    views = np.array([augment.zoom_out(rng, (90, 160)) for _ in range(400)])
    growth = (views[:, 2:] - views[:, :2]) / (160, 90)
    assert np.abs(growth[:, 0] - growth[:, 1]).max() < 1e-9 and 1 <= growth.min() < 1.1 and 3.9 < growth.max() <= 4
    assert (views[:, :2] <= 0).all() and (views[:, 2:] >= (160, 90)).all()              # the picture is in it
    share = -views[:, 0] / (views[:, 2] - views[:, 0] - 160)                            # anywhere in it
    assert share.min() < 0.05 and share.max() > 0.95 and np.corrcoef(share, views[:, 1] / growth[:, 0])[0, 1] < 0.2
    assert augment.zoom_out(rng, (90, 160), 1.0) == (0, 0, 160, 90)


def test_zoom_out_computes_no_large_canvas(monkeypatch):
    image, real, largest = np.zeros((200, 300, 3), np.uint8), augment.cv2.resize, []

    def resize(source, size, **options):
        largest.append(size[0] * size[1])
        return real(source, size, **options)
    monkeypatch.setattr(augment.cv2, "resize", resize)
    for seed in range(20):
        augment.put_view((100, 100), Sample(image, NO_BOXES), augment.zoom_out(random.Random(seed), (200, 300)))
    assert len(largest) >= 20 and max(largest) <= 200 * 300


def test_a_picture_with_a_mask_is_shrunk_as_one_with_boxes():
    """Averaged where four pixels or more become one; the mask keeps its values."""
    image = np.random.RandomState(0).randint(0, 256, (128, 160, 3)).astype(np.uint8)
    mask = np.repeat(np.repeat(np.arange(20, dtype=np.uint8).reshape(4, 5), 32, 0), 32, 1)
    samples = Sample(image, mask=mask), Sample(image, NO_BOXES)
    with_mask, with_boxes = (augment.put(augment.new_canvas((40, 50), one), one, (3.0, 2.0, 40.0, 32.0)) for one in samples)
    assert np.array_equal(with_mask.image, with_boxes.image) and with_mask.boxes is None and with_boxes.mask is None
    assert with_mask.image[2:34, 3:43].std() < 25 < image.std() / 2                     # a quarter of the noise is left
    assert np.array_equal(with_mask.mask[2:34, 3:43], mask[2::4, 2::4])


def test_a_sample_may_have_both():
    """Boxes and mask follow the picture in the same way, whatever is done to it."""
    rng, found = random.Random(0), 0
    for _ in range(40):
        image, boxes, _ = painted(rng, count=1)
        sample = Sample(image, boxes, (image[..., 0] > 0).astype(np.uint8))
        sample = augment.flip(augment.mosaic(rng, (160, 160), [sample] * 4, (0.6, 1.0), 0.2))
        for x1, y1, x2, y2 in sample.boxes[:, :4].round().astype(int):
            assert (sample.mask[y1 + 1:y2 - 1, x1 + 1:x2 - 1] == 1).all()
            found += 1
    assert found > 40


def test_what_is_shrunk_a_lot_is_averaged():
    """A fine pattern becomes its mean, as in evaluation: no pixel is skipped."""
    image = np.zeros((300, 400, 3), np.uint8)
    image[::3, ::2] = 255
    sample = Sample(image, NO_BOXES)
    canvas = augment.put_view((75, 100), sample, (0, 0, 400, 300)).image
    assert np.abs(canvas.astype(int) - 255 / 6).max() < 25
    canvas = augment.put_view((80, 100), sample, (0, 0, 400, 300), "stretch").image
    assert np.abs(canvas[1:-1, 1:-1].astype(int) - 255 / 6).max() < 60


def test_patches():
    rng = random.Random(0)
    patches = np.array([augment.random_patch(rng, (-100, 50, 300, 250)) for _ in range(1000)])
    assert patches[:, 0].min() >= -100 and patches[:, 1].min() >= 50 and patches[:, 2].max() <= 300 and patches[:, 3].max() <= 250
    sides = (patches[:, 2:] - patches[:, :2]) / (400, 200)
    aspects, sizes = sides[:, 0] / sides[:, 1], np.sqrt(sides.prod(1))
    assert 0.5 <= aspects.min() < 0.6 and 1.8 < aspects.max() <= 2.0 and sides.max() <= 1
    assert 0.3 <= sizes.min() < 0.33 and sizes.max() > 0.97


BOXES = np.array([[10, 10, 60, 60, 0, 0], [70, 20, 140, 100, 1, 0], [20, 70, 50, 110, 2, 1]], np.float32)


def overlap(view, box):
    """IoU of two rectangles, by hand."""
    x = max(0, min(view[2], box[2]) - max(view[0], box[0]))
    y = max(0, min(view[3], box[3]) - max(view[1], box[1]))
    return x * y / ((view[2] - view[0]) * (view[3] - view[1]) + (box[2] - box[0]) * (box[3] - box[1]) - x * y)


@pytest.mark.parametrize("least", [0.0, 0.1, 0.3, 0.5, 0.7])
def test_crop_by_iou(monkeypatch, least):
    """The patch overlaps an object well enough that stays, and exactly the objects stay whose centre is in it."""
    monkeypatch.setattr(augment, "PATCHES", (least,))
    rng, cropped, best = random.Random(0), 0, []
    for _ in range(100):
        view, kept = augment.iou_crop(rng, (0, 0, 160, 120), BOXES)
        inside = [view[0] < (x1 + x2) / 2 < view[2] and view[1] < (y1 + y2) / 2 < view[3] for x1, y1, x2, y2, _, _ in BOXES]
        assert (kept == BOXES[inside]).all() and len(kept) == sum(inside)
        if view != (0, 0, 160, 120):
            cropped += 1
            best.append(max(overlap(view, box) for box in kept))
    assert cropped > (20 if least == 0.7 else 90) and min(best) >= least - 1e-4
    assert least > 0.3 or min(best) < max(least, 0.2) + 0.1        # and no better than asked for


def test_crop_kinds():
    """One time in seven, or more, the whole view; without objects always; never a patch that shows no object."""
    rng = random.Random(0)
    found = [augment.iou_crop(rng, (0, 0, 160, 120), BOXES) for _ in range(700)]
    whole = sum(view == (0, 0, 160, 120) for view, _ in found)
    assert 80 < whole < 300 and all(len(kept) for _, kept in found)
    assert {len(kept) for view, kept in found if view != (0, 0, 160, 120)} == {1, 2, 3}
    assert augment.iou_crop(rng, (-5, 0, 160, 120), BOXES[:0])[0] == (-5, 0, 160, 120)


def test_a_letterboxed_patch_shows_nothing_beside_itself():
    """The picture goes on there, the sample does not."""
    sample = Sample(np.full((100, 100, 3), 200, np.uint8), np.array([[0, 0, 60, 100, 3, 0]], np.float32))
    canvas, moved, _ = augment.put_view((64, 64), sample, (20, 40, 60, 60))
    assert (canvas[16:48] == 200).all() and (canvas[:16] == GREY).all() and (canvas[48:] == GREY).all()
    assert moved.tolist() == [[0, 16, 64, 48, 3, 0]]


def test_a_patch_inside_a_large_object_keeps_it():
    """However little of its area is seen, as long as its centre is."""
    image = np.zeros((100, 100, 3), np.uint8)
    large, sliver = (Sample(image, np.array([[left, 0, 100, 100, 3, 0]], np.float32)) for left in (0, 59.5))
    assert augment.put_view((64, 64), large, (40, 40, 60, 60)).boxes.tolist() == [[0, 0, 64, 64, 3, 0]]
    assert len(augment.put_view((64, 64), sliver, (40, 40, 60, 60)).boxes) == 0


class Chosen(random.Random):
    """Draws these changes, in this order, by these amounts."""

    def __init__(self, **amounts):
        super().__init__(0)
        self.amounts, self.order = list(amounts.values()), list(amounts)

    def sample(self, names, count):
        return self.order + [name for name in names if name not in self.order]

    def random(self):
        return 0.0 if self.amounts else 0.9

    def uniform(self, low, high):
        assert low <= self.amounts[0] <= high
        return self.amounts.pop(0)


def test_distort():
    red = np.full((4, 4, 3), (160, 60, 60), np.uint8)

    def colour(**amounts):
        return augment.distort(Chosen(**amounts), red.copy())[0, 0].tolist()
    assert colour() == [160, 60, 60]
    assert colour(brightness=-32) == [128, 28, 28] and colour(contrast=1.5) == [240, 90, 90]
    assert colour(brightness=20, contrast=0.5) == [90, 40, 40] and colour(contrast=0.5, brightness=20) == [100, 50, 50]
    assert colour(saturation=0.5) == [195, 45, 45] and colour(saturation=-0.5) == [125, 75, 75]             # grey is 89.9
    assert colour(hue=1 / 12)[1] > 85 and colour(hue=-1 / 12)[2] > 85                   # towards yellow, towards magenta
    assert sum(colour(hue=0.1)) == pytest.approx(280, abs=2)
    rng = random.Random(0)
    results = [augment.distort(rng, red.copy()) for _ in range(400)]
    same = sum((result == red).all() for result in results)
    assert 10 < same < 45 and all(np.ptp(result[..., 0]) == 0 for result in results)        # one in sixteen
    assert len({tuple(result[0, 0]) for result in results}) > 300


@pytest.mark.parametrize("seed", range(60))
def test_mosaic(seed):
    """Each of the four pictures lies in its own quarter; labels tell the pictures apart."""
    rng = random.Random(seed)
    samples = []
    for number in range(4):
        image, boxes, _ = painted(rng, 100 + 10 * number, 150, 1)
        shade = 255 - 25 * number
        image[image > 0] = shade
        boxes[:, 4] = number
        samples.append(Sample(image, boxes))
    canvas = augment.mosaic(rng, (160, 160), samples, (0.6, 1.4), 0.2)
    assert len(canvas.boxes) <= 4 and (canvas.boxes[:, :2] >= 0).all() and (canvas.boxes[:, 2:4] <= 160).all()
    check(canvas)


def test_mosaic_shows_objects_of_all_four():
    rng = random.Random(3)
    seen = set()
    for _ in range(30):
        originals = [painted(rng, count=1) for _ in range(4)]
        samples = [Sample(one.image, np.where(np.arange(6) == 4, number, one.boxes)) for number, one in enumerate(originals)]
        seen |= set(augment.mosaic(rng, (160, 160), samples, (0.6, 1.4), 0.2).boxes[:, 4])
    assert seen == {0, 1, 2, 3}


def test_flip_twice_is_nothing():
    sample = painted(random.Random(0))
    flipped = augment.flip(sample)
    check(flipped, 0)
    again = augment.flip(flipped)
    assert (again.image == sample.image).all() and (again.boxes == sample.boxes).all()


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
    mixed, boxes, _ = augment.mixup(rng, painted(rng), painted(rng))
    assert len(boxes) == 6
    for x1, y1, x2, y2 in boxes[:, :4].astype(int):
        assert mixed[y1:y2, x1:x2].mean() > 40                    # both pictures still show, at about half strength
    assert 80 < mixed.max() < 250
    white, black = (Sample(np.full((4, 4, 3), shade, np.uint8), NO_BOXES) for shade in (255, 0))
    shares = [augment.mixup(rng, white, black).image[0, 0, 0] / 255 for _ in range(200)]
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
    sample = Sample(painted(rng).image, NO_BOXES)
    canvas = augment.scale_and_crop(rng, (64, 64), sample, (0.5, 1.5), 0.3, 0.1)
    assert canvas.boxes.shape == (0, 6) and canvas.image.shape == (64, 64, 3)


@pytest.mark.parametrize("size", [(1, 1), (1, 1000), (2000, 1), (37, 53), (416, 416), (333, 500), (1200, 900)])
@pytest.mark.parametrize("shape", [(416, 416), (224, 320)])
def test_letterbox_inverse(size, shape):
    """There and back again is exact, the picture touches two borders, and grey stands beside it."""
    image = np.full((*size, 3), 250, np.uint8)
    canvas, transform = fit_image(image, shape)
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
    direct, transform = fit_image(image, (224, 224))
    small = resize(image, 134, 224)
    canvas, same = fit_image(small, (224, 224), size=(300, 500))
    assert (canvas == direct).all() and same == transform
