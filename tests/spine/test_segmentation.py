"""Masks through the data path and back: samples, the place of every label, prediction at the picture's own size."""
import random

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from varied import dataset_options

from utils import augment, evaluate
from utils.augment import Sample
from utils.dataset import SegmentationData, class_counts, describe, make_loader
from utils.errors import UserError
from utils.images import IGNORED, letterbox_mask
from utils.lists import write_mask_list

CLASSES = ["background", "a", "b"]
SIZES = [(40, 90), (75, 60), (130, 200), (31, 33), (96, 64)]


def painting(stream, height, width):
    """A mask of three labels in large patches, and a picture that tells them: red is 40, 120 or 200."""
    mask = np.kron(stream.randint(0, 3, (-(-height // 12), -(-width // 12))), np.ones((12, 12), int))[:height, :width].astype(np.uint8)
    image = np.stack([mask * 80 + 40, np.full_like(mask, 9), np.full_like(mask, 9)], 2)
    return image, mask


@pytest.fixture(scope="module")
def list_path(tmp_path_factory):
    folder, stream, pairs = tmp_path_factory.mktemp("分割 set"), np.random.RandomState(0), []
    for number, size in enumerate(SIZES):
        image, mask = painting(stream, *size)
        mask[:2] = IGNORED
        Image.fromarray(image).save(folder / f"pic {number}.png")
        Image.fromarray(mask).save(folder / f"mask {number}.png")
        pairs.append((folder / f"pic {number}.png", folder / f"mask {number}.png"))
    write_mask_list(folder / "list.txt", pairs)
    return folder / "list.txt"


def make(list_path, **options):
    usual = {"scale": (0.5, 2.0), "aspect": 0.0, "translate": 0.0, "rotate": 10.0, "blur": 0.5}
    return SegmentationData(list_path, CLASSES, (64, 96), **dataset_options(**{**usual, **options}))


def test_sample(list_path):
    image, target = make(list_path)[(0, 0)]
    assert image.shape == (3, 64, 96) and image.dtype == torch.uint8
    assert target["mask"].shape == (64, 96) and target["mask"].dtype == torch.uint8 and target["index"] == 0


@pytest.mark.parametrize("mosaic", [0.0, 1.0])
def test_labels_stay_labels_and_lie_on_their_pixels(list_path, mosaic):
    """Whatever is done to a picture is done to its mask: no new value appears, and the colours say the same as the labels."""
    data, wrong, counted = make(list_path, colours=(0.0, 0.0, 0.0), blur=0.0, mosaic=mosaic), 0, 0
    for epoch in range(40):
        for index in range(len(data)):
            image, target = data[epoch, index]
            mask, red = target["mask"].numpy().astype(int), image[0].numpy().astype(int)
            assert set(np.unique(mask)) <= {0, 1, 2, IGNORED}
            padding = (image[1].numpy() == 114) & (image[2].numpy() == 114) & (red == 114)
            assert (mask[padding] == IGNORED).all()
            sure = (mask != IGNORED) & (np.abs((red - 40) % 80) < 2)        # not a mixture at an edge
            wrong += ((red[sure] - 40) // 80 != mask[sure]).sum()
            counted += sure.sum()
    assert counted > 200_000 and wrong / counted < 0.005


@pytest.mark.parametrize("cache", [True, False])
def test_same_key_same_sample(list_path, cache):
    first, again = make(list_path), make(list_path, cache=cache)
    for key in [(0, 1), (3, 2), (3, 2), (0, 1)]:
        assert torch.equal(first[key][0], again[key][0]) and torch.equal(first[key][1]["mask"], again[key][1]["mask"])
    assert not torch.equal(first[0, 1][1]["mask"], first[1, 1][1]["mask"])


def test_the_last_epochs_have_no_mosaic(list_path):
    never, until = (make(list_path, mosaic=1.0, plain_from=epoch) for epoch in (0, 3))
    assert torch.equal(never[3, 2][1]["mask"], until[3, 2][1]["mask"]) and not torch.equal(never[2, 2][1]["mask"], until[2, 2][1]["mask"])


@pytest.mark.parametrize("mosaic", [0.0, 1.0])
def test_the_first_epochs_are_small(list_path, mosaic):
    """Up to small_until image and mask have small_shape, and still lie upon one another; then everything is as without."""
    data, usual = (make(list_path, mosaic=mosaic, **small) for small in ({"small_shape": (32, 48), "small_until": 2}, {}))
    (image, target), (full, other) = data[1, 2], data[2, 2]
    assert image.shape == (3, 32, 48) and target["mask"].shape == (32, 48)
    assert torch.equal(full, usual[2, 2][0]) and torch.equal(other["mask"], usual[2, 2][1]["mask"])


def test_workers_do_not_matter(list_path):
    def batches(workers):
        return [(images, [t["mask"] for t in targets]) for images, targets in make_loader(make(list_path), 2, workers, seed=1)]
    for one, other in zip(batches(0), batches(2)):
        assert torch.equal(one[0], other[0]) and all(map(torch.equal, one[1], other[1]))


def test_what_is_enlarged_stays_sharp(list_path):
    """A picture that is to be drawn at up to twice its fitting size is not shrunk to that size before."""
    assert make(list_path, scale=(0.5, 2.0)).load(2)[0].image.shape == (125, 192, 3)
    assert make(list_path, scale=(0.5, 1.0)).load(2)[0].image.shape == (62, 96, 3)
    assert SegmentationData(list_path, CLASSES, (64, 96)).load(2)[0].image.shape == (62, 96, 3)
    (image, _, mask), size = make(list_path).load(2)
    assert size == (130, 200) and mask.shape == image.shape[:2] and ((image[..., 0].astype(int) - 40) // 80 == mask)[4:].mean() > 0.9


def test_evaluation_sample(list_path):
    data = SegmentationData(list_path, CLASSES, (64, 96))
    for index, size in enumerate(SIZES):
        _, target = data[0, index]
        assert target["size"] == size and np.array_equal(target["mask"].numpy(), letterbox_mask(data.load(index)[0].mask, (64, 96), size))
        assert data.truth(index).shape == size
    assert (data[0, 1][1]["mask"].numpy()[:, [0, 1, -1]] == IGNORED).all()          # beside a tall picture


def test_ignored_values(list_path):
    data = SegmentationData(list_path, CLASSES[1:], (64, 96), ignore_labels=[0])
    raw = np.array(Image.open(list_path.parent / "mask 2.png"))
    assert np.array_equal(data.truth(2), np.where(raw == 0, IGNORED, np.where(raw == IGNORED, IGNORED, raw - 1)))
    assert list(class_counts(data)) == ["a", "b"] and sum(class_counts(data).values()) < sum(class_counts(make(list_path)).values())


def test_description_names_every_value(list_path):
    text = describe(make(list_path, ignore_labels=[]))
    assert "5 images" in text and "0 -> background" in text and "255 -> ignored" in text
    total = sum(np.bincount(make(list_path).truth(i).ravel(), minlength=256)[:3] for i in range(5))
    assert f"b {total[2] / total.sum():.1%}" in text


def test_a_mask_of_another_size_stops(list_path, tmp_path):
    Image.new("L", (90, 41)).save(tmp_path / "mask.png")
    write_mask_list(tmp_path / "list.txt", [(list_path.parent / "pic 0.png", tmp_path / "mask.png")])
    with pytest.raises(UserError, match="90 x 41 pixels, but its image is 90 x 40"):
        make(tmp_path / "list.txt")[0, 0]


def test_a_value_that_means_nothing_stops(list_path):
    with pytest.raises(UserError, match=r"mask 0.png.*2 \(\d+ pixels\)"):
        class_counts(SegmentationData(list_path, CLASSES[:2], (64, 96)))


@pytest.mark.parametrize("angle", [-10, 4, 90])
def test_rotated_boxes_hold_their_objects(angle):
    image = np.zeros((120, 160, 3), np.uint8)
    image[40:70, 60:110] = 255
    box, mask = np.array([[60, 40, 110, 70, 3, 0]], np.float32), (image[..., 0] > 0).astype(np.uint8)
    turned, boxes, mask = augment.rotate(angle, Sample(image, box, mask))
    rows, columns = np.nonzero(turned[..., 0] > 200)
    assert np.abs(boxes[0, :4] - [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).max() < 2.5 and boxes[0, 4] == 3
    assert set(np.unique(mask)) <= {0, 1, IGNORED} and ((mask == 1) == (turned[..., 0] > 127)).mean() > 0.99


class Reader(nn.Module):
    """A 'network' that reads the class out of the red of a painting. Two classes: the score of class 1 is the red."""
    task, stride = "segmentation", 16

    def __init__(self, classes=3):
        super().__init__()
        self.classes, self.dummy = classes, nn.Parameter(torch.zeros(1))
        self.inputs = []

    def forward(self, images, targets=None):
        self.inputs.append(tuple(images.shape[2:]))
        red = images[:, :1]
        if self.classes == 2:
            return torch.cat([1 - red, red], 1), {}
        centres = torch.tensor([40, 120, 200]).view(1, 3, 1, 1) / 255
        losses = {} if targets is None else {"cross_entropy": red.mean() + 0 * self.dummy.sum()}
        return (-(red - centres) ** 2 * 400).softmax(1), losses

    def decode(self, outputs):
        return outputs


@pytest.mark.parametrize("settings", [{}, {"flip": True}, {"scales": (1.0, 1.5, 2.0)}, {"slide": True}, {"slide": True, "flip": True}])
@pytest.mark.parametrize("size", [(40, 90), (300, 170), (64, 96), (25, 400)])
def test_labels_come_back_to_the_pixels_they_belong_to(size, settings):
    image, mask = painting(np.random.RandomState(1), *size)
    mask = np.kron(mask[::12, ::12], np.ones((12, 12), np.uint8))[:size[0], :size[1]]
    (found,) = evaluate.segment(Reader(), [image], (64, 96), **settings)
    assert found["labels"].shape == size and found["labels"].dtype == np.uint8 and found["best"].shape == (3,)
    assert (found["labels"] == mask).mean() > 0.7           # all but the edges between the patches, wide where the picture is shrunk much
    inner = np.zeros(size, bool)
    inner[6::12, 6::12] = True
    if size != (25, 400):                                                           # shrunk to a quarter there
        assert (found["labels"] == mask)[inner].mean() > 0.97


def test_sliding_sees_the_picture_at_its_own_size():
    image, mask = painting(np.random.RandomState(2), 300, 170)
    model = Reader()
    (found,) = evaluate.segment(model, [image], (64, 96), slide=True)
    assert set(model.inputs) == {(64, 96)} and len(model.inputs) == 7 * 3
    assert np.array_equal(found["labels"], mask)


@pytest.mark.parametrize("length, window", [(1000, 512), (513, 512), (5000, 512), (300, 64)])
def test_windows_cover_and_overlap(length, window):
    starts = evaluate.window_starts(length, window)
    assert starts[0] == 0 and starts[-1] == length - window and all(0 < b - a <= window * 2 // 3 + 1 for a, b in zip(starts, starts[1:]))


def test_threshold():
    """Two classes only: class 1 where its score is above the threshold; 0.5 is the same as the higher score."""
    image = np.zeros((64, 96, 3), np.uint8)
    image[:, :, 0] = np.linspace(0, 255, 96).astype(np.uint8)
    share = [evaluate.segment(Reader(2), [image], (64, 96), threshold)[0]["labels"].mean() for threshold in (0.2, 0.5, 0.9)]
    assert share == pytest.approx([0.8, 0.5, 0.1], abs=0.02)
    (found,) = evaluate.segment(Reader(2), [image], (64, 96))
    assert np.array_equal(found["labels"], image[..., 0] > 127)


def test_evaluate(list_path):
    """A network that is right everywhere has mIoU 1 (but for patches' edges), and both ways through the list give one result."""
    model = Reader().train()
    loader = make_loader(SegmentationData(list_path, CLASSES, (64, 96)), 2)
    results, losses, found = evaluate.evaluate(model, loader, "cpu")
    assert results["miou"] > 0.75 and results["accuracy"] > 0.85 and model.training and 0 < losses["cross_entropy"] < 1
    assert [labels.shape for labels in found] == SIZES
    alone = [labels for _, labels, _ in evaluate.segment_list(model, loader, "cpu")]
    for path, labels, index in zip(loader.dataset.paths, alone, range(5)):
        picture = np.array(Image.open(path))
        assert np.array_equal(labels, evaluate.segment(model, [picture], (64, 96))[0]["labels"])
        assert np.array_equal(labels, found[index])
    sharp, losses, _ = evaluate.evaluate(model, loader, "cpu", slide=True)
    assert losses == {} and sharp["miou"] > results["miou"]


def test_random_places_reach_every_part():
    """A crop of an enlarged picture is taken anywhere in it."""
    rng, mask = random.Random(0), np.arange(200, dtype=np.uint8)[None].repeat(100, 0)
    seen = set()
    for _ in range(80):
        sample = Sample(np.zeros((100, 200, 3), np.uint8), mask=mask)
        seen |= set(np.unique(augment.scale_and_crop(rng, (50, 50), sample, (2.0, 2.0), 0.0, 0.0).mask).tolist())
    assert min(seen) < 4 and max(seen) > 195 and np.diff(sorted(seen)).max() <= 3
