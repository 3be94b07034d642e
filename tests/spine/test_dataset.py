"""The data path: keyed randomness, equal batches whatever the workers, the cache, what the files hold."""
import multiprocessing
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from varied import dataset_options

from utils.dataset import DetectionData, make_loader
from utils.errors import UserError
from utils.images import open_image, open_shrunken
from utils.lists import write_list

CLASSES = ["a", "b"]


@pytest.fixture(scope="module")
def list_path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("set 图") / "images"
    folder.mkdir()
    stream, records = np.random.RandomState(0), []
    for i in range(11):
        size = (40 + 7 * i, 90 - 3 * i)
        path = folder / f"pic {i}.{'png' if i % 2 else 'jpg'}"
        Image.fromarray(stream.randint(0, 255, (*size, 3)).astype(np.uint8)).save(path)
        boxes = [[2, 3, 30, 33, i % 2, 0], [5, 5, 20, 39, 1, i == 3]][:0 if i == 7 else 2]
        records.append((path, boxes))
    write_list(folder.parent / "train.txt", records)
    return folder.parent / "train.txt"


def make(list_path, **options):
    return DetectionData(list_path, CLASSES, (64, 96), **dataset_options(**{"mosaic": 0.5, "mixup": 0.3, **options}))


def equal(first, second):
    def same(x, y):
        return torch.equal(x["boxes"], y["boxes"]) and torch.equal(x["labels"], y["labels"]) and x["index"] == y["index"]
    return len(first) == len(second) and all(
        torch.equal(a[0], b[0]) and all(same(x, y) for x, y in zip(a[1], b[1])) for a, b in zip(first, second))


def batches(list_path, workers, epoch, **options):
    loader = make_loader(make(list_path, **options), 4, workers, seed=5)
    loader.batch_sampler.epoch = epoch
    return list(loader)


def test_sample(list_path):
    image, target = make(list_path)[(0, 0)]
    assert image.shape == (3, 64, 96) and image.dtype == torch.uint8
    assert target["boxes"].dtype == torch.float32 and target["labels"].dtype == torch.int64 and len(target["boxes"]) == len(target["labels"])


SSD = {"fit": "stretch", "zoom_out": 0.5, "iou_crop": 0.7, "distort": 0.5, "mosaic": 0.0}


def test_workers_do_not_matter_to_zoom_and_crop(list_path):
    assert equal(batches(list_path, 0, 3, **SSD), batches(list_path, 2, 3, **SSD))
    assert equal(batches(list_path, 0, 3, **SSD), batches(list_path, 0, 3, cache=False, **SSD))
    assert not equal(batches(list_path, 0, 3, **SSD), batches(list_path, 0, 4, **SSD))


def test_zoom_and_crop_take_the_place_of_scale_and_shift(list_path):
    """Whatever they are set to; and where neither is drawn, they are what happens."""
    still = {"mosaic": 0.0, "mixup": 0.0, "flip": 0.0, "colours": (0, 0, 0)}
    plain = {"scale": (1.0, 1.0), "aspect": 0.0, "translate": 0.0} | still
    wild = {"scale": (0.2, 0.3), "aspect": 0.0, "translate": 0.1} | still
    for chances in ({"zoom_out": 1.0}, {"iou_crop": 1.0}):
        assert all(torch.equal(make(list_path, **plain, **chances)[1, i][0], make(list_path, **wild, **chances)[1, i][0]) for i in range(11))
    counts = {}
    for name in ("zoom_out", "iou_crop"):
        data = make(list_path, fit="stretch", **plain, **{name: 0.5})
        whole = make(list_path, fit="stretch", **plain, **{name: 1e-9})
        counts[name] = sum(not torch.equal(data[epoch, i][0], whole[epoch, i][0]) for epoch in range(9) for i in range(11) if i != 7)
    assert 30 < counts["zoom_out"] < 60 and 15 < counts["iou_crop"] < 50


