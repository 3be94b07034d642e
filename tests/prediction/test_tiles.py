"""Tiles, mirrored and resized copies, with a detector that finds every bright patch of a view, cut ones too."""
import cv2
import numpy as np
import pytest

from utils.prediction.tiles import detect_in_views, tile_corners, views_of
from utils.views import window_starts


def patches(images, scale=1.0):
    """The detector. Class: the colour. A patch at the edge of its view has a higher score: the cut box would win without a rule."""
    results = []
    for image in images:
        boxes, labels, scores = [], [], []
        for label in (0, 1):
            _, _, stats, _ = cv2.connectedComponentsWithStats((image[..., label] > 128).astype(np.uint8))
            for x, y, w, h, _ in stats[1:]:
                edge = x == 0 or y == 0 or x + w == image.shape[1] or y + h == image.shape[0]
                boxes.append([x, y, x + w, y + h])
                labels.append(label)
                scores.append(0.9 if edge else 0.6 + 0.001 * (x % 100))
        order = np.argsort(scores)[::-1]
        results.append({"boxes": np.float32(boxes).reshape(-1, 4)[order], "scores": np.float32(scores)[order], "labels": np.int64(labels)[order]})
    return results


def picture(height, width, boxes):
    image = np.zeros((height, width, 3), np.uint8)
    for number, (x1, y1, x2, y2) in enumerate(boxes):
        image[y1:y2, x1:x2, number % 2] = 255
    return image


def scattered(height, width, count, most, seed=0):
    """Boxes that keep a distance of 3 px, as (x1, y1, x2, y2)."""
    rng, taken, boxes = np.random.default_rng(seed), np.zeros((height, width), bool), []
    while len(boxes) < count:
        w, h = rng.integers(8, most, 2)
        x, y = rng.integers(0, width - w), rng.integers(0, height - h)
        if not taken[max(0, y - 3):y + h + 3, max(0, x - 3):x + w + 3].any():
            taken[y:y + h, x:x + w] = True
            boxes.append((int(x), int(y), int(x + w), int(y + h)))
    return boxes


def look(image, tiles=None, overlap=0.25, scales=(1.0,), flip=False, detect=patches, **limits):
    return detect_in_views(detect, image, views_of(image, tiles, overlap, scales, flip), 0.5, **({"max_boxes": 999} | limits))


def test_one_tile_is_the_image_itself():
    """Where one tile suffices the answer is the very one that there is without tiles."""
    image = picture(100, 150, scattered(100, 150, 8, 30))
    calls = []

    def counted(images, scale):
        calls.append([one.shape for one in images])
        return patches(images, scale)
    for tiles in (None, (100, 150), (640, 640)):
        found, (plain,) = look(image, tiles, detect=counted), patches([image])
        assert found.keys() == plain.keys() and all((found[name] == plain[name]).all() for name in found)
    assert calls == [[(100, 150, 3)]] * 3


@pytest.mark.parametrize("tiles", [(200, 200), (160, 300), (500, 180)])
def test_tiles_find_every_object_once_and_whole(tiles):
    """Objects of up to 38 px, tiles that share 40 px or more: of each there is a whole box, and no part is left."""
    boxes = scattered(500, 700, 60, 38)
    found = look(picture(500, 700, boxes), tiles)
    assert sorted(map(tuple, found["boxes"].astype(int).tolist())) == sorted(boxes)
    right = {box: number % 2 for number, box in enumerate(boxes)}
    assert all(right[tuple(box)] == label for box, label in zip(found["boxes"].astype(int).tolist(), found["labels"]))
    assert (np.diff(found["scores"]) <= 0).all()


def test_an_object_larger_than_a_tile():
    """The view of the whole image has it, the parts that the tiles saw are gone, its neighbours stay."""
    boxes = [(40, 50, 560, 330), (600, 20, 620, 50), (50, 400, 80, 430)]
    found = look(picture(500, 700, boxes), (200, 200))
    assert sorted(map(tuple, found["boxes"].astype(int).tolist())) == sorted(boxes)


def test_where_tiles_lie():
    assert window_starts(1000, 400, 300) == [0, 300, 600] and window_starts(400, 400, 300) == [0] and window_starts(100, 400, 300) == [0]
    corners = tile_corners((500, 700), (200, 300), 0.3)
    seen = np.zeros((500, 700), int)
    for x1, y1, x2, y2 in corners:
        assert x2 - x1 == 300 and y2 - y1 == 200 and x1 >= 0 and y1 >= 0
        seen[y1:y2, x1:x2] += 1
    assert seen.min() == 1 and seen.max() >= 2
    (only,) = tile_corners((90, 100), (200, 300), 0.3)
    assert only == (0, 0, 100, 90)


def test_flip_finds_what_the_plain_view_misses():
    """A detector that is blind in the right half of its view."""
    def half_blind(images, scale):
        return patches([np.where(np.arange(image.shape[1])[None, :, None] < image.shape[1] // 2, image, 0) for image in images])
    boxes = [(10, 20, 40, 60), (150, 30, 180, 50)]
    image = picture(100, 200, boxes)
    assert len(look(image, detect=half_blind)["boxes"]) == 1
    found = look(image, flip=True, detect=half_blind)
    assert sorted(map(tuple, found["boxes"].astype(int).tolist())) == boxes


def test_scales_and_batches():
    """Each scale has batches of its own, and an object that two scales see is there once."""
    calls = []

    def counted(images, scale):
        calls.append((scale, len(images)))
        return patches(images, scale)
    boxes = scattered(300, 600, 20, 30)
    found = look(picture(300, 600, boxes), (150, 150), scales=(1.0, 1.5), flip=True, detect=counted, batch=8)
    assert sorted(map(tuple, found["boxes"].astype(int).tolist())) == sorted(boxes)
    count = 2 * (len(tile_corners((300, 600), (150, 150), 0.25)) + 1)
    assert [sum(n for s, n in calls if s == scale) for scale in (1.0, 1.5)] == [count, count]
    assert {n for _, n in calls} == {8, 4, 2} and [s for s, _ in calls] == sorted(s for s, _ in calls)


def test_limits_hold_for_all_views_together():
    image = picture(500, 700, scattered(500, 700, 60, 38))
    assert len(look(image, (200, 200), max_boxes=7)["boxes"]) == 7
    few = look(image, (200, 200), most_per_class=3)
    assert np.bincount(few["labels"]).tolist() == [3, 3]
    both = np.zeros((100, 200, 3), np.uint8)
    both[20:60, 30:70, :2] = 255                                                # an object of two classes
    assert len(look(both, flip=True)["boxes"]) == 2 and len(look(both, flip=True, agnostic=True)["boxes"]) == 1
    nothing = look(np.zeros((500, 700, 3), np.uint8), (200, 200), flip=True)
    assert nothing["boxes"].shape == (0, 4) and len(nothing["scores"]) == 0
