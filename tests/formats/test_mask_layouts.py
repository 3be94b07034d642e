"""Masks beside their images, and palettes of black and white: what belongs to what."""
import numpy as np
import pytest
from PIL import Image

from tests.helpers.sources import error_of, image, read, text
from utils.formats.recognise import recognise
from utils.images import open_mask

NAMES = [f"{number:03d}" for number in range(6)]


def mask(path, values=(0, 1, 2), mode="L"):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.resize(np.repeat(np.array(values, np.uint8), 10), (30, 40)))
    (picture.convert(mode) if mode != "L" else picture).save(path)
    return path


def grey_photo(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(len(path.name)).integers(0, 256, (30, 40), np.uint8)).save(path)


@pytest.mark.parametrize("of_image, of_mask", [("001.jpg", "001.png"), ("001.bmp", "001.png"), ("001.png", "001.bmp"), ("001.tif", "001.png"),
                                               ("001.jpg", "001_mask.png"), ("001.jpg", "001_mask.gif"), ("001.png", "001_label.png"),
                                               ("001.jpg", "001_gt.bmp"), ("001.png", "001-mask.png")])
@pytest.mark.parametrize("picture", [image, grey_photo])
def test_masks_beside_their_images(root, of_image, of_mask, picture):
    for name in NAMES:
        picture(root / "Set" / of_image.replace("001", name))
        mask(root / "Set" / of_mask.replace("001", name))
    assert recognise(root / "Set")[0] == "masks"
    _, lists = read(root / "Set", "segmentation")
    pairs = [(path.name, label.name) for some in lists.values() for path, (label, _) in some]
    assert sorted(pairs) == [(of_image.replace("001", name), of_mask.replace("001", name)) for name in NAMES]


def test_two_pictures_of_one_name_are_no_mask(root):
    """Photos in two formats, and pictures with labels of their own."""
    for name in NAMES:
        image(root / "Photos" / f"{name}.png")
        image(root / "Photos" / f"{name}.bmp")
        image(root / "Yolo" / f"{name}.jpg")
        mask(root / "Yolo" / f"{name}.png")
        text(root / "Yolo" / f"{name}.txt", "0 0.5 0.5 0.2 0.2\n")
    text(root / "Yolo/classes.txt", "cat\n")
    assert recognise(root / "Photos")[0] == "voc" and recognise(root / "Yolo")[0] == "yolo"


@pytest.mark.parametrize("first", ["white", "black"])
def test_white_is_1_whatever_the_order_of_the_palette(tmp_path, first):
    picture = Image.fromarray(np.array([[0, 1], [1, 1]], np.uint8) ^ (first == "white"))
    palette = [255, 255, 255, 0, 0, 0] if first == "white" else [0, 0, 0, 255, 255, 255]
    picture = picture.convert("P")
    picture.putpalette(palette)
    picture.save(tmp_path / "a.png")
    assert open_mask(tmp_path / "a.png").tolist() == [[0, 1], [1, 1]]


@pytest.mark.parametrize("mode", ["LA", "RGBA", "CMYK"])
def test_modes_of_masks(tmp_path, mode):
    """Equal channels are a mask whatever the mode; CMYK has colours."""
    path = mask(tmp_path / ("a.tif" if mode == "CMYK" else "a.png"), (0, 1, 2), mode)
    if mode == "CMYK":
        assert np.array_equal(np.unique(open_mask(path)), [0, 1, 2])
    else:
        assert np.array_equal(open_mask(path), np.resize(np.repeat(np.array((0, 1, 2)), 10), (30, 40)))


def test_what_a_mask_cannot_be_is_named(tmp_path):
    alpha = Image.new("LA", (8, 8))
    alpha.putalpha(Image.fromarray(np.tile(np.array([0, 0, 9, 9, 30, 30, 255, 255], np.uint8), (8, 1))))
    alpha.save(tmp_path / "a.png")
    assert "its alpha channel holds 4 values" in error_of(open_mask, tmp_path / "a.png")
    first, second = Image.new("L", (8, 8)), Image.new("L", (8, 8), 1)
    first.save(tmp_path / "b.tif", save_all=True, append_images=[second])
    assert "has 2 pages: a mask has one" in error_of(open_mask, tmp_path / "b.tif")