def test_stretched_samples(list_path):
    """Without any randomness a training picture is what evaluation sees, with the boxes on it."""
    still = {"scale": (1.0, 1.0), "aspect": 0.0, "translate": 0.0, "flip": 0.0, "colours": (0, 0, 0), "mosaic": 0.0,
             "mixup": 0.0, "fit": "stretch"}
    train, evaluation = make(list_path, **still), make(list_path, train=False, fit="stretch")
    for index in range(1, 11, 2):                                                    # PNG: no reduced decoding
        (image, target), (other, expected) = train[0, index], evaluation[0, index]
        assert (image.int() - other.int()).abs().float().mean() < 1 and target["labels"].tolist() == expected["labels"].tolist()
        assert (target["boxes"] - expected["boxes"]).abs().max() < 0.01 if len(expected["boxes"]) else not len(target["boxes"])


def test_pictures_to_be_cropped_are_kept_larger(tmp_path):
    Image.fromarray(np.zeros((400, 900, 3), np.uint8)).save(tmp_path / "big.jpg")
    write_list(tmp_path / "list.txt", [(tmp_path / "big.jpg", [[0, 0, 90, 90, 0, 0]])])
    sizes = {name: make(tmp_path / "list.txt", **options).load(0)[0].image.shape[:2] for name, options in {
        "usual": {}, "crop": {"iou_crop": 0.1}, "zoom": {"zoom_out": 1.0}, "stretch": {"fit": "stretch"},
        "stretch crop": {"fit": "stretch", "iou_crop": 0.1}, "evaluation": {"train": False, "iou_crop": 0.1}}.items()}
    assert sizes == {"usual": (43, 96), "crop": (85, 192), "zoom": (43, 96), "stretch": (64, 96), "stretch crop": (128, 192),
                     "evaluation": (43, 96)}


def test_distort_follows_its_chance(list_path):
    still = {"colours": (0, 0, 0), "mosaic": 0.0, "mixup": 0.0}
    whole, often, never = (make(list_path, **still, **more) for more in ({}, {"distort": 1.0}, {"distort": 1e-9}))
    changed = [sum(not torch.equal(data[0, i][0], whole[0, i][0]) for i in range(11)) for data in (often, never)]
    assert changed[0] >= 9 and changed[1] == 0
    for i in range(11):                                                              # the last thing that is drawn: nothing else moves
        assert torch.equal(often[0, i][1]["boxes"], whole[0, i][1]["boxes"])


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_workers_do_not_matter(list_path, workers):
    assert equal(batches(list_path, 0, 3), batches(list_path, workers, 3))


@pytest.mark.skipif(sys.platform != "linux", reason="fork and spawn both exist on Linux only")
def test_spawned_workers_do_not_matter(list_path):
    loader = make_loader(make(list_path), 4, 2, seed=5)
    loader.multiprocessing_context = multiprocessing.get_context("spawn")
    loader.batch_sampler.epoch = 3
    assert equal(batches(list_path, 0, 3), list(loader))


def test_epochs_differ_and_repeat(list_path):
    first, second = batches(list_path, 0, 0), batches(list_path, 0, 1)
    assert not equal(first, second)
    assert not torch.equal(first[0][0], second[0][0])
    assert equal(first, batches(list_path, 0, 0))
    assert not equal(first, batches(list_path, 0, 0, seed=1))


def test_augmentation_depends_on_epoch_and_index(tmp_path, list_path):
    """The same picture is drawn anew in every epoch, and two lines of a list that name one picture are drawn differently."""
    data = make(list_path)
    assert len({data[(epoch, 4)][0].numpy().tobytes() for epoch in range(6)}) == 6
    line = list_path.read_text(encoding="utf-8").splitlines()[0]
    (tmp_path / "twice.txt").write_text(f"{line}\n{line}\n", encoding="utf-8")
    twice = make(tmp_path / "twice.txt")
    assert not torch.equal(twice[(0, 0)][0], twice[(0, 1)][0])


def test_every_image_once_an_epoch(list_path):
    orders = [[t["index"] for _, targets in batches(list_path, 0, epoch) for t in targets] for epoch in range(4)]
    assert all(sorted(order) == list(range(11)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4


def test_a_loader_goes_from_epoch_to_epoch(list_path):
    """Workers that live on see the next epoch, as in train.py."""
    loader = make_loader(make(list_path), 4, 2, seed=5)
    for epoch in range(3):
        loader.batch_sampler.epoch = epoch
        assert equal(batches(list_path, 0, epoch), list(loader))


def test_samples_do_not_depend_on_what_came_before(list_path):
    data = make(list_path)
    alone = data[(4, 6)]
    for index in range(11):
        data[(4, index)]
    again = data[(4, 6)]
    assert torch.equal(alone[0], again[0]) and torch.equal(alone[1]["boxes"], again[1]["boxes"])


def test_cache_changes_nothing(list_path):
    assert equal(batches(list_path, 0, 1, cache=True), batches(list_path, 0, 1, cache=False))
    partly = make(list_path)
    partly.cache.slots = 4                                                                 # the memory is full after four images
    assert all(torch.equal(partly[(1, i)][0], make(list_path)[(1, i)][0]) for i in range(11))
    data = make(list_path, cache=True)
    assert all(torch.equal(data[(0, 5)][0], data[(0, 5)][0]) for _ in range(2))      # augmenting does not paint into the cache


def test_last_epochs_are_plain(list_path):
    """With everything else switched off, a plain epoch is the picture itself; before that it is a mosaic."""
    mixed = {"mosaic": 0.0, "mixup": 1.0, "plain_from": 2, "colours": (0, 0, 0)}
    plain = [make(list_path, **mixed)[(epoch, 0)][0] for epoch in (2, 3)]
    assert all(torch.equal(image, make(list_path, **mixed | {"mixup": 0.0})[(epoch, 0)][0]) for image, epoch in zip(plain, (2, 3)))
    still = {"scale": (1.0, 1.0), "aspect": 0.0, "translate": 0.0, "flip": 0.0, "colours": (0, 0, 0),
             "mosaic": 1.0, "mixup": 0.0}
    data = make(list_path, plain_from=2, **still)
    counts = [len(data[(epoch, 7)][1]["labels"]) for epoch in range(4)]                # image 7 has no object of its own
    assert max(counts[:2]) > 0 and counts[2:] == [0, 0]


def test_first_epochs_are_small(list_path):
    """Up to small_until the input is small_shape, boxes inside it; then everything is as without. Mosaic, mixup and plain samples alike."""
    data, usual = make(list_path, small_shape=(32, 64), small_until=2), make(list_path)
    for epoch in range(4):
        for index in range(len(data)):
            (image, target), (full, other) = data[epoch, index], usual[epoch, index]
            if epoch < 2:
                assert image.shape == (3, 32, 64)
                boxes = target["boxes"].reshape(-1, 2, 2)
                assert (boxes >= 0).all() and (boxes <= torch.tensor([64, 32])).all()
            else:
                assert torch.equal(image, full) and torch.equal(target["boxes"], other["boxes"])
    assert {image.shape[2:] for image, _ in batches(list_path, 2, 1, small_shape=(32, 64), small_until=2)} == {(32, 64)}
    assert DetectionData(list_path, CLASSES, (64, 96), small_shape=(32, 64), small_until=0)[0, 0][0].shape == (3, 64, 96)


def test_difficult_is_not_taught_but_known(list_path):
    data = DetectionData(list_path, CLASSES, (64, 96))
    _, target = data[(0, 3)]
    assert target["labels"].tolist() == [1] and len(data.boxes[3]) == 2


def test_evaluation_sees_the_exact_letterbox(tmp_path):
    """Not the decoder's quicker, reduced picture that training may use."""
    from utils.images import fit_image
    Image.fromarray(np.random.RandomState(0).randint(0, 255, (300, 400, 3)).astype(np.uint8)).save(tmp_path / "big.jpg")
    write_list(tmp_path / "list.txt", [(tmp_path / "big.jpg", [[0, 0, 9, 9, 0, 0]])])
    image, _ = DetectionData(tmp_path / "list.txt", CLASSES, (64, 96))[(0, 0)]
    assert (image.permute(1, 2, 0).numpy() == fit_image(open_image(tmp_path / "big.jpg"), (64, 96))[0]).all()
    reduced, _ = make(tmp_path / "list.txt").load(0)
    assert not np.array_equal(reduced.image, open_shrunken(tmp_path / "big.jpg", (64, 96))[0])


def test_the_cache_cannot_be_painted_over(list_path):
    sample, _ = make(list_path).load(0)
    with pytest.raises(ValueError, match="read-only"):
        sample.image[0, 0] = 0


def test_evaluation_sample_leads_back(list_path):
    from utils.images import from_input
    data = DetectionData(list_path, CLASSES, (64, 96))
    for index in (0, 5, 10):
        _, target = data[(0, index)]
        back = from_input(target["boxes"].numpy(), target["transform"], target["size"])
        assert np.abs(back - data.boxes[index][data.boxes[index][:, 5] == 0, :4]).max() < 1e-3


def test_batches_small_sets_and_a_lonely_last_image(list_path):
    sizes = [len(t) for _, t in make_loader(make(list_path), 4)]
    assert sizes == [4, 4, 3]
    assert [len(t) for _, t in make_loader(make(list_path), 5)] == [5, 5]            # 11 = 2 * 5 + 1
    assert [len(t) for _, t in make_loader(make(list_path), 50)] == [11]
    assert [len(t) for _, t in make_loader(make(list_path, train=False), 5)] == [5, 5, 1]
    assert make_loader(make(list_path), 8, 16).num_workers == 2                         # no more workers than batches


def test_batch_is_channels_last(list_path):
    images, _ = next(iter(make_loader(make(list_path), 4)))
    assert images.shape == (4, 3, 64, 96) and images.is_contiguous(memory_format=torch.channels_last)


def test_lists_that_cannot_be_used(list_path, tmp_path):
    with pytest.raises(UserError, match="only 1 class names"):
        DetectionData(list_path, ["a"], (64, 64))
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(UserError, match="empty.txt holds no images"):
        DetectionData(tmp_path / "empty.txt", CLASSES, (64, 64))
    (tmp_path / "gone.txt").write_text("/nowhere/a b.jpg 1,2,3,4,0\n")
    with pytest.raises(UserError, match="/nowhere/a b.jpg"):
        DetectionData(tmp_path / "gone.txt", CLASSES, (64, 64))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("exact", [True, False])
def test_exif(tmp_path, orientation, exact):
    """An image stored turned or mirrored comes out upright, also when the decoder shrinks it."""
    upright = np.zeros((240, 160, 3), np.uint8)
    upright[:80, :60] = 255                                                          # bright top left corner
    store = {1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1], 5: lambda a: a.transpose(1, 0, 2),
             6: np.rot90, 7: lambda a: a[::-1, ::-1].transpose(1, 0, 2), 8: lambda a: np.rot90(a, 3)}
    stored = store[orientation](upright)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "turned.jpg"
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif, quality=95)
    image, size = open_shrunken(path, (48, 48), exact)
    assert size == (240, 160) and image.shape == (48, 32, 3)
    assert np.abs(open_image(path).astype(int) - upright).max() < 60
    assert image[:12, :8].min() > 200 and image[20:].max() < 60


MODES = {"L": 128, "LA": (128, 255), "RGBA": (100, 150, 200, 255), "P": 3, "1": 1, "CMYK": (10, 20, 30, 40), "I;16": 32768, "F": 0.5,
         "YCbCr": (128, 128, 128)}


@pytest.mark.parametrize("mode", MODES)
def test_modes(tmp_path, mode):
    path = tmp_path / {"CMYK": "picture.tif", "F": "picture.tif", "YCbCr": "picture.jpg"}.get(mode, "picture.png")
    Image.new(mode, (20, 10), MODES[mode]).save(path)
    image = open_image(path)
    assert image.shape == (10, 20, 3) and image.dtype == np.uint8
    if mode in ("I;16", "F", "L"):
        assert abs(int(image.mean()) - 128) <= 1
    if mode == "RGBA":
        assert image[0, 0].tolist() == [100, 150, 200]


@pytest.mark.parametrize("orientation", [0, 9, 255])
def test_senseless_orientation_turns_nothing(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (80, 40)).save(tmp_path / "x.jpg", exif=exif)
    assert open_shrunken(tmp_path / "x.jpg", (16, 16), exact=False)[1] == open_shrunken(tmp_path / "x.jpg", (16, 16))[1] == (40, 80)


def test_broken_images_are_named(tmp_path):
    good = tmp_path / "good.jpg"
    Image.fromarray(np.random.RandomState(0).randint(0, 255, (64, 64, 3)).astype(np.uint8)).save(good)
    for name, content in (("cut.jpg", good.read_bytes()[:900]), ("empty.jpg", b""), ("page.jpg", b"<html>no</html>")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=name):
            open_image(tmp_path / name)
    with pytest.raises(UserError, match="no image"):
        open_image(tmp_path / "missing.jpg")
